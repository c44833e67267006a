"""A table of predictions holds each image once, whatever happened before: names in several ways, bad files mended, two writers, kills."""

import contextlib
import csv
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from study.errors import ConfigError, DataError, EnvironmentProblem
from study.predict import to_csv
from study.use.images import find_images
from study.use.table import PredictionsCsv

CLASSES = ["ash", "oak"]


class Stub:
    """A network of two classes: the first byte of a file is its class, and anything except 0 and 1 is no image."""

    classes = CLASSES
    several = False

    def named(self, shares: np.ndarray) -> np.ndarray:
        return shares.argmax(axis=1)

    def read(self, path: str) -> np.ndarray:
        first = Path(path).read_bytes()[0]
        if first > 1:
            raise DataError(f"{path} is no image")
        return np.full((1, 1, 1), first, np.uint8)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.eye(2)[images[:, 0, 0, 0]]


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:  # strict: whatever the names were
        own = list(csv.DictReader(file))
    named = {os.path.realpath(r["image"].removeprefix("'")): r for r in own}
    assert len(named) == len(own), "an image twice"
    return named


NAMES = [f"{k}.png" for k in range(5)]
CALL = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0, 1, 9]), max_size=3),  # what is written to the files before
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["full", "relative", "dotted", "linked"])), min_size=1, max_size=5),
    st.integers(0, 40),  # bytes that a kill tears off the end of the table
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CALL, min_size=1, max_size=5))
def test_each_image_has_one_row_and_it_is_the_newest_that_could_be_read(tmp_path_factory: pytest.TempPathFactory, calls: list) -> None:
    root = tmp_path_factory.mktemp("drawn")
    (root / "new").mkdir()
    (root / "link").symlink_to("new")
    for name in NAMES:
        (root / "new" / name).write_bytes(b"\0")
    ways = {"full": root / "new", "relative": Path(os.path.relpath(root / "new")), "dotted": root / "new" / ".." / "new",
        "linked": root / "link"}  # fmt: skip
    table, known = root / "out.csv", dict[str, str]()
    for contents, asked, torn in calls:
        for name, byte in contents.items():
            (root / "new" / name).write_bytes(bytes([byte]))
        if table.exists() and torn:
            whole = table.read_bytes()
            table.write_bytes(whole[: max(len(whole) - torn, 0)])
            left = set(rows_left(table))
            known = {name: text for name, text in known.items() if name in left}
        to_csv(Stub(), "net", find_images([ways[way] / name for name, way in asked]), table, 2)  # type: ignore[arg-type]
        for name, _ in asked:
            if known.get(name, "") == "":  # what was read once stays as it was
                byte = (root / "new" / name).read_bytes()[0]
                known[name] = CLASSES[byte] if byte < 2 else ""
        assert {Path(image).name: row["class"] for image, row in rows(table).items()} == known


def rows_left(table: Path) -> list[str]:
    lines = table.read_bytes().decode().split("\n")[:-1]
    return [Path(line.split(",")[0]).name for line in lines[1:]]


def test_of_many_that_write_one_table_at_once_one_does_and_the_others_are_told(tmp_path: Path) -> None:
    for attempt in range(10):
        path, barrier, ended = tmp_path / f"{attempt}.csv", threading.Barrier(6), list[str]()

        def write(path: Path = path, barrier: threading.Barrier = barrier, ended: list[str] = ended) -> None:
            barrier.wait()
            try:
                with PredictionsCsv(path, CLASSES, "net") as table:
                    left = [i for i in ("a", "b") if not table.has(i)]
                    table.add(left, np.eye(2)[: len(left)])
                ended.append("wrote")
            except EnvironmentProblem as error:
                ended.append(str(error))

        writers = [threading.Thread(target=write) for _ in range(6)]
        for w in writers:
            w.start()
        for w in writers:
            w.join()
        assert len(rows(path)) == 2 and "wrote" in ended
        assert all(e == "wrote" or "is being written by another study.predict" in e for e in ended) and len(ended) == 6


def test_a_table_that_is_written_is_refused_to_a_second(tmp_path: Path) -> None:
    with PredictionsCsv(tmp_path / "t.csv", CLASSES, "net") as table:
        table.add_problems([("a", "torn")])
        with pytest.raises(EnvironmentProblem, match="Wait for it"), PredictionsCsv(tmp_path / "t.csv", CLASSES, "net"):
            pass
    with (
        PredictionsCsv(tmp_path / "t.csv", CLASSES, "net", ["a"]) as table,  # rewritten without the row of a: another file by now
        pytest.raises(EnvironmentProblem, match="Wait for it"),
        PredictionsCsv(tmp_path / "t.csv", CLASSES, "net"),
    ):
        assert table.retried
    assert (tmp_path / "t.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    "data",
    [b"notes without an end of line", b"{}", b"image,class", b"image,label\na,b\n", b"\x89PNG" + bytes(200_000),
        b'"open' + b"x" * 200_000, bytes(range(256))],
)  # fmt: skip
def test_no_other_file_is_cut_or_added_to(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_bytes(data)
    if data == b"image,class":  # the beginning of our own first row: torn by a kill
        with PredictionsCsv(path, CLASSES, "net"):
            pass
        assert path.read_bytes().startswith(b"image,class,probability")
        return
    with pytest.raises(ConfigError, match="Choose another file with --csv"), PredictionsCsv(path, CLASSES, "net"):
        pass
    assert path.read_bytes() == data


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_of_another_are_cut(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    assume(not b"image,class,probability,p(ash),p(oak),problem,network".startswith(data))
    path = tmp_path_factory.getbasetemp() / "theirs"
    path.write_bytes(data)
    with pytest.raises(ConfigError), PredictionsCsv(path, CLASSES, "net"):
        pass
    assert path.read_bytes() == data


def test_names_of_any_bytes_make_a_table_that_others_read(tmp_path: Path) -> None:
    images = tmp_path / "new"
    images.mkdir()
    for name in (b"plain.png", b"latin-\xe4.png", b"\xff\xfe.png", b"=formula.png", b"re\rturn.png", "b\u00e4r.png".encode()):
        with open(os.path.join(os.fsencode(images), name), "wb") as file:
            file.write(b"\1")
    for _ in range(2):
        assert to_csv(Stub(), "net", find_images([images]), tmp_path / "t.csv", 4) == 0  # type: ignore[arg-type]
        assert len(rows(tmp_path / "t.csv")) == 6


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([-50.0, 50.0]), max_size=5), st.sets(st.sampled_from(NAMES), min_size=1))
def test_images_that_changed_after_their_row_was_written_are_named(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[str, float], asked: set[str]
) -> None:
    """A photograph taken anew under its name once kept the answer of the old one, without a word."""
    root = tmp_path_factory.mktemp("newer")
    images, table = [root / name for name in NAMES[:4]], root / "t.csv"
    for path in images:
        path.write_bytes(b"\0")
    to_csv(Stub(), "net", find_images(images), table, 2)  # type: ignore[arg-type]
    written = table.stat().st_mtime
    for name, later in changed.items():
        (root / name).write_bytes(b"\1")
        os.utime(root / name, (written + later, written + later))
    there = [root / name for name in sorted(asked) if (root / name).exists()]
    assume(there)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        to_csv(Stub(), "net", find_images(there), table, 2)  # type: ignore[arg-type]
    newer = [p for p in there if p in images and changed.get(p.name, 0) > 0]
    assert (f"{len(newer)} of these images were changed after" in said.getvalue()) == bool(newer)
    assert all(str(p) in said.getvalue() for p in newer[:3])
