"""Training: typed recipes, the training loop, losses, and the resumable study queue."""
