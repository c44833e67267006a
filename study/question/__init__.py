"""The question: a study, its data sets and ranges, as frozen values."""
