"""The way from results to a verdict. It reads the ledger, or MLflow, and never imports torch, ray or timm."""

from study import early as early  # it begins as it is imported
