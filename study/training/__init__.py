"""The training of one trial: the loop and its parts."""
