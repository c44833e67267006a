"""Where a network is cut, so that its frozen half is computed once."""
