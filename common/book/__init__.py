"""The book: the two implementations side by side, made from the sources."""
