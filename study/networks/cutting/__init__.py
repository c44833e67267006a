"""Cutting of a network in two, so that its frozen half is computed once."""
