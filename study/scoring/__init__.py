"""The metric a study asks for: its value, how scores come from labels and probabilities, and its costs."""

from study.scoring.metric import DEFAULT, Metric, Said, find_metric, metric_of

__all__ = ["DEFAULT", "Metric", "Said", "find_metric", "metric_of"]
