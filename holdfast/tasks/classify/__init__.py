"""CLASSIFY: the class, or the labels, of texts and of sequences of numbers."""
