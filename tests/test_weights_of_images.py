"""Weights of images that cannot be are named before anything is trained."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from study.datasets import open_dataset
from study.errors import DataError
from tests.own import classes


def table(root: Path, weights: dict[str, list[str]]) -> str:
    classes(root, {name: len(own) for name, own in weights.items()})
    rows = [f"{name}/{k:03d}.png,{name},{weight}" for name, own in weights.items() for k, weight in enumerate(own)]
    (root / "labels.csv").write_text("\n".join(["file,label,weight", *rows]))
    return f"table:{root}/labels.csv"


@pytest.mark.parametrize(("weight", "place"), itertools.product(("1e300", "1e10", "inf", "nan", "-1", "x", "1e9", "3"), (0, 7)))
def test_a_weight_that_cannot_be_is_refused_by_name(weight: str, place: int, tmp_path: Path) -> None:
    own = ["1"] * 10
    own[place] = weight
    name = table(tmp_path / "own", {"ash": own, "oak": ["1"] * 10})
    if weight in ("1e9", "3"):
        found = open_dataset(name).weights
        assert found is not None and np.isfinite(found).all()
        return
    with pytest.raises(DataError, match="weight") as refused:
        open_dataset(name)
    assert f"ash/{place:03d}.png" in str(refused.value) or f"labels.csv:{place + 2}" in str(refused.value)


@pytest.mark.parametrize("silent", [("ash",), ("oak",), ("ash", "elm")])
def test_a_class_that_nothing_would_be_learnt_of_is_refused(silent: tuple[str, ...], tmp_path: Path) -> None:
    name = table(tmp_path / "own", {c: ["0" if c in silent else "1"] * 10 for c in ("ash", "elm", "oak")})
    with pytest.raises(DataError, match=f"all training images of {', '.join(silent)} are 0"):
        open_dataset(name)
