"""How fast, against whom, and how far from the fastest possible: ``python -m parity_tests.bench``."""
