"""Which hyperparameter mattered, per strategy: Optuna's fANOVA on the trials of each cell."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.frames import Frames
from analysis.theme import OKABE_ITO, empty, label, styled
from analysis.verdict import Findings
from study.records import OBJECTIVE
from study.space import Domain, Integer

TITLE = "Search: importance of hyperparameters"
NOTE = "fANOVA (Optuna) within each cell, over its completed trials (at most 300, evenly spaced); stopped trials are left out. Shares of the forest's own variance: they sum to one on noise as well."
FEWEST = 16  # below it, pure noise gives the first bar .4 of the whole on average
HATCHES = ("", "/", "x", ".")  # where colours come again
MOST = 300  # fANOVA costs more than linearly; this many, drawn evenly, say as much


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    own = frames.scored()
    if not len(own):
        return own
    rows = []
    for cell, block in own[own.outcome == "completed"].groupby("cell", sort=False):
        if len(block) > MOST:
            block = block.iloc[np.linspace(0, len(block) - 1, MOST).round().astype(int)]
        if len(block) >= FEWEST and block[OBJECTIVE].nunique() > 1:
            for name, value in _importances(block, frames.study.ranges(frames.cells[str(cell)])).items():
                rows.append(
                    {"cell": cell, "strategy": block.iloc[0].strategy, "hyperparameter": name, "importance": value, "trials": len(block)}
                )
    return pd.DataFrame(rows)


def _importances(block: pd.DataFrame, ranges: dict[str, Domain]) -> dict[str, float]:
    import optuna

    from study.search.sample import distributions

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = distributions(ranges)
    study = optuna.create_study(direction="maximize")
    for row in block.to_dict("records"):
        params = {n: int(row[f"hp/{n}"]) if isinstance(ranges[n], Integer) else row[f"hp/{n}"] for n in ranges}
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
            marker={"color": OKABE_ITO[k % len(OKABE_ITO)], "pattern": {"shape": HATCHES[k // len(OKABE_ITO) % len(HATCHES)]}},
            hovertemplate=f"{label(name)}: %{{x:.2f}}<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="share of the variance explained", range=[0, 1])
    return styled(figure, height=140 + 34 * frame.cell.nunique())
