"""One rule an operation of a folded network."""
