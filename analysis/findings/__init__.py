"""What was found: strategies compared, winners, doubts, the network to use."""
