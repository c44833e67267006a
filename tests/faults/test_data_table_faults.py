"""Tables that strangers made: groups.csv, DeepWeeds' CSV files, FER2013 and its votes.

Each fault is a line with file, line and way out.
"""

import bz2
import gzip
import lzma
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from study.datasets import open_dataset
from study.datasets.fer2013 import read_csv
from study.errors import DataError
from tests.faults.test_data_faults import GOOD, csv_of, weeds
from tests.test_datasets import folder

NAMES = [f"{c}/{k:03d}.png" for c in "ab" for k in range(10)]
GROUPS = "file,group\n" + "".join(f"{n},g{k // 2}\n" for k, n in enumerate(NAMES))


def refused(name: str, message: str, root: Path | None = None, splits: str = "official") -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(name, root=root, splits=splits)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1000
    assert re.search(r"; \w|\. [A-Z]|\bmust\b|\bneeds\b", text), f"no way out in {text!r}"


def at(line: int, new: str, text: str = GROUPS) -> str:
    lines = text.splitlines(keepends=True)
    lines[line - 1] = new
    return "".join(lines)


GROUP_FAULTS: dict[str, tuple[bytes | str, str]] = {
    "Latin-1": (at(4, "a/002.png,Gr\u00f6n\n").encode("latin-1"), r"groups\.csv:4: .*not UTF-8.*iconv"),
    "UTF-16": (GROUPS.encode("utf-16"), "UTF-16"),
    "UTF-16 without its mark": (GROUPS.encode("utf-16-le"), "NUL"),
    "a NUL": (at(3, "a/001.png,\0\n"), r"groups\.csv:3: .*NUL"),
    "empty": ("", "file and group"),
    "blank": ("\n\n", "file and group"),
    "a header only": ("file,group\n", "no row"),
    "no header": (GROUPS.split("\n", 1)[1], "file and group"),
    "another header": (at(1, "name,patient\n"), "file and group"),
    "semicolons": (GROUPS.replace(",", ";"), "separated by ';'"),
    "tabs": (GROUPS.replace(",", "\t"), "separated by"),
    "a short row": (at(5, "a/003.png\n"), r"groups\.csv:5: has 1 columns, the header 2"),
    "a long row": (at(5, "a/003.png,1,2\n"), r"groups\.csv:5: has 3 columns"),
    "no group": (at(5, "a/003.png,\n"), r"groups\.csv:5: group is ''"),
    "no file": (at(5, ",g1\n"), r"groups\.csv:5: file is ''"),
    "a long field": (at(5, f"a/003.png,{'x' * 200_000}\n"), r"groups\.csv:5: field larger"),
    "an open quote": (at(5, '"a/003.png,g1\n'), r"groups\.csv:2\d: "),
    "text after a quote": (at(5, '"a/003.png"x,g1\n'), r"groups\.csv:5: "),
    "a doubled column": ("file,group,group\n" + "".join(f"{n},g{k},x\n" for k, n in enumerate(NAMES)), "'group' twice"),
    "CR alone": (GROUPS.replace("\n", "\r"), r"groups\.csv:1: .*CR"),
    "two groups of one file": (GROUPS + "a/000.png,g9\n", r"groups\.csv:22: a/000\.png is in group g9 here and in g0 at line 2"),
    "a file without group": (at(5, ""), r"a/003\.png"),
    "one group": (re.sub("g\\d+", "g", GROUPS), r"groups\.csv has 1 group.* at least 5"),
    "two groups": (re.sub("g(\\d)", lambda m: f"g{int(m[1]) % 2}", GROUPS.replace("g9", "g1")), r"has 2 groups"),
    "four groups": (re.sub("g(\\d+)", lambda m: f"g{int(m[1]) % 4}", GROUPS), r"has 4 groups"),
    "an escape": (at(1, "fi\x1b[31mle,group\n"), "file and group"),
}


