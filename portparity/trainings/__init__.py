"""Trainings of both models: run, kept from leaving anything behind, and compared update by update."""
