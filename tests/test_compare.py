"""Two studies side by side."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import compare
from analysis.load import load
from study.space import Log
from study.tracking.ledger import Ledger
from tests.goldens import GOLDEN, on_folder


def test_two_studies_side_by_side(tmp_path: Path, copy: Ledger) -> None:
    assert compare.main([str(GOLDEN), str(copy.folder.root), "--out", str(tmp_path / "c.html")]) == 0
    text = (tmp_path / "c.html").read_text()
    assert "partial" in text and "+0.0" in text
    on_folder(copy, "/data/<i>: x; y")
    assert compare.main([str(GOLDEN), str(copy.folder.root), "--out", str(tmp_path / "c.html")]) == 0
    text = (tmp_path / "c.html").read_text()
    assert "<i>" not in text and "&lt;i&gt;: x; y, efficientnet_lite0: Not comparable" in text and "not there" in text


def test_every_setting_that_differs_is_shown_whichever_of_two_studies_has_it(copy: Ledger, tmp_path: Path) -> None:
    """A late field is written only where it is not at its default, so it is in the file of one study and not in the other's."""
    old = copy.study()
    protocol = dataclasses.replace(old.protocol, optimizer="sgd")
    own = dataclasses.replace(old, searches=2, confirm_seeds=4, space={"partial.lr": Log(1e-4, 1e-3)}, protocol=protocol)
    copy.folder.write("study.json", json.dumps({**json.loads(copy.folder.read("study.json")), "study": own.as_dict()}).encode())
    for pair in ([str(GOLDEN), copy.folder.root], [copy.folder.root, str(GOLDEN)]):
        assert compare.main([*pair, "--out", str(tmp_path / "c.html")]) == 0
        text = (tmp_path / "c.html").read_text()
        assert all(f"<td>{k}</td>" in text for k in ("searches", "protocol.optimizer", "range of partial.lr"))
    settings = {k: (x, y) for k, x, y in compare.settings_that_differ(old, own)}
    assert settings["searches"] == (1, 2) and settings["protocol.optimizer"] == ("adamw", "sgd") and "seed" not in settings


def rewrite_predictions(ledger: Ledger, change) -> None:
    """Rewrite the table of each confirm run by `change`."""
    for path in Path(ledger.folder.root).rglob("predictions.parquet"):
        table = change(pd.read_parquet(path))
        table.assign(group=table.group.astype("Int64")).to_parquet(path)  # pandas would make missing ones floats


def compared(copy: Ledger) -> dict[str, dict]:
    table, _ = compare.side_by_side(load(GOLDEN.as_posix()), load(copy))
    return {r["strategy"]: r for r in table.to_dict("records")}


def test_two_studies_are_paired_over_the_images_both_hold(copy: Ledger) -> None:
    """One strategy's runs are made worse: they predict another class on a tenth of all images."""

    def worse(t: pd.DataFrame) -> pd.DataFrame:
        logits = np.stack(t.logits.to_numpy())
        logits[::10] = np.roll(logits[::10], 1, axis=1)
        return t.assign(logits=list(logits.astype(np.float32)))

    same = compared(copy)["partial"]
    assert same["difference"] == 0 and same["low"] == pytest.approx(-same["high"]) and same["why_not"] == ""
    rewrite_predictions(copy, worse)
    row = compared(copy)["partial"]
    assert row["difference"] == pytest.approx(row["mean_b"] - row["mean_a"]) and row["high"] < 0
    own = max(row["high_a"] - row["mean_a"], row["high_b"] - row["mean_b"])
    assert row["high"] - row["difference"] < 1.5 * own, "images are shared"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.assign(image=["x" + i for i in t.image]), "the test images differ (360 in A, 360 in B, 0 of one name)"),
        (lambda t: t[(t.split == "val") | (t.groupby("split").cumcount() >= 10)],
            "the test images differ (360 in A, 350 in B, 350 of one name)"),
        (lambda t: t.assign(label=(t.label + 1) % 10), "360 of 360 test images have another label"),
        (lambda t: t.assign(group=np.arange(len(t)) % 9), "the recording sessions of the test images differ"),
    ],
)  # fmt: skip
def test_studies_on_other_images_are_not_paired_and_say_why(change, why: str, copy: Ledger, tmp_path: Path, capsys) -> None:
    rewrite_predictions(copy, change)
    row = compared(copy)["partial"]
    assert row["why_not"] == why and np.isnan(row["difference"])
    assert compare.main([str(GOLDEN), str(copy.folder.root), "--out", str(tmp_path / "c.html")]) == 0
    assert f"cannot be paired: {why}" in capsys.readouterr().out and f"cannot be paired: {why}" in (tmp_path / "c.html").read_text()
