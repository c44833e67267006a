"""The metric a study asks for: its value, how scores come from labels and probabilities, and its costs."""

from study.scoring.metric import DEFAULT, Metric, find_metric

__all__ = ["DEFAULT", "Metric", "find_metric"]
