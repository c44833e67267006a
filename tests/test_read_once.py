"""Findings of a study are computed once and handed on, and need nothing that trains."""

from collections import Counter
from typing import Any

import pytest

from analysis.figures import FIGURES
from analysis.findings import comparisons
from analysis.load import load
from analysis.page.albums import albums
from analysis.verdict import findings
from analysis.words import sentences
from tests.goldens import GOLDEN
from tests.test_architecture import loaded


def test_runs_are_gathered_and_questions_answered_once_for_a_whole_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions of every run were once read again for each figure that is drawn by class."""
    gathered, answered = Counter[Any](), Counter[Any]()
    gather, answer = comparisons.gather, sentences.answer
    monkeypatch.setattr(
        comparisons, "gather", lambda frames, question, block: (gathered.update([question]), gather(frames, question, block))[1]
    )
    monkeypatch.setattr(
        sentences, "answer", lambda question, *rest, **more: (answered.update([question]), answer(question, *rest, **more))[1]
    )
    frames = load(str(GOLDEN))
    found = findings(frames, resamples=50)
    assert albums(frames, found)
    for figure in FIGURES:
        figure.compute(frames, found)
    assert gathered and set(gathered.values()) == {1} and set(gathered) == {g.question for g in found.gathered}
    assert answered and set(answered.values()) == {1}


def test_results_are_opened_and_read_without_what_trains() -> None:
    read = f"from study import load_study; r = load_study({str(GOLDEN)!r}); assert len(r.verdicts) and len(r.strategies) and len(r.trials)"
    assert loaded(read, ["torch", "torchvision", "timm", "ray", "optuna", "mlflow"]) == []
