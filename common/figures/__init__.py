"""The figures: those in a run's folder, and those of the chapters."""
