"""The choice of a study for a number of hours: the machine's speed, the price of everything, and what is bought."""
