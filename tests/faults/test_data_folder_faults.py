"""Folders that strangers made: nothing is left out without a word, nothing is merged, nothing reaches the terminal raw."""

import contextlib
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.datasets import open_dataset
from study.datasets.__main__ import main, print_report
from study.datasets.audit import audit
from study.datasets.audit_page import write_page
from study.errors import ConfigError, DataError
from tests.test_datasets import folder

ESCAPE = "\x1b]0;owned\x07\x1b[31mred"


def splits(root: Path, *names: str, classes: int = 2, count: int = 3) -> Path:
    for name in names:
        folder(root / name, {chr(97 + k): count for k in range(classes)})
    return root


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text.isprintable() and len(text) < 2000, repr(text)
    return text


# ---- splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["Train", "TRAIN", "training"])
def test_S1_two_folders_for_one_split_are_refused(second: str, tmp_path: Path) -> None:
    root = splits(tmp_path, "train", second, "val", "test")
    with pytest.raises(DataError, match=f"(?s){second}.*train.*Keep one|train.*{second}.*Keep one"):
        open_dataset(f"folder:{root}")


def test_S2_what_is_left_out_is_said_with_its_reason(tmp_path: Path, capsys) -> None:
    root = splits(tmp_path, "train", "val", "test", "unlabelled")
    (root / "notes.txt").write_text("x")
    (root / "train" / "stray.png").write_bytes(b"x")
    (root / "train" / "a" / "scan.psd").write_bytes(b"x")
    (root / "train" / "a" / "other.psd").write_bytes(b"x")
    (root / "train" / "a" / ".DS_Store").write_bytes(b"x")
    os.symlink(root / "train" / "b", root / "train" / "a" / "loop")
    table = open_dataset(f"folder:{root}")
    assert len(table.ids) == 18
    assert {Path(name).name for name, _ in table.ignored} == {
        "unlabelled",
        "notes.txt",
        "stray.png",
        "scan.psd",
        "other.psd",
        ".DS_Store",
        "loop",
    }
    assert "left out: " in table.form and "2 (.psd is not read)" in table.form and "1 (beside the splits, 6 images in it)" in table.form
    assert main(["check", str(root)]) == 0
    said = capsys.readouterr().out
    assert all(
        n in said for n in ("unlabelled (beside the splits, 6 images in it)", "scan.psd (.psd is not read)", "loop (a link to a folder)")
    )
    root = folder(tmp_path / "flat", {"a": 5, "b": 5})
    (root / "c.png").write_bytes((root / "a" / "000.png").read_bytes())
    assert open_dataset(f"folder:{root}").ignored == (("c.png", "beside the class folders"),)


def test_S3_of_many_left_out_the_first_twenty_are_shown(tmp_path: Path, capsys) -> None:
    root = folder(tmp_path / "data", {"a": 5, "b": 5})
    for k in range(30):
        (root / "a" / f"{k:02d}.psd").write_bytes(b"x")
    assert main(["check", str(root)]) == 0
    said = capsys.readouterr().out
    assert "19.psd" in said and "20.psd" not in said and "and 10 more" in said


def test_S4_an_empty_split_is_refused_by_name(tmp_path: Path) -> None:
    root = splits(tmp_path, "train", "val")
    (root / "test").mkdir()
    with pytest.raises(DataError, match="the test split holds no image"):
        open_dataset(f"folder:{root}")


