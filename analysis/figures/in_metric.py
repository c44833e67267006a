"""Figures speak of the study's metric: its words travel with the table behind each, and scores are drawn as people read them."""

import pandas as pd

from study.scoring.metric import DEFAULT, Metric, find_metric


def marked(table: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The table, which knows the metric that its scores are of."""
    table.attrs["metric"] = metric.text
    return table


def metric_in(table: pd.DataFrame) -> Metric:
    """Return the metric that `marked` put into the table."""
    return find_metric(table.attrs.get("metric", DEFAULT.text))
