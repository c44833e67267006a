"""Words that a person reads: prints of a study in Python and in a notebook, and the time that is left."""

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from analysis.findings.delivered import delivered_of
from analysis.findings.network_scores import Calibrated
from analysis.findings.pick import Pick
from analysis.words.use_network import pick_facts
from study import demo, predict
from study.console.eta import Remaining, Running
from study.datasets import open_dataset
from study.datasets.audit import audit
from study.datasets.spec import TRAIN
from study.results import Results, load_study
from study.tracking import model
from tests.goldens import GOLDEN
from tests.own import scene

INNARDS = re.compile(r"\w+\(\w+=|<[\w.]+ object at|dataclass|array\(|Timestamp\(|np\.")
NOTEBOOK = Path(__file__).parent.parent / "examples" / "own_images.ipynb"


def test_results_print_sentences() -> None:
    found = load_study(str(GOLDEN / "golden"))
    told = [s.text for s in found.findings.sentences]
    assert list(found.verdicts.sentence) == told and all(isinstance(s, str) for s in found.verdicts.sentence)
    for text in (repr(found), str(found), found._repr_html_(), *found.verdicts.sentence, *found.advice, *found.warnings):
        assert not INNARDS.search(text), text
    lines = repr(found).splitlines()
    assert lines[0].startswith("golden in ") and lines[1:] == [a.text for a in found.answers] + found.advice
    assert all(re.match(r".+: .+\.$", line) for line in told)


def test_every_line_of_the_notebook_that_reads_a_result_prints_words() -> None:
    """It runs the notebook's cells that read `results` alone, on a study that has run."""
    cells = ["".join(c["source"]) for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    said: list[str] = []
    tried = 0
    for cell in cells:
        for node in ast.parse(cell).body:
            used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} - {"print", "sentence"}
            if used != {"results"} or "figure" in ast.unparse(node) or "predictor" in ast.unparse(node):
                continue
            space = {"results": load_study(str(GOLDEN / "golden")), "print": lambda *a: said.append(" ".join(map(str, a)))}
            if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call):
                said.append(repr(eval(ast.unparse(node), space)))
            else:
                exec(ast.unparse(node), space)
            tried += 1
    assert tried >= 2 and said and not [s for s in said if INNARDS.search(s)], said


# ---- near copies ----------------------------------------------------------------------------------------------


