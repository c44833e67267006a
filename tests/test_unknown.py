"""Pictures of none of the classes: told by their features, with the measure of each class left out, and silent where that fails."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from study.conduct.known_features import unknown_of
from study.errors import ConfigError
from study.tracking.ledger import Ledger
from study.use import unknown
from study.use.asked import Asked
from study.use.unknown import Known, Unknown, nearness, recognised
from tests.goldens import GOLDEN

CLASSES = ["a", "b", "c", "d"]


def drawn(rng: np.random.Generator, images: int, spread: float, of: tuple[int, ...] = (0, 1, 2, 3), dimensions: int = 16) -> tuple:
    """Unit features around one axis a class, and labels."""
    labels = rng.choice(of, images)
    found = np.eye(dimensions)[labels] + spread * rng.standard_normal((images, dimensions))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels


def known_of(spread: float, val: int = 200, seed: int = 0) -> Known:
    rng = np.random.default_rng(seed)
    (train, train_labels), (own, labels) = drawn(rng, 400, spread), drawn(rng, val, spread)
    return Known(train=train, train_labels=train_labels, val=own, val_labels=labels)


def made(known: Known) -> Unknown:
    return Unknown(SimpleNamespace(), known, CLASSES)  # type: ignore[arg-type]


def test_the_nearness_is_the_cosine_to_the_third_nearest() -> None:
    train = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    assert nearness(np.array([[1, 0]], np.float32), train).tolist() == [0.0]
    assert nearness(np.array([[1, 0]], np.float32), train[:2]) == pytest.approx([0.8]), "of two, the second"


def test_classes_that_lie_apart_are_recognised_when_left_out_and_others_are_seldom_mistaken() -> None:
    own = made(known_of(0.1))
    assert own.trusted and own.mean > 0.95 and set(own.recognised) == {0, 1, 2, 3}
    assert "with each class left out in turn" in own.text and "5 % are mistaken" in own.text
    rng = np.random.default_rng(5)
    mistaken = [(nearness(drawn(rng, 200, 0.1)[0], own.known.train) < own.least).mean() for _ in range(20)]
    assert np.mean(mistaken) < 0.08
    strangers = drawn(rng, 200, 0.1, of=(9,))[0]
    assert (nearness(strangers, own.known.train) < own.least).all()


def test_where_a_class_that_was_left_out_looks_like_the_others_it_says_yes_and_never_no() -> None:
    own = made(known_of(2.0))
    assert own.speaks and not own.trusted and own.mean < 0.5 and own.text.startswith('"none of these" says yes or nothing')
    few = made(known_of(0.1, val=15))
    assert not few.speaks and few.text == '"none of these" is off: it needs 19 validation images, and there are 15'
    with pytest.raises(ConfigError, match="is off"):
        few.of(np.zeros((1, 8, 8, 3), np.uint8))


def test_where_no_class_can_be_left_out_both_numbers_that_it_takes_are_named() -> None:
    rng = np.random.default_rng(0)
    (train, labels), (val, _) = drawn(rng, 72, 0.1, of=(0, 1)), drawn(rng, 24, 0.1, of=(0, 1))
    own = made(Known(train=train, train_labels=labels, val=val, val_labels=np.arange(24) % 2))  # 12 of each: enough to leave out
    assert own.least is not None and not own.speaks
    assert "5 validation images of it and 19 of the others" in own.text and "of the 24 validation images" in own.text


def test_a_left_out_class_helps_in_nothing() -> None:
    """Neither its training images nor its validation images are used where it is left out: by hand for one class."""
    known = known_of(0.4)
    own, others, train = known.val[known.val_labels == 2], known.val[known.val_labels != 2], known.train[known.train_labels != 2]
    near = np.sort(nearness(others, train))[::-1]
    least = near[int(np.ceil((len(others) + 1) * 0.95)) - 1]
    assert recognised(known)[2] == pytest.approx((nearness(own, train) < least).mean())


def test_features_are_kept_and_read_back() -> None:
    known = known_of(0.1)
    again = Known.from_bytes(known.as_bytes())
    assert np.allclose(again.train, known.train, atol=1e-3) and (again.val_labels == known.val_labels).all()
    assert made(again).mean == pytest.approx(made(known).mean, abs=0.02)
    with pytest.raises(Exception, match=r".+"):
        Known.from_bytes(b"torn")


def test_without_a_kept_line_it_says_what_is_missing() -> None:
    ledger = Ledger(str(GOLDEN), "golden")
    study = ledger.study()
    assert study is not None
    if not any(ledger.trial_folder(a.trial_id).exists("best/manifest.json") for a in ledger.asks()):
        assert unknown_of(ledger, study.cells[0], None, make=False) is None
        with pytest.raises(ConfigError, match="keeps no network of the line to beat"):
            unknown_of(ledger, study.cells[0], None)


def test_a_table_says_it_of_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("near.png", "far.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    own = made(known_of(0.1))
    own.network = SimpleNamespace(read=lambda path: np.full((8, 8, 3), "far" in path, np.uint8))  # type: ignore[assignment]
    places = {0: np.eye(16, dtype=np.float32)[:1], 1: np.eye(16, dtype=np.float32)[9:10]}
    monkeypatch.setattr(unknown, "features", lambda network, images: np.concatenate([places[int(i.max())] for i in images]))
    asked = Asked(CLASSES, unknown=own)
    paths = [str(tmp_path / n) for n in ("near.png", "far.png")]
    assert asked.names == ["none_of_these"] and asked.rows(paths, np.full((2, 4), 0.25)) == [["no"], ["yes"]]
    assert [v["none_of_these"] for v in asked.values(paths, np.full((2, 4), 0.25))] == [False, True]
    assert asked.words({"none_of_these": True}) == ["none of these"] and asked.words({"none_of_these": False}) == []
    own.recognised = {0: 0.1, 1: 0.2}  # which vouches for nothing
    assert asked.rows(paths, np.full((2, 4), 0.25)) == [[""], ["yes"]]
    assert [v["none_of_these"] for v in asked.values(paths, np.full((2, 4), 0.25))] == [None, True]
    off = Asked(CLASSES, unknown=made(known_of(0.1, val=15)))
    assert off.names == [] and off.rows(paths, np.full((2, 4), 0.25)) == [[], []] and "is off" in off.texts[0]
