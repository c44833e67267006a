"""Which hyperparameter mattered, per strategy: Optuna's fANOVA on the trials of each cell."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.load import Frames
from analysis.theme import OKABE_ITO, empty, label, styled
from analysis.verdict import Findings
from study.records import OBJECTIVE
from study.space import Choice, Integer, Log, domains
from study.strategies import STRATEGIES

TITLE = "Search: importance of hyperparameters"
NOTE = "fANOVA (Optuna) within each cell, over its completed trials (at most 300, evenly spaced); stopped trials are left out. With few trials this is a hint, no finding."
FEWEST = 4
MOST = 300  # fANOVA costs more than linearly; this many, drawn evenly, say as much


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    t = frames.trials
    if not len(t) or OBJECTIVE not in t:
        return pd.DataFrame()
    rows = []
    own = t[(t.stage == "search") & (t.outcome == "completed") & t[OBJECTIVE].notna()]
    for cell, block in own.groupby("cell", sort=False):
        if len(block) > MOST:
            block = block.iloc[np.linspace(0, len(block) - 1, MOST).round().astype(int)]
        if len(block) >= FEWEST and block[OBJECTIVE].nunique() > 1:
            for name, value in _importances(block).items():
                rows.append(
                    {"cell": cell, "strategy": block.iloc[0].strategy, "hyperparameter": name, "importance": value, "trials": len(block)}
                )
    return pd.DataFrame(rows)


def _importances(block: pd.DataFrame) -> dict[str, float]:
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from study.config import Recipe

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {**domains(STRATEGIES[block.iloc[0].strategy]), **domains(Recipe)}
    made: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, d in ranges.items():
        if isinstance(d, Choice):
            made[name] = CategoricalDistribution(d.options)
        elif isinstance(d, Integer):
            made[name] = IntDistribution(d.low, d.high)
        else:
            made[name] = FloatDistribution(d.low, d.high, log=isinstance(d, Log))
    study = optuna.create_study(direction="maximize")
    for row in block.to_dict("records"):
        params = {n: int(row[f"hp/{n}"]) if isinstance(made[n], IntDistribution) else row[f"hp/{n}"] for n in made}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=made, value=row[OBJECTIVE]))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(f"Needs at least {FEWEST} completed trials in a cell.")
    figure = go.Figure()
    for k, name in enumerate(dict.fromkeys(frame.hyperparameter)):
        own = frame[frame.hyperparameter == name]
        figure.add_bar(
            y=[f"{label(c)} ({n} trials)" for c, n in zip(own.cell, own.trials, strict=True)],
            x=own.importance,
            orientation="h",
            name=label(name),
            marker_color=OKABE_ITO[k % len(OKABE_ITO)],
            hovertemplate=f"{label(name)}: %{{x:.2f}}<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="share of the variance explained", range=[0, 1])
    return styled(figure, height=140 + 34 * frame.cell.nunique())
