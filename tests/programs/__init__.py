"""Integer programs made by hand, and a second definition of what they mean."""
