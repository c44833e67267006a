"""Pictures to label so that an undecided verdict is decided: drawn with known probabilities, labelled by a person, joined without bias."""
