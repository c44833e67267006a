"""Findings of a study: compared strategies, winners, doubts and the network to use."""
