"""Importance of each hyperparameter by strategy: Optuna's fANOVA on the trials of each cell, beside its values on noise."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.data.frames import Frames
from analysis.page.theme import GREY, colour, empty, label, styled
from analysis.verdict import Findings
from study.scoring.metric import without_score
from study.space import Domain, Integer

TITLE = "Which hyperparameters mattered in the search?"
NOTE = (
    "fANOVA (Optuna) for each strategy, from 16 trials on and with at most 64, evenly spaced. A stopped trial counts with "
    "the score of the epoch it kept, a diverged one as {nothing}. The shares sum to one even on noise. The line across a bar is "
    "what noise reaches: the 90th percentile of 20 forests on permuted scores. Grey bars end before it."
)
FEWEST = 16  # below it, pure noise gives the first bar .4 of the whole on average
MOST = 64  # fANOVA costs more than linearly; this many, drawn evenly, say as much
TREES = 16
PERMUTATIONS = 20
CHANCE = 0.9  # of the permutations lie below the line
ENDED = ("completed", "stopped", "diverged")  # what a machine lost says nothing


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per cell and hyperparameter. `by_chance` is the importance it gets from permuted scores."""
    t, metric = frames.trials, frames.scored_by
    if not len(t) or metric.recorded not in t:
        return pd.DataFrame()
    rows = []
    for cell, block in t[(t.stage == "search") & t.outcome.isin(ENDED)].groupby("cell", sort=False):
        block = block.assign(score=without_score(block[metric.recorded].to_numpy(float), metric))
        if len(block) > MOST:
            block = block.iloc[np.linspace(0, len(block) - 1, MOST).round().astype(int)]
        if len(block) >= FEWEST and block.score.nunique() > 1:
            ranges = frames.study.ranges(frames.cells[str(cell)])
            found, chance = _importances(block, block.score.to_numpy(), ranges), _by_chance(block, ranges)
            for name, value in found.items():
                rows.append(
                    {
                        "cell": cell,
                        "strategy": block.iloc[0].strategy,
                        "hyperparameter": name,
                        "importance": value,
                        "by_chance": chance[name],
                        "trials": len(block),
                        "unfinished": int((block.outcome != "completed").sum()),
                    }
                )
    return pd.DataFrame(rows)


def _by_chance(block: pd.DataFrame, ranges: dict[str, Domain]) -> dict[str, float]:
    """Return by hyperparameter the share that it reaches where scores have nothing to do with it."""
    rng = np.random.Generator(np.random.Philox(key=[24, 25]))
    scores = block.score.to_numpy()
    drawn = pd.DataFrame([_importances(block, rng.permutation(scores), ranges) for _ in range(PERMUTATIONS)])
    return {str(n): float(v) for n, v in drawn.quantile(CHANCE).items()}


def _importances(block: pd.DataFrame, scores: np.ndarray, ranges: dict[str, Domain]) -> dict[str, float]:
    """Return the share of each hyperparameter in the variance of `scores` [trials of the block]."""
    import optuna

    from study.search.sample import distributions, within

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = distributions(ranges)
    study = optuna.create_study(direction="maximize")
    for row, score in zip(block.to_dict("records"), scores, strict=True):
        tried = {
            n: within(ranges[n], row[f"hp/{n}"]) for n in ranges
        }  # under a range that has moved since, its end: the forest knows no more
        params = {n: int(v) if isinstance(ranges[n], Integer) else v for n, v in tried.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=made, value=float(score)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(f"Needs at least {FEWEST} search trials in a cell.")
    cells = list(dict.fromkeys(frame.cell))
    titles = [f"{label(c)} ({frame[frame.cell == c].trials.iloc[0]} trials)" for c in cells]
    counts = [int((frame.cell == c).sum()) for c in cells]
    height = sum(24 * n + 60 for n in counts)
    figure = make_subplots(
        rows=len(cells),
        cols=1,
        shared_xaxes=True,
        subplot_titles=titles,
        row_heights=[n + 0.5 for n in counts],
        vertical_spacing=60 / max(height, 60 * len(cells)),
    )
    for row, cell in enumerate(cells, 1):
        own = frame[frame.cell == cell].sort_values("importance")
        names = [label(n) for n in own.hyperparameter]
        beyond = own.importance > own.by_chance
        figure.add_bar(
            x=own.importance,
            y=names,
            orientation="h",
            showlegend=False,
            marker={"color": [colour(s) if b else GREY for s, b in zip(own.strategy, beyond, strict=True)]},
            customdata=own[["by_chance", "unfinished"]],
            hovertemplate="%{y}: %{x:.2f}. Noise reaches %{customdata[0]:.2f}; %{customdata[1]} of the trials did not end<extra></extra>",
            row=row,
            col=1,
        )
        figure.add_scatter(
            x=own.by_chance,
            y=names,
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 16, "line": {"width": 2.5}, "color": "#7a7f8a"},
            showlegend=False,
            hoverinfo="skip",
            row=row,
            col=1,
        )
    figure.update_xaxes(range=[0, 1])
    figure.update_xaxes(title_text="share of the variance explained", row=len(cells))
    return styled(figure, height=140 + height)
