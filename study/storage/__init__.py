"""Places of a study, and the ways of writing that lose nothing."""
