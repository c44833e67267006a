"""What to run next, and running it: here or on a Ray cluster."""
