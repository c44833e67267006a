"""Every figure: computed and drawn with data and without, and the limits of what search figures and importance may say."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.figures import FIGURES, cost, importance, parallel, slices, strategies, tuning_curves
from analysis.load import load
from analysis.page import theme
from analysis.verdict import findings
from study.tracking.ledger import Ledger
from tests.planted import plant, synthetic


def test_tuning_curves_are_the_mean_best_of_all_subsets() -> None:
    scores = np.array([0.3, 0.9, 0.5, 0.4])
    for n, value in enumerate(tuning_curves.expected_best(scores), 1):
        assert value == pytest.approx(np.mean([max(s) for s in itertools.combinations(scores, n)]), abs=1e-12)


NEEDS_MORE = {
    "importance",
    "why_distance",
    "why_background",
    "why_memorisation",
    "sizes",
    "size_differences",
    "steps",
    "step_differences",
    "pixels",
    "pixel_differences",
    "thresholds",
}  # than the golden study has: trials, distances (it is older), a mask, sizes, budgets, two classes alone


@pytest.mark.parametrize("spec", FIGURES, ids=lambda s: s.name)
def test_every_figure_computes_and_draws_with_data_and_without(spec, copy: Ledger) -> None:
    import plotly.graph_objects as go

    plant(copy)
    frames = load(copy)
    found = findings(frames, resamples=50)
    frame = spec.compute(frames, found)
    assert (len(frame) > 0) == (spec.name not in NEEDS_MORE) and isinstance(spec.draw(frame), go.Figure)
    assert isinstance(spec.draw(spec.compute(*nothing(copy))), go.Figure)
    blank = spec.draw(pd.DataFrame())
    assert blank.layout.annotations[0].text, "an empty figure says why"


def test_lines_join_the_runs_of_one_seed(copy: Ledger) -> None:
    frames = load(copy)
    frame = strategies.compute(frames, findings(frames, 50))
    lost = frame.seed == frame.seed.dropna().iloc[0]
    frame = frame[~(lost & (frame.strategy == "linear_probe"))]  # a seed that one strategy alone has joins nothing
    figure = strategies.draw(frame)
    lines = [t for t in figure.data if t.mode == "lines"]
    assert len(lines) == 1
    kept = (
        frame[(frame.kind == "seed") & (frame.metric == "macro_f1")].pivot(index="seed", columns="strategy", values="value").dropna() * 100
    )
    joined = {(a, b) for a, b in zip(lines[0].x[::3], lines[0].x[1::3], strict=True)}
    assert joined == set(zip(kept["linear_probe"], kept["partial"], strict=True)) and len(joined) == 2
    assert lines[0].y[:3] == (0, 1, None)
    assert [t.partition("<br>")[0] for t in figure.layout.yaxis.ticktext] == ["linear_probe", "partial"]


def nothing(ledger: Ledger):
    ledger.folder.remove("trials")
    ledger.folder.remove("selection.json")
    frames = load(ledger)
    return frames, findings(frames)


def test_no_two_strategies_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"partial": ("#0072B2", "circle"), "full": ("#D55E00", "diamond"), "linear_probe": ("#009E73", "square"),
        "layer_decay": ("#CC79A7", "triangle-up"), "lp_ft": ("#E69F00", "x")}  # fmt: skip
    assert {s: (theme.colour(s), theme.symbol(s)) for s in known} == known
    names = [*known, *(f"made_up_{k}" for k in range(24))]
    monkeypatch.setattr(theme, "STRATEGIES", dict.fromkeys(names))
    assert len({(theme.colour(s), theme.symbol(s)) for s in names}) == len(names)
    assert len({(theme.colour(s), theme.dash(s)) for s in names}) == len(names), "lines without marks"


def test_search_figures_show_every_field_whatever_its_name(tmp_path: Path, few_forests: None) -> None:
    """They read the fields from the ranges, the study's own included, so nothing is listed anywhere."""
    ledger = synthetic(tmp_path, 80, ["layer_decay", "lp_ft"])
    frames = load(ledger)
    fields = {"lr", "decay", "probe_lr", "probe_share", "augmentation", "weight_decay", "label_smoothing"}
    assert set(frames.scales) == fields and [n for n, s in frames.scales.items() if s == "log"] == ["lr", "weight_decay", "probe_lr"]
    found = findings(frames)
    wide, long = parallel.compute(frames, found), slices.compute(frames, found)
    assert {c for c in wide if c.startswith("hp/")} == {f"hp/{f}" for f in fields} and set(long.hyperparameter) == fields
    assert set(importance.compute(frames, found).hyperparameter) == fields
    shown = {a.text.replace("<br>", "") for a in parallel.draw(wide).layout.annotations}
    assert {f"<b>{f}</b>" for f in fields} <= shown
    figure = slices.draw(long)
    axes = {t.xaxis.replace("x", "xaxis"): t.hovertemplate.split()[0] for t in figure.data}
    assert {axes[a] for a in axes if figure.layout[a].type == "log"} == {"lr", "weight_decay", "probe_lr"}


