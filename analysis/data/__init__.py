"""Everything known of a study, as data frames: trials, epochs, predictions."""
