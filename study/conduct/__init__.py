"""The way of a study, from its checks to the network that is handed over."""
