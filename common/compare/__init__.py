"""Comparisons of models and of runs, and the reports of them."""
