"""What the mixtures share apart from their maths: checks, starting values, the loop, the estimators."""
