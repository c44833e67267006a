"""From results to a verdict. Reads the ledger, or MLflow; never imports torch, ray or timm."""

from study import early as early  # it begins as it is imported
