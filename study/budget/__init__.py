"""A study for so many hours: what the machine does in a second, what everything costs, what is bought."""