@pytest.mark.parametrize("case", GROUP_FAULTS)
def test_G1_a_broken_groups_file_is_one_line(case: str, tmp_path: Path) -> None:
    content, message = GROUP_FAULTS[case]
    root = folder(tmp_path, {"a": 10, "b": 10})
    (root / "groups.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(f"folder:{root}", message)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: b"\xef\xbb\xbf" + t.replace("\n", "\r\n").encode(),
        lambda t: (t + "a/000.png,g0\n").encode(),
        lambda t: t.replace("file,group", " File , Group,note").replace("\na", '\n"a').replace(".png", '.png"', 10).replace("\n",
            ",\n").replace(",note,", ",note").encode(),
        lambda t: t.replace("\n", "\n\n").encode(),
    ],
    ids=["BOM and CRLF", "listed twice alike", "quotes, blanks, another column", "empty lines"],
)  # fmt: skip
def test_G2_harmless_groups_files_are_read_alike(make: Callable[[str], bytes], tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 10, "b": 10})
    (root / "groups.csv").write_text(GROUPS)
    expected = open_dataset(f"folder:{root}")
    (root / "groups.csv").write_bytes(make(GROUPS))
    found = open_dataset(f"folder:{root}")
    np.testing.assert_array_equal(found.groups, expected.groups)
    np.testing.assert_array_equal(found.split, expected.split)


def test_G3_groups_that_leave_a_split_or_a_class_without_images_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 10, "b": 10})
    lines = [f"{n},{'all of a' if n[0] == 'a' else n}\n" for n in NAMES]
    (root / "groups.csv").write_text("file,group\n" + "".join(lines))
    for fold in range(5):
        try:
            table = open_dataset(f"folder:{root}", splits=f"official:{fold}")
        except DataError as error:
            assert "must be seen" in str(error) or "split holds no image" in str(error)
        else:
            assert set(table.labels[table.split == 0]) == {0, 1}


def test_G4_a_groups_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 10, "b": 10})
    os.symlink(tmp_path / "nowhere.csv", root / "groups.csv")
    refused(f"folder:{root}", r"groups\.csv is no regular file")


LABEL_FAULTS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "a label of 5,000 digits": (lambda t: t.replace("-0.jpg,0,", f"-0.jpg,{'1' * 5000},", 1), r"labels\.csv:2: Label is '1+'"),
    "CR alone": (lambda t: t.replace("\n", "\r"), r"labels\.csv:1: .*CR"),
    "a long field": (lambda t: t.replace(",x", "," + "x" * 200_000, 1), r"labels\.csv:2: field larger"),
    "a doubled column": (lambda t: t.replace("Species", "Label"), "'Label' twice"),
    "UTF-16": (lambda t: t.encode("utf-16"), "UTF-16"),
    "Latin-1": (lambda t: t.replace(",x", ",\u00e9", 1).encode("latin-1"), r"labels\.csv:2: .*not UTF-8"),
    "a header only": (lambda t: t.splitlines()[0], "no row"),
    "a name with a line end": (lambda t: t.replace("20170101-080000-0.jpg", '"two\nlines.jpg"', 1), "not in"),
    "a name with an escape": (lambda t: t.replace("20170101-080000-0.jpg", "\x1b[31m.jpg", 1), "not in"),
}


@pytest.mark.parametrize("case", LABEL_FAULTS)
def test_W1_broken_labels_are_one_line(case: str, tmp_path: Path) -> None:
    root = weeds(tmp_path)
    path = root / "deepweeds" / "labels" / "labels.csv"
    change, message = LABEL_FAULTS[case]
    content = change(path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("deepweeds", message, root, splits="session")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_W2_an_empty_split_is_refused_by_its_file(split: str, tmp_path: Path) -> None:
    root = weeds(tmp_path)
    (root / "deepweeds" / "labels" / f"{split}_subset0.csv").write_text("Filename,Label\n")
    refused("deepweeds", rf"{split}_subset0\.csv .*no row", root)


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "\u0663", "-1"])
def test_W3_an_instrument_that_is_no_small_number_is_named(number: str, tmp_path: Path) -> None:
    root = weeds(tmp_path)
    labels = root / "deepweeds" / "labels"
    for path in labels.iterdir():
        path.write_text(path.read_text().replace("20170101-080000-0.jpg", f"20170101-080000-{number}.jpg"))
    if len(number) < 100:
        (root / "deepweeds" / "images" / "20170101-080000-0.jpg").rename(root / "deepweeds" / "images" / f"20170101-080000-{number}.jpg")
    refused("deepweeds", "INSTRUMENT" if len(number) < 100 else "not in", root)


