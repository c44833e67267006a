"""The steps of a study, from its checks to the network that is delivered."""
