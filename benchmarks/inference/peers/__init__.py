"""Runtimes that the benchmark compares, one file each; a process holds one of them."""
