"""The book that the sources are: pages and notebooks made from the two implementations' own files."""
