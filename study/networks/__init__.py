"""Networks: whose weights they start from, what they are made of, where they can be cut, how one is kept."""
