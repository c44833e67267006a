"""Faults that were once passed over silently, or ended in a traceback, are one line with the way out."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from study import Study, grid, own_dataset, predict, run_study, sweep
from study.datasets import __main__ as datasets
from study.datasets import open_dataset
from study.datasets.from_python import as_one
from study.errors import ConfigError, DataError
from study.failpoints import ACTIONS, NAMES, wrong
from study.question.studies import STUDIES, narrow
from study.scoring.decide import Deciding
from study.storage.options import check_address
from study.tracking.client import own_uri
from study.tracking.ledger import Ledger
from study.use.images import Found
from study.use.predictor import Predictor
from tests.own import scene

ROOT = Path(__file__).parent.parent
NO_GUARD = [
    f for package in ("study", "analysis") for f in sorted((ROOT / package).rglob("*.py")) if "\nif __name__ == " not in f.read_text()
        and not f.stem.startswith("__")
]  # fmt: skip

# ---- labels that Python holds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.uint8, bool, torch.float32, torch.int64, list, tuple])
def test_a_one_hot_label_is_its_class(kind: object, classes: int) -> None:
    for k in range(classes):
        row = np.eye(classes)[k]
        if kind in (list, tuple):
            label = kind(int(v) for v in row)  # type: ignore[operator]
        else:
            in_torch = isinstance(kind, torch.dtype)
            label = torch.tensor(row, dtype=kind) if in_torch else row.astype(kind)  # type: ignore[arg-type,call-overload]
        assert as_one(label, 0) == k
    for one in ("oak", 3, 2.0, np.int64(4), torch.tensor(5), None, np.array([6]), torch.tensor([7]), True, ""):
        assert as_one(one, 0) == one or as_one(one, 0) in (6, 7)


@pytest.mark.parametrize(
    "label", [[0.3, 0.7], [0, 0], [1, 1], [1, 0, 1], np.eye(2), {"a": 1}, {1, 2}, torch.tensor([0.5, 0.5]), ["a", "b"], [], [2, 0]]
)
def test_what_names_no_one_class_is_refused_with_its_image(label: object, tmp_path: Path) -> None:
    picture = Image.new("RGB", (16, 16))
    for data in (
        [(picture, "oak"), (picture, label)],
        pd.DataFrame({"image": [picture] * 2, "label": pd.Series(["oak", label], dtype=object)}),
    ):
        with pytest.raises(DataError, match="label of image 1 is .*must be one class") as error:
            own_dataset(data, folder=tmp_path)
        assert "\n" not in str(error.value)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("own-")]


def test_frames_by_split_are_read_and_a_second_word_on_splits_is_refused(tmp_path: Path) -> None:
    def frame(of: int) -> pd.DataFrame:
        return pd.DataFrame({"image": [Image.new("RGB", (16, 16), (of, k, 0)) for k in range(4)], "label": list("aabb")})

    made = own_dataset({"train": frame(1), "test": frame(2)}, folder=tmp_path).removeprefix("table:")
    rows = pd.read_csv(made)
    assert list(rows.split) == ["train"] * 4 + ["test"] * 4 and list(rows.label) == list("aabb") * 2
    with pytest.raises(ConfigError, match="the frame of train has a column of splits, 'split', too"):
        own_dataset({"train": frame(1).assign(split="val")}, folder=tmp_path)


# ---- results whose name means something in an address --------------------------------------------------------------


@pytest.mark.parametrize(("name", "fits"), [
    *((name, False) for name in ("a%41b", "50%25", "what?", "a?b=c", "%2e", "x%C3%A4", "deep%20/er")),
    *((name, True) for name in ("a b", "a#b", "a+b", "a;b", "a&b=c", "a@b", "é", "100%", "a%zz", "a:b")),
])  # fmt: skip
def test_results_whose_path_is_no_address_are_refused_before_anything_is_sent(name: str, fits: bool, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / name, "own")
    if fits:
        assert own_uri(ledger).startswith("sqlite:///")
        return
    with pytest.raises(ConfigError, match="means something else in its address.*--mlflow off"):
        own_uri(ledger)


# ---- commands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", NO_GUARD[:: max(len(NO_GUARD) // 12, 1)], ids=lambda f: f.stem)
def test_a_module_that_is_no_command_says_so(file: Path) -> None:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    done = subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(
        f"error: {module} is no command. Of {module.partition('.')[0]}"
    )


@pytest.mark.parametrize("module", ["study.sweep", "study.datasets", "study.measure", "study.tracking", "analysis.report"])
def test_a_command_is_one(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0 and "usage" in done.stdout


@pytest.mark.parametrize("wanted", ["junk", "mid_epoch:x", "mid_epoch:1:explode", "mid_epoch:-1", ":1", "mid_epoch::boom"])
def test_a_fault_that_would_never_act_is_refused(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_FAILPOINT", wanted)
    assert "unset it" in wrong()
    done = subprocess.run(
        [sys.executable, "-m", "study.datasets", "check", "digits"], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "STUDY_FAILPOINT": wanted}, timeout=120
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith(f"error: STUDY_FAILPOINT={wanted} is no NAME")


def test_a_fault_that_acts_is_none_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        for rest in ("", ":1", ":*", *(f":{n}:{a}" for n in ("3", "*") for a in ACTIONS)):
            monkeypatch.setenv("STUDY_FAILPOINT", name + rest)
            assert not wrong()


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("module", ["predict", "sweep", "trial", "export", "replay", "deliver"])
def test_an_argument_with_a_nul_is_refused(module: str, at: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["results/own", "x.png", "y.png"]
    arguments[at] += "\0z"
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"study.{module}").main(arguments)
    assert ended.value.code == 2 and capsys.readouterr().err.startswith(
        f"error: {arguments[at].replace(chr(0), chr(92) + 'x00')} holds a NUL"
    )


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("bad", "code"), [(0, 0), (1, 0), (5, 0), (6, 3)])
def test_a_prediction_fails_where_not_one_image_could_be_read(
    bad: int, code: int, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """This holds with a table and without, as docs/use.md says."""

    class Fake:
        classes = ("a", "b")
        several = False
        deciding = Deciding()

        def named(self, shares: np.ndarray) -> np.ndarray:
            return shares.argmax(axis=1)

        def read(self, path: str) -> np.ndarray:
            if int(Path(path).stem) < bad:
                raise DataError(f"{path}: not an image")
            return np.zeros((4, 4, 3), np.uint8)

        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.full((len(images), 2), 0.5)

    found = Found(images=[Path(f"{k}.png") for k in range(6)], left_out=[])
    assert predict.to_lines(Fake(), found, 2, as_json=as_json) == code  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 6 - bad and (f"{bad} cannot be read" in said.err) is bool(bad)


@pytest.mark.parametrize("splits", ["", "@official", "@official:2"])
def test_a_table_is_checked_by_the_name_a_sweep_takes(splits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["file,label"]
    for k in range(20):
        Image.new("RGB", (16, 16), (12 * k, 255 - 12 * k, 7 * k)).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,{'ab'[k % 2]}")
    (tmp_path / "x.csv").write_text("\n".join(rows))
    assert datasets.main(["check", f"table:{tmp_path}/x.csv{splits}"]) in (0, 3)
    assert "20 images of 2 classes" in " ".join(capsys.readouterr().out.split())
    if splits == "@official:2":
        assert datasets.main(["check", f"table:{tmp_path}/x.csv{splits}", "--splits", "official:1"]) == 2
        assert "Leave --splits out" in capsys.readouterr().err


def test_a_study_of_ones_own_on_other_data_says_nothing_untrue_of_itself() -> None:
    built_in = STUDIES["quickstart"]
    assert "quickstart on other data" in narrow(built_in, datasets=["digits"]).about
    own = narrow(built_in, name="base", about="My leaves.")
    assert narrow(own, datasets=["digits"]).about == "" and narrow(own, trials=3).about == "My leaves."


# ---- addresses of a Ray cluster ---------------------------------------------------------------------------------

WRONG = ["head", "127.0.0.1:abc", "http://127.0.0.1:6379", "https://head:6379", "head:0", "head:65536", "head:99999", ":6379", "head:",
    "head:63 79", " head:6379", "head:6379 ", "head:6379/", "head:-1", "head:" + "9" * 5000]  # fmt: skip


@pytest.mark.parametrize("address", WRONG)
@pytest.mark.parametrize("way", ["--address", "RAY_ADDRESS"])
def test_what_is_no_address_of_a_cluster_is_refused_before_a_study_is_begun(
    address: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, images were looked through and a study was begun first. Of a port above 65535 it said that nothing answers there."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if way == "RAY_ADDRESS":
        monkeypatch.setenv(way, address)
    line = ["quickstart", "--results", str(tmp_path), *(["--address", address] if way == "--address" else [])]
    assert sweep.main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {way} {address} is not HOST:PORT") and said.count("\n") == 1 and not list(tmp_path.iterdir())


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"[a-z0-9.-]{1,20}|\[::1\]", fullmatch=True), st.integers(1, 65_535))
def test_every_host_and_port_is_an_address(host: str, port: int) -> None:
    for address in (f"{host}:{port}", "auto", "local", "", "ray://head:10001"):
        check_address(address)


# ---- names of classes in Python --------------------------------------------------------------------------------


NUMBERED = [(scene(k), k % 2) for k in range(12)]


@pytest.mark.parametrize("classes", [["ash", "oak"], ("ash", "oak"), {0: "ash", 1: "oak"}, {1: "oak", 0: "ash"}, {"oak": 1, "ash": 0}])
@pytest.mark.parametrize("own", [False, True])
def test_names_of_classes_go_by_their_numbers(classes: Any, own: bool, tmp_path: Path) -> None:
    class Named(list):  # type: ignore[type-arg]
        pass

    items = Named(NUMBERED)
    items.classes = classes
    name = own_dataset(items, folder=tmp_path) if own else own_dataset(NUMBERED, classes=classes, folder=tmp_path)
    table = open_dataset(name)
    assert dict(zip(table.ids, (table.classes[k] for k in table.labels), strict=True))["images/000000.png"] == "ash"
    assert set(table.classes) == {"ash", "oak"}


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("ab", "classes is one text, 'ab'. Give a list"),
        (["ash", "ash"], "classes has 'ash' twice"),
        ({1: "ash", 2: "oak"}, "not from 0 on"),
        ({"ash": 0, "oak": 0}, "not from 0 on"),
        ({0: "ash", 1: "ash"}, "classes has 'ash' twice"),
    ],
)
def test_classes_that_number_no_names_are_refused(classes: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        own_dataset(NUMBERED, classes=classes, folder=tmp_path)


def test_bytes_are_no_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the label of image 0 is b'ash'. It must be one class"):
        own_dataset([(scene(k), b"ash") for k in range(10)], folder=tmp_path)


# ---- what Python gives a study, and a network -------------------------------------------------------------------

NO_NAMES = ["digits", b"digits", None, 5, Path("F"), [Path("F")], ["digits", 1], {"digits"}, (c for c in "ab")]


@pytest.mark.parametrize("given_", NO_NAMES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("field", ["datasets", "backbones", "strategies", "measure", "search", "explain"])
def test_a_text_is_no_list_of_names(field: str, given_: object) -> None:
    """Once, grid("digits", ...) had the data sets d, i, g, i, t and s."""
    lists: dict[str, Any] = {"datasets": ["digits"], "backbones": ["efficientnet_lite0"], "strategies": ["partial"]}
    with pytest.raises(ConfigError, match=f"{field} must be a list of names, each a text, not "):
        if field in lists:
            grid(**(lists | {field: given_}))
        else:
            Study(name="a", cells=grid(**lists), **{field: given_})  # type: ignore[arg-type]


@pytest.mark.parametrize("cells", [None, "digits/efficientnet_lite0/partial", ["digits/efficientnet_lite0/partial"],
    grid(["digits"], ["a"], ["full"])[0], 3], ids=repr)  # fmt: skip
def test_what_is_no_cell_is_refused(cells: Any) -> None:
    with pytest.raises(ConfigError, match="cells must be a list of Cell"):
        Study(name="a", cells=cells)


@pytest.mark.parametrize("asked", [None, 3, ["quickstart"], grid(["digits"], ["a"], ["full"])], ids=repr)
def test_run_study_says_what_it_takes(asked: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run_study takes a Study, the name of one or a file that holds one"):
        run_study(asked, results=tmp_path / "r")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="nosuch.py"):
        run_study(tmp_path / "nosuch.py", results=tmp_path / "r")


PICTURE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize("images", [PICTURE, "a.png", Path("a.png"), [PICTURE], [np.zeros((8, 8, 3), np.uint8)], None,
    torch.zeros(1, 3, 8, 8)], ids=lambda i: type(i).__name__)  # fmt: skip
def test_a_network_that_is_given_no_array_says_how_to_read_one(images: Any) -> None:
    predictor = object.__new__(Predictor)
    for ask in (predictor, predictor.logits, predictor.prepare):
        predictor.temperature = 1.0
        with pytest.raises(DataError, match=r"must be uint8 .*predictor.read\(FILE\)\[None\]"):
            ask(images)
