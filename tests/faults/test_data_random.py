"""Folders and tables grown at random, of odd names and odd contents: a lawful table, or one line that says what is wrong.

`STUDY_MUTATIONS` is the number of cases of each kind.
"""

import contextlib
import io
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw
from PIL import Image

from study.datasets import open_dataset
from study.datasets.__main__ import main
from study.errors import ConfigError, DataError
from tests.faults.test_data_faults import weeds

CASES = settings(
    max_examples=int(os.environ.get("STUDY_MUTATIONS", "25")), deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def noise(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def picture(*size: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = picture(12, 12)
DIFFERENT = [noise(k) for k in range(120)]  # copies of one image could not be split
CONTENTS = [GOOD, GOOD, GOOD, GOOD, picture(1, 60, mode="L"), picture(3, 3, mode="RGBA"), picture(1, 200), b"", b"GIF89a", GOOD[:40],
    GOOD[:16] + struct.pack(">II", 10**6, 10**6) + GOOD[24:]]  # fmt: skip
SPLITS = ["train", "val", "test", "Train", "TEST", "valid", "training", "unlabelled"]
ODD = ["a", "b", "c", "A", "a ", "é", "e\u0301", "\\xff", "[red]", "[/]", ":cat:", "\x1b[31m", "two\nlines", "\u202e", "=1+1", "x" * 90,
    "x" * 91, ".git", "__MACOSX", "groups.csv", "a.jpg"]  # fmt: skip

names = draw.one_of(draw.sampled_from(ODD).map(os.fsencode), draw.binary(min_size=1, max_size=6)).filter(
    lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b"..")
)
classes = draw.dictionaries(names, draw.integers(0, 7), max_size=3).map(lambda odd: {b"a": 5, b"b": 6} | odd)
files = draw.lists(draw.tuples(names, draw.sampled_from([b".png", b".PNG", b".tif", b""]), draw.sampled_from(CONTENTS)), max_size=3)
links = draw.lists(draw.tuples(names, draw.sampled_from([".", "..", "a", "a/0.png", "../elsewhere", "nowhere", "itself"])), max_size=2)
tops = draw.one_of(
    draw.just([b""]),
    draw.lists(draw.sampled_from(SPLITS), unique=True, max_size=2).map(
        lambda more: [os.fsencode(n) for n in ("train", "val", "test", *more)]
    ),
    draw.lists(draw.sampled_from(SPLITS).map(os.fsencode), min_size=1, unique=True, max_size=3),
)


def grow(root: bytes, counts: dict[bytes, int], extra: list[tuple[bytes, bytes, bytes]], linked: list[tuple[bytes, str]]) -> None:
    """Write class folders of so many images, odd files in the first and beside them, and links beside them.

    What cannot be made is left out.
    """
    for name, count in counts.items():
        with contextlib.suppress(OSError):
            os.makedirs(root + b"/" + name)
            for k in range(count):
                Path(os.fsdecode(root + b"/" + name + b"/%d.png" % k)).write_bytes(DIFFERENT[(31 * sum(name) + k) % 120])
    for name, suffix, content in extra:
        for folder in (root, root + b"/a"):
            with contextlib.suppress(OSError):
                Path(os.fsdecode(folder + b"/" + name + suffix)).write_bytes(content)
    for name, target in linked:
        with contextlib.suppress(OSError):
            os.symlink(name if target == "itself" else os.fsencode(target), root + b"/" + name)


def table_or_one_line(name: str, root: Path | None = None, splits: str = "official") -> str | None:
    """Return what was wrong, or None for a table whose laws hold."""
    try:
        table = open_dataset(name, root=root, splits=splits)
    except (DataError, ConfigError) as error:
        text = str(error)
        assert text.isprintable() and 20 < len(text) < 5000, repr(text)
        return text
    size = len(table.ids)
    assert size == len(set(table.ids)) == len(table.labels) == len(table.split) and table.native_size >= 1
    assert set(table.split) <= {-1, 0, 1, 2} and {0, 1, 2} <= set(table.split)
    assert 0 <= table.labels.min() and table.labels.max() < len(table.classes)
    assert len(set(table.classes)) == len(table.classes) and all(c.isprintable() and len(c) <= 80 for c in table.classes)
    assert set(table.labels[table.split == 0]) == set(table.labels), "a class must be seen to be learnt"
    if table.groups is not None and "given" not in table.form and "official" not in table.form:
        parts = [set(table.groups[table.split == k]) for k in range(3)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    return None


@CASES
@given(tops, classes, files, links, draw.integers(0, 4))
def test_R1_random_folders_are_read_or_named(tmp_path_factory: pytest.TempPathFactory, inside, counts, extra, linked, fold: int) -> None:
    base = tmp_path_factory.mktemp("r1")
    root = base / "data"
    root.mkdir()
    (base / "elsewhere").mkdir()
    (base / "elsewhere" / "x.png").write_bytes(GOOD)
    for top in inside:
        grow(os.fsencode(root) + b"/" + top, counts, extra, linked)
    wrong = table_or_one_line(f"folder:{root}", splits=f"official:{fold}")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["check", str(root), "--splits", f"official:{fold}"])
    no_fold = wrong is not None and "there is no fold" in wrong  # a wrong question of right images
    assert code in ((0, 3) if wrong is None else (2,) if no_fold else (3,)), said.getvalue()
    assert all(line.isprintable() for line in said.getvalue().split("\n"))
    shutil.rmtree(base)


fields = draw.one_of(
    draw.sampled_from(["", "a/0.png", "b/5.png", "g", '"', '"g"', "é", "x" * 140_000, "1" * 5000, " "]), draw.text(max_size=5)
)
rows = draw.lists(draw.lists(fields, max_size=4).map(",".join), max_size=4)
endings = draw.sampled_from(["\n", "\r\n", "\r", "\n\n"])
encodings = draw.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le"])
headers = draw.sampled_from(["file,group", "file,group", "file,group", " File,GROUP ", "file,group,group", "file;group", "group", ""])


@CASES
@given(headers, draw.integers(1, 11), rows, endings, encodings, draw.binary(max_size=3))
def test_R2_random_groups_are_read_or_named(
    tmp_path_factory, header: str, count: int, odd, ending: str, encoding: str, tail: bytes
) -> None:
    root = tmp_path_factory.mktemp("r2")
    grow(os.fsencode(root), {b"a": 5, b"b": 6}, [], [])
    images = [f"{c}/{k}.png" for c, n in (("a", 5), ("b", 6)) for k in range(n)]
    lines = [header, *(f"{name},g{k % count}" for k, name in enumerate(images)), *odd]
    (root / "groups.csv").write_bytes(ending.join(lines).encode(encoding, "replace") + ending.encode(encoding) + tail)
    wrong = table_or_one_line(f"folder:{root}")
    assert wrong is None or "groups.csv" in wrong or "must be seen" in wrong or "split holds no image" in wrong, wrong
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ninety photographs by seven instruments: sessions enough to be split."""
    root = weeds(tmp_path_factory.mktemp("weeds"))
    old = sorted((root / "deepweeds" / "images").iterdir())
    new = [f"{path.stem[:-1]}{k % 7}.jpg" for k, path in enumerate(old)]
    for path, name in zip(old, new, strict=True):
        path.rename(path.with_name(name))
    for table in (root / "deepweeds" / "labels").iterdir():
        text = table.read_text()
        for path, name in zip(old, new, strict=True):
            text = text.replace(path.name, name)
        table.write_text(text)
    assert len(open_dataset("deepweeds", root=root, splits="session").ids) == 90
    return root


pieces = draw.one_of(draw.sampled_from([b",", b"\n", b"\r", b'"', b"7", b"77", b";", b"/", b"\x1b", b""]), draw.binary(max_size=3))
changes = draw.lists(draw.tuples(draw.integers(0, 3), draw.integers(0, 10**6), draw.integers(0, 4), pieces), min_size=1, max_size=4)


@CASES
@given(changes, draw.sampled_from(["official", "session"]))
def test_R3_random_changes_of_labels_are_read_or_named(field: Path, edits, splits: str) -> None:
    """Bytes are cut out and put in, anywhere in the four tables."""
    paths = sorted((field / "deepweeds" / "labels").iterdir())
    originals = [p.read_bytes() for p in paths]
    try:
        for which, at, cut, new in edits:
            data = paths[which].read_bytes()
            at %= len(data)
            paths[which].write_bytes(data[:at] + new + data[at + cut :])
        table_or_one_line("deepweeds", field, splits)
    finally:
        for path, data in zip(paths, originals, strict=True):
            path.write_bytes(data)
