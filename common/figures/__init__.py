"""The figures: what a run leaves in its folder, and what the chapters show."""
