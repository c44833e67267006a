"""The cut of a network, below which its frozen half is computed once."""
