"""Networks: the weights they start from, their parts, the places where they are cut, and how one is kept."""
