"""Two sides' predictions, made anywhere, against labels: the verdict of a study on tables alone."""
