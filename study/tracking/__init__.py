"""What a study remembers: the ledger (files, the truth) and its mirror in MLflow."""
