"""Text and code as HTML: prose with equations, terms, the glossary, two columns of code, the index of words."""
