"""The verdict of a study on plain tables: the predictions of two sides, made anywhere, against labels."""
