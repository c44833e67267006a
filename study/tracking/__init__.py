"""The memory of a study: the ledger (files, the truth) and its mirror in MLflow."""
