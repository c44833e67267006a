"""From results to a verdict. Reads the ledger, or MLflow; never imports torch, ray or timm."""
