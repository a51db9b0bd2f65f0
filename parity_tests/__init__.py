"""The suite that holds the two implementations together, and both to the truth."""
