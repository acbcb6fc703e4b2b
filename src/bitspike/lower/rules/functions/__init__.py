"""Functions and modules of torch, one kind a file."""