def test_each_copy_is_listed_by_name_and_called_identical_only_where_it_is(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        for k in range(16):
            path = tmp_path / split / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = scene(first + k, (96, 72))
            if split == "val" and k < 6:  # nearly those of train: a grey level more in a corner
                image = scene(k, (96, 72))
                image.putpixel((0, 0), (1, 2, 3))
            if split == "test" and k < 3:
                image = scene(k, (96, 72))
            image.save(path)
    table = open_dataset(f"folder:{tmp_path}")
    report = audit(table)
    near = {s.image: s.detail for s in report.suspects if s.kind == "near copy in train"}
    same = {s.image: s.detail for s in report.suspects if s.kind == "copy in train"}
    assert sorted(near) == sorted(f"val/{'ab'[k % 2]}/{k}.png" for k in range(6))
    assert sorted(same) == sorted(f"test/{'ab'[k % 2]}/{k}.png" for k in range(3))
    assert len(near) + len(same) == report.near_across, "as many as are counted"
    for image, detail in {**near, **same}.items():
        assert f"train/{image.partition('/')[2]}" in detail
    for pair in report.pairs:
        assert (pair.apart == "identical") == ("test" in pair.splits) and ("nearly the same" in pair.apart) == ("val" in pair.splits)
    assert not [s for s in report.suspects if "in train" in s.kind and table.split[s.position] == TRAIN]


# ---- time left ------------------------------------------------------------------------------------------------

times = st.floats(1, 1000)


@settings(max_examples=300, deadline=None)
@given(took=times, waiting=st.integers(0, 20), done=st.integers(0, 4), pace=times, more=times, same=st.booleans())
def test_a_late_trial_never_lets_the_time_left_fall(took: float, waiting: int, done: int, pace: float, more: float, same: bool) -> None:
    """With five epochs a run, one runs and has not ended another epoch for longer than any before: the time left grows."""
    rest = Remaining(max_epochs=5)
    rest.measured("a" if same else "b", 5 * took, 5)
    rest.todo["a", 1.0] = waiting + 1
    trained = done * pace
    late = max(trained, done * took) + 2 * max(took, pace) * (done + 1) + (0 if done else 5 * took)  # far behind either pace

    def left(seconds: float) -> float:
        found = rest.left({"x": Running(cell="a", whole=1.0, seconds=seconds, epochs=done, trained=trained)})
        assert found is not None
        return found

    one, two = left(late), left(late + more)
    assert two >= one > 0
    pace_seen = late / (done + 1) if done else 2 * late / 5
    assert one >= waiting * 5 * pace_seen * 0.99, "those that wait will take as long"


def one_ended(took: float, waiting: int) -> Remaining:
    """Return what is left where a run of five epochs has ended, another runs, and so many wait."""
    rest = Remaining(max_epochs=5)
    rest.measured("a", 5 * took, 5)
    rest.todo["a", 1.0] = waiting + 1
    return rest


@settings(max_examples=200, deadline=None)
@given(took=times, waiting=st.integers(0, 20), at=st.floats(0, 1))
def test_a_trial_in_time_is_priced_as_before(took: float, waiting: int, at: float) -> None:
    epochs = int(at * 5)
    found = one_ended(took, waiting).left({"x": Running(cell="a", whole=1.0, seconds=at * 5 * took, epochs=epochs, trained=epochs * took)})
    assert found == pytest.approx(5 * took * (waiting + 1 - at), rel=1e-6, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(took=times, waiting=st.integers(0, 20), start=st.floats(0, 2))
def test_a_trial_that_has_just_begun_changes_nothing_for_those_that_wait(took: float, waiting: int, start: float) -> None:
    """Once, a worker's start and the first stored views counted as the pace of all that follow: 36 minutes left of a study of 15."""
    found = one_ended(took, waiting).left(
        {"x": Running(cell="a", whole=1.0, seconds=(1 + start) * took, epochs=1, trained=(1 + start) * took)}
    )
    assert found == pytest.approx(5 * took * (waiting + 1) - (1 + start) * took, rel=1e-6)


# ---- probabilities --------------------------------------------------------------------------------------------

CLAIM = re.compile(r"calibrated|temperature \d", re.IGNORECASE)
FIGURE = re.compile(r"expected calibration error on \w[\w ]* (\d+\.\d) %|whose error was not measured|too few images to say")


class Registry:
    """A server's entry of a registered model, without the network itself."""

    def __init__(self) -> None:
        self.about = ""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **named: [] if name.startswith("search") else None


def told_of(found: Results, pick: Pick, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return every text that goes with a network's probabilities, by who says it."""
    registry = Registry()

    def register(client: Registry, *args: Any) -> str:
        client.about = args[-1]
        return "1"

    with monkeypatch.context() as patched:
        patched.setattr(found, "pick", lambda *_, **__: pick)
        patched.setattr(found, "predictor", lambda *_, **__: None)
        patched.setattr(predict, "placed", lambda place: (place, ""))
        patched.setattr("study.results.open_place", lambda place: (found, ""))
        patched.setattr(model, "register", register)
        model.register_best(registry, "m", "run", found.frames.ledger.folder, pick_facts([dataclasses.replace(pick, leads=True)])[0], {})
        ensemble = {"predict --ensemble": predict.open_network("r/s", ensemble=True)[2][0]} if pick.together else {}
        return {
            "predict": predict.open_network("r/s")[2][0],
            "demo": demo.Demo(found, "", data=None, images=0).about,
            "card": next((line for line in found.model_card().splitlines() if line.startswith("Calibration")), ""),
            "MLflow": registry.about,
            "pick": pick.probabilities,
            **ensemble,
        }


@pytest.fixture(scope="module")
def golden() -> Results:
    return load_study(str(GOLDEN / "golden"))


def test_probabilities_are_called_calibrated_with_their_measured_error_alone(golden: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a confidence of 0.60 and an accuracy of 0.39, predict and the page in a browser once said "calibrated probabilities"."""
    for pick in [p for p in golden.findings.picks if p.calibrated]:
        test = golden.frames.predictions(pick.trial)["test"]
        shares = np.exp(test.logits / pick.temperature - logsumexp(test.logits / pick.temperature, axis=1, keepdims=True))
        sure, right = shares.max(axis=1), shares.argmax(axis=1) == test.labels
        bins = np.clip(np.ceil(sure * 15).astype(int) - 1, 0, 14)
        error = sum(abs(sure[bins == k].sum() - right[bins == k].sum()) for k in range(15)) / len(sure)
        for who, text in told_of(golden, pick, monkeypatch).items():
            assert not CLAIM.search(text) or FIGURE.search(text), (who, text)
            if who in ("predict", "demo", "card", "MLflow", "pick"):
                figures = [float(f) for f in re.findall(r"(\d+\.\d) % with the temperature|on test (\d+\.\d) %", text) for f in f if f]
                assert any(abs(f - 100 * error) <= 0.0501 for f in figures), (who, text, error)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.05, 20), st.floats(0, 1), st.floats(0, 1), st.booleans(), st.booleans())
def test_whatever_was_measured_no_claim_stands_alone(
    golden: Results, temperature: float, before: float, after: float, measured: bool, handed: bool
) -> None:
    own = Calibrated(temperature=temperature, before=before, after=after) if measured else None
    pick = dataclasses.replace(golden.findings.picks[0], calibrated=own)
    if handed:
        entry = {"epochs": 3, "images": 9, "at": 1.0, "lengths": [], "temperature": temperature}
        runs = {"runs": 2, "images": 50, "after": after if measured else None} if temperature > 1 else {}
        pick = dataclasses.replace(pick, delivered=delivered_of({**entry, "calibration": runs}, [], None, ""))
    with pytest.MonkeyPatch.context() as patched:
        for who, text in told_of(golden, pick, patched).items():
            assert not CLAIM.search(text) or FIGURE.search(text) or "% with the temperature" in text, (who, text)
            assert not measured or who == "card" or who.endswith("ensemble") or f"{100 * after:.1f} %" in text, (who, text)


def test_no_page_promises_calibrated_probabilities() -> None:
    root = Path(__file__).parent.parent
    pages = [
        root / "README.md",
        *(root / "docs").glob("*.md"),
        NOTEBOOK,
        *(root / "study").rglob("*.py"),
        *(root / "analysis").rglob("*.py"),
    ]
    assert not [p for p in pages if re.search(r"calibrated probabilit", p.read_text("utf-8"), re.IGNORECASE)]
