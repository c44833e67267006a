"""Names of classes have one rule, whichever reader brings them, and so have the words that say there is no label."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw
from torch.utils.data import ConcatDataset, Subset, random_split
from torchvision.datasets import ImageFolder

from study import own_dataset
from study.datasets import open_dataset
from study.datasets.called import as_read, check_names, missing
from study.errors import ConfigError, DataError
from tests.own import classes, scene

ALIKE = {
    "composed and not": ("Pl\u00e4tt", "Pla\u0308tt"),
    "a blank that does not break": ("sugar beet", "sugar\u00a0beet"),
    "two blanks": ("sugar beet", "sugar  beet"),
    "a wide blank": ("sugar beet", "sugar\u2003beet"),
    "no width": ("oak", "oak\u200b"),
    "a mark of order": ("oak", "\ufeffoak"),
    "a soft hyphen": ("oak", "o\u00adak"),
    "a ligature": ("fir", "\ufb01r"),
    "wide letters": ("oak", "\uff4fak"),
    "cut": ("x" * 90 + "1", "x" * 90 + "2"),
    "an escape": ("a\x07", "a\\x07"),
}


def table(root: Path, names: tuple[str, ...]) -> str:
    root.mkdir()
    rows = []
    for k in range(12 * len(names)):
        scene(k).save(root / f"{k:03d}.png")
        rows.append({"file": f"{k:03d}.png", "label": names[k % len(names)]})
    pd.DataFrame(rows).to_json(root / "labels.jsonl", orient="records", lines=True)
    return f"table:{root}/labels.jsonl"


def hub(root: Path, names: tuple[str, ...]) -> str:
    datasets = pytest.importorskip("datasets")
    name = table(root, names)
    rows = pd.read_json(name.removeprefix("table:"), lines=True)
    made = datasets.Dataset.from_dict({"image": [str(root / f) for f in rows.file], "label": rows.label.tolist()})
    made.cast_column("image", datasets.Image()).save_to_disk(str(root / "saved"))
    return f"hf:{root}/saved"


def python(root: Path, names: tuple[str, ...]) -> str:
    return own_dataset([(scene(k), k % len(names)) for k in range(12 * len(names))], classes=names, folder=root)


def folders(root: Path, names: tuple[str, ...]) -> str:
    return f"folder:{classes(root, dict.fromkeys(names, 12))}"


READERS = {"table": table, "hf": hub, "own_dataset": python, "folder": folders}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", ALIKE)
def test_names_that_are_read_alike_are_refused_by_every_reader(case: str, reader: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the classes '.*' and '.*' look alike once they are shown. Rename one") as caught:
        open_dataset(READERS[reader](tmp_path / "own", (*ALIKE[case], "elm")))
    assert str(caught.value).isascii()


@pytest.mark.parametrize("reader", READERS)
def test_names_that_differ_are_taken_by_every_reader(reader: str, tmp_path: Path) -> None:
    names = ("Oak", "oak", "Pl\u00e4tt", "sugar beet", "\u6a2b")
    made = open_dataset(READERS[reader](tmp_path / "own", names))
    assert set(made.classes) == set(names)


invisible = draw.sampled_from(["", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", " ", "\u00a0", "\u3000", "\t"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(draw.text(draw.characters(categories=["L", "N"]), min_size=1, max_size=8), invisible, invisible)
def test_what_cannot_be_seen_tells_no_two_names_apart(name: str, before: str, after: str) -> None:
    other = f"{before}{name}{after}"
    assert as_read(other) == as_read(name) and not missing(other) or missing(name)
    if other != name:
        with pytest.raises(DataError, match="look alike"):
            check_names([name, "another name", other], "x")


@pytest.mark.parametrize("nothing", ["", " ", "nan", "NaN", "<NA>", "NaT", "\u200b", "\u00a0"])
@pytest.mark.parametrize("reader", ["table", "hf", "frame"])
def test_no_label_is_no_class_for_every_reader(nothing: str, reader: str, tmp_path: Path) -> None:
    names = ("ash", "oak", nothing)
    if reader == "frame":
        name = table(tmp_path / "own", ("ash", "oak", "elm"))
        frame = pd.read_json(name.removeprefix("table:"), lines=True).replace({"label": {"elm": nothing}})
        made = open_dataset(own_dataset(frame.assign(file=str(tmp_path / "own") + "/" + frame.file), folder=tmp_path / "made"))
    else:
        made = open_dataset(READERS[reader](tmp_path / "own", names))
    assert made.classes == ("ash", "oak") and sum(why == "no label" for _, why in made.ignored) == 12


def wrapped(data: Any) -> dict[str, Any]:
    inner = Subset(data, range(0, len(data), 1))
    return {
        "a subset": inner,
        "a subset of a subset": Subset(inner, range(len(inner))),
        "joined": ConcatDataset([Subset(data, range(8)), Subset(data, range(8, len(data)))]),
        "drawn": random_split(data, [len(data)])[0],
        "by split": {"train": Subset(data, range(len(data))), "test": data},
    }


@pytest.mark.parametrize("how", wrapped(range(20)))
def test_names_of_classes_are_found_through_wrappers(how: str, tmp_path: Path) -> None:
    data = ImageFolder(str(classes(tmp_path / "own", {"cat": 10, "dog": 10})))
    assert open_dataset(own_dataset(wrapped(data)[how], folder=tmp_path / "made")).classes == ("cat", "dog")


def test_names_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    one, other = (ImageFolder(str(classes(tmp_path / n, {n: 10, "dog": 10}))) for n in ("cat", "cow"))
    with pytest.raises(ConfigError, match="have different classes. Say them with classes="):
        own_dataset(ConcatDataset([one, other]), folder=tmp_path / "made")
    with pytest.raises(DataError, match="label 'elm' is none of the 2 classes \\(ash, oak\\)"):
        own_dataset([(scene(0), "elm")], classes=("ash", "oak"), folder=tmp_path / "made")
    floats = own_dataset([(scene(k), float(k % 2)) for k in range(20)], classes=("ash", "oak"), folder=tmp_path / "made")
    assert open_dataset(floats).classes == ("ash", "oak")