def test_W4_too_few_sessions_or_images_of_a_class_are_refused(tmp_path: Path) -> None:
    root = weeds(tmp_path)
    refused("deepweeds", "1 group", root, splits="session")


FER = "usage,name," + ",".join(f"v{k}" for k in range(10)) + "\n"


@pytest.mark.parametrize(
    ("line", "message"), [("Training,f.png,1,2", r"fer2013new\.csv:4: has 4 columns"), ("Training,f.png" + ",1" * 9 + ",x", r":4: votes")]
)
def test_F1_broken_votes_are_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_bytes(csv_of())
    votes = ["Training,f.png" + ",10" + ",0" * 9] * 21
    votes[2] = line
    (tmp_path / "fer2013new.csv").write_text(FER + "\n".join(votes) + "\n")
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "fer2013.csv", "ferplus")


@pytest.mark.parametrize("row", ["../../etc/x.png,(0 0 48 48)" + ",10" + ",0" * 9, "x.png,(0 0 48 48),10"])
def test_F2_names_and_rows_of_ferplus_folders_are_checked(row: str, tmp_path: Path) -> None:
    for part in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "label.csv").write_text(row + "\n")
    refused("fer2013", r"label\.csv:1: ", tmp_path)


def test_F3_a_doubled_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage,Emotion\n" + f"0,{GOOD},Training,1\n")
    refused("fer2013", "'emotion' twice", tmp_path)


# ---- compressed --------------------------------------------------------------------------------------------

PACKERS = {".gz": lambda p: gzip.open(p, "wb", 1), ".bz2": lambda p: bz2.open(p, "wb", 1), ".xz": lambda p: lzma.open(p, "wb", preset=0)}
READ = """
import resource, sys
from pathlib import Path
from study.datasets import open_dataset
from study.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try: open_dataset("fer2013", root=Path(sys.argv[1]))
except DataError as error: print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("suffix", PACKERS)
def test_B1_a_bomb_is_refused_by_name_with_little_memory(suffix: str, tmp_path: Path) -> None:
    with PACKERS[suffix](tmp_path / f"fer2013.csv{suffix}") as file:
        for _ in range(300):
            file.write(b"0" * 1_000_000)
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, megabytes = done.stdout.splitlines()
    assert f"fer2013.csv{suffix}" in said and "bomb" in said
    assert float(megabytes) < 300, f"{megabytes} MB"


@pytest.mark.parametrize("suffix", PACKERS)
def test_B2_cut_and_garbled_files_are_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"fer2013.csv{suffix}"
    with PACKERS[suffix](path) as file:
        file.write(csv_of(*[f"0,{' '.join(map(str, np.random.default_rng(k).integers(0, 256, 2304)))},Training" for k in range(9)]))
    data = path.read_bytes()
    assert len(open_dataset("fer2013", root=tmp_path).ids) == 30
    for broken in (data[: len(data) // 2], data[:50] + bytes(99) + data[149:], b"", b"plain text"):
        path.write_bytes(broken)
        refused("fer2013", rf"fer2013\.csv{suffix}", tmp_path)


def test_B3_a_plain_file_larger_than_any_fer2013_is_not_read_into_memory(tmp_path: Path) -> None:
    with open(tmp_path / "fer2013.csv", "wb") as file:
        file.truncate(30_000_000_000)  # sparse
    refused("fer2013", r"fer2013\.csv.*more than", tmp_path)