# ---- links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["c", "train/c", "test"])
def test_L1_a_folder_that_links_out_of_the_tree_is_refused(where: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if where == "c":
        folder(root, {"a": 5, "b": 5})
    else:
        splits(root, "train", "val", *([] if where == "test" else ["test"]))
    os.symlink(folder(tmp_path / "outside", {"a": 6, "b": 6}) / ("a" if where != "test" else ""), root / where)
    with pytest.raises(DataError, match=f"{where} links to a folder outside .*copy it"):
        open_dataset(f"folder:{root}")


@pytest.mark.parametrize("target", ["..", "."])
def test_L2_a_class_folder_that_links_to_what_holds_it_is_refused(target: str, tmp_path: Path) -> None:
    root = splits(tmp_path, "train", "val", "test")
    os.symlink(target, root / "train" / "c")
    with pytest.raises(DataError, match="train/c links to a folder that holds it"):
        open_dataset(f"folder:{root}")


def test_L3_links_to_themselves_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", {"a": 5, "b": 5})
    os.symlink("loop", root / "loop")
    assert open_dataset(f"folder:{root}").ignored == (("loop", "beside the class folders"),)
    os.symlink("self.png", root / "a" / "self.png")
    with pytest.raises(DataError, match=r"self\.png"):
        open_dataset(f"folder:{root}")
    os.symlink("round", tmp_path / "round")
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(f"folder:{tmp_path / 'round'}")


# ---- names -------------------------------------------------------------------------------------------------

ALIKE = {
    "a byte and its escape": (b"\xff", b"\\xff"),
    "composed and decomposed": ("\u00e9".encode(), "e\u0301".encode()),
    "a space at the end": (b"cat", b"cat "),
    "two spaces": (b"a b", b"a  b"),
    "the same first eighty characters": (b"x" * 100 + b"1", b"x" * 100 + b"2"),
    "a control character and its escape": (b"\x07", b"\\x07"),
    "a ligature": ("\ufb01r".encode(), b"fir"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_N1_classes_that_are_shown_alike_are_refused(case: str, tmp_path: Path) -> None:
    for name in ALIKE[case]:
        folder(tmp_path / os.fsdecode(name), {"": 5})
    with pytest.raises(DataError, match="look alike") as caught:
        open_dataset(f"folder:{tmp_path}")
    one_line(caught.value)


def test_N2_classes_that_differ_in_case_only_stay_apart_with_a_warning(tmp_path: Path) -> None:
    """Letters have both cases, so they are no mistake by themselves."""
    table = open_dataset(f"folder:{folder(tmp_path, {'a': 5, 'A': 5, 'b': 5})}")
    assert table.classes == ("A", "a", "b")
    assert any("A and a differ in case only" in w for w in audit(table).warnings)


def test_N3_one_class_in_three_splits_may_be_spelt_by_different_systems(tmp_path: Path) -> None:
    for name, form in (("train", "NFC"), ("val", "NFD"), ("test", "NFC")):
        folder(tmp_path / name, {unicodedata.normalize(form, "caf\u00e9"): 2, "b": 2})
    assert open_dataset(f"folder:{tmp_path}").classes == ("b", "caf\u00e9")


def test_N4_two_files_that_are_shown_alike_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 5, "b": 5})
    data = (root / "a" / "000.png").read_bytes()
    for name in (b"\xff.png", b"\\xff.png"):
        Path(os.fsdecode(os.fsencode(root / "a") + b"/" + name)).write_bytes(data)
    with pytest.raises(DataError, match=r"xff\.png.* Rename"):
        open_dataset(f"folder:{root}")


@pytest.mark.parametrize("path", ["a\0b", "no\udcffutf8", "x" * 5000, "new\nline", ESCAPE, "[/b]"])
def test_N5_paths_that_are_none_are_one_line(path: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, ConfigError)) as caught:
        open_dataset(f"folder:{path}")
    one_line(caught.value)
    for what in (path, f"folder:{path}"):
        with pytest.raises(SystemExit, match="2") if "\0" in path else contextlib.nullcontext():
            assert main(["check", what]) in (2, 3)
        assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())
    if "\0" not in path and len(path) < 200:  # and where it is one, it is read or named
        folder(tmp_path / path, {"a": 5, "b": 5})
        assert main(["check", path]) == (3 if "\udcff" in path else 0)
        capsys.readouterr()


HOSTILE = {"class": f"cl{ESCAPE}", "markup": "[/bold]", "colour": "[red]x[", "line": "two\nlines", "right to left": "\u202eabc"}


@pytest.mark.parametrize("kind", HOSTILE)
def test_N6_names_reach_terminal_and_page_escaped(kind: str, tmp_path: Path, capsys) -> None:
    name = HOSTILE[kind]
    root = folder(
        tmp_path / f"d{name}".replace("/", "∕"), {name.replace("/", "∕"): 12, "b": 12, "c": 2 if kind == "class" else 12, "[b]": 12}
    )
    broken = root / "b" / f"f{name}.png".replace("/", "∕")
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:60])
    (root / "b" / f"left{name}.psd".replace("/", "∕")).write_bytes(b"x")
    code = main(["check", str(root), "--html", str(tmp_path / "page.html"), "--json", str(tmp_path / "report.json")])
    said = capsys.readouterr()
    assert code == (3 if kind == "class" else 0), said.err
    for raw in (c for c in (said.out + said.err).replace("\n", "") if not c.isprintable()):
        raise AssertionError(f"{raw!r} reached the terminal")
    (root / "c").rename(root / "empty")
    for file in (root / "empty").iterdir():
        file.unlink()
    assert main(["check", str(root)]) == 3
    assert capsys.readouterr().err[:-1].isprintable()


def test_N7_names_in_brackets_are_no_markup(tmp_path: Path, capsys) -> None:
    table = open_dataset(f"folder:{folder(tmp_path / '[red]', {'[bold]': 5, '[∕x]': 5, ':cat:': 5})}")
    print_report(audit(table))
    said = capsys.readouterr().out
    assert "[bold]" in said and "[red]" in said and ":cat:" in said
    write_page(table, audit(table), tmp_path / "page.html")


def test_N8_a_terminal_that_is_no_utf8_gets_escapes(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", {"猫": 5, "b": 5})
    done = subprocess.run(
        [sys.executable, "-m", "study.datasets", "check", str(root)], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