def test_a_choice_is_a_field_like_others(copy: Ledger, monkeypatch: pytest.MonkeyPatch, few_forests: None) -> None:
    monkeypatch.setattr(importance, "FEWEST", 4)
    path = Path(copy.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["space"] = {"partial.unfreeze_depth": {"choice": [1, 2, 3, 4]}}
    path.write_text(json.dumps(values))
    frames = load(copy)
    found = findings(frames, 50)
    assert frames.scales["unfreeze_depth"] == "category"
    assert "unfreeze_depth" in set(importance.compute(frames, found).hyperparameter)
    for figure in (parallel, slices):
        assert figure.draw(figure.compute(frames, found)).data


@pytest.fixture
def few_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few permutations, which take most of the figure's time."""
    monkeypatch.setattr(importance, "PERMUTATIONS", 4)


def test_importance_stands_beside_what_noise_reaches(tmp_path: Path, few_forests: None) -> None:
    """Scores are noise first, and then depend on one hyperparameter."""
    frames = load(synthetic(tmp_path, 50, ["full"]))
    found = importance.compute(frames, findings(frames))
    assert set(found.trials) == {25} and (found.groupby("cell").by_chance.max() > 0.2).all()
    assert (found.importance > found.by_chance).mean() < 0.5
    assert found.groupby("cell").importance.sum().tolist() == pytest.approx([1, 1])
    t = frames.trials
    made = t.assign(**{"val/macro_f1": np.log10(t["hp/lr"]) / 10 + 0.6})
    real = importance.compute(dataclasses.replace(frames, trials=made), findings(frames)).set_index("hyperparameter")
    assert (real.loc["lr"].importance > 0.8).all() and (real.loc["lr"].importance > real.loc["lr"].by_chance).all()
    assert (real.drop("lr").importance <= real.drop("lr").by_chance).all()


def test_importance_knows_the_bad_region(tmp_path: Path, few_forests: None) -> None:
    """High rates diverge or are stopped, and the others all score alike. Without the former there would be nothing to see."""
    frames = load(synthetic(tmp_path, 80, ["full"]))
    t = frames.trials.assign(**{"val/macro_f1": 0.6})
    high = t["hp/lr"] > t["hp/lr"].quantile(0.7)
    t.loc[high, ["outcome", "val/macro_f1"]] = ["diverged", np.nan]
    t.loc[high & (t.number % 2 == 0), ["outcome", "val/macro_f1"]] = ["stopped", 0.1]
    t.loc[t.number == 3, "outcome"] = "failed"
    found = importance.compute(dataclasses.replace(frames, trials=t), findings(frames))
    assert set(found.trials) == {39} and (found.unfinished > 5).all()
    assert (found[found.hyperparameter == "lr"].importance > 0.9).all()


def test_below_sixteen_trials_no_importance_is_drawn(tmp_path: Path) -> None:
    frames = load(synthetic(tmp_path, 30, ["full"]))
    assert importance.compute(frames, findings(frames)).empty and "16" in importance.draw(pd.DataFrame()).layout.annotations[0].text


def test_many_questions_wrap_and_a_strategy_is_named_once(tmp_path: Path) -> None:
    frames = load(synthetic(tmp_path, 140, ["full", "partial"], (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)))
    figure = cost.draw(cost.compute(frames, findings(frames)))
    assert len({t.xaxis for t in figure.data}) == 14
    titles = [a.text for a in figure.layout.annotations]
    assert titles[:2] + titles[6:8] == [
        "digits, resnet18<br>5% of the training images",
        "digits, resnet18<br>10% of the training images",
        "digits, resnet18",
        "mini_faces, resnet18<br>5% of the training images",
    ]
    assert len({figure.layout[t.xaxis.replace("x", "xaxis")].domain for t in figure.data}) == theme.MOST_ACROSS
    for marks in (figure, slices.draw(slices.compute(frames, findings(frames)))):
        assert sorted(t.name for t in marks.data if t.mode == "markers" and t.showlegend) == ["full", "partial"]
