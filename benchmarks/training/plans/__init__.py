"""What is compared with what: one module a group of results."""
