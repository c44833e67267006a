"""Folders on a disk and behind a URL: rights, torn lines, and errors that are one line with the place."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from study.errors import ConfigError, EnvironmentProblem
from study.storage import lock, object_store
from study.storage.folder import Folder
from study.tracking.ledger import Ledger
from tests.goldens import GOLDEN


def test_X10_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "a"))
    folder.write("b/c.json", b"{}")
    folder.append_line("b/d.jsonl", b"{}")
    for path in (tmp_path / "a").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_torn_last_line_is_not_read_and_is_cut_before_the_next(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.append_line("x", b"one")
    with open(tmp_path / "x", "ab") as file:
        file.write(b"tw")
    folder.append_line("x", b"three")
    assert folder.read("x") == b"one\nthree\n"


@pytest.mark.parametrize(
    "act",
    [lambda f: f.read("a/b"), lambda f: f.names("a"), lambda f: f.exists("a/b"), lambda f: f.free()],
    ids=["read", "names", "exists", "free"],
)
def test_W3_reading_without_permission_is_a_line_about_reading(act, tmp_path: Path, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch, pytest.raises(EnvironmentProblem) as caught:
        for owner, name in ((os, "listdir"), (os, "stat"), (os, "open"), (shutil, "disk_usage")):
            patch.setattr(owner, name, refused)
        act(Folder(tmp_path))
    assert "no permission to read" in str(caught.value) and str(tmp_path) in str(caught.value) and "write" not in str(caught.value)


def test_W3_a_file_or_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("")
    below = Folder(tmp_path / "file" / "study")
    in_the_way = rf"^{tmp_path}/file is a file where a folder should be"
    for act in (
        lambda: below.read("a"),
        lambda: below.names("trials"),
        lambda: below.write("a", b""),
        lambda: below.append_line("a", b""),
        lambda: Folder(tmp_path / "file").read("a"),
        lambda: Folder(tmp_path / "file").names(),
        lambda: Folder(tmp_path / "file").write("a", b""),
        lambda: lock.held(Folder(tmp_path / "file")).__enter__(),
    ):
        with pytest.raises(EnvironmentProblem, match=in_the_way):
            act()
    for act in (lambda: Folder(tmp_path).read("folder"), lambda: Folder(tmp_path).write("folder", b"")):
        with pytest.raises(EnvironmentProblem, match=rf"^{tmp_path}/folder is a folder where a file should be"):
            act()
    assert Folder(tmp_path / "inner").read("file/config.json") is None, "a stray file among trials is not a trial"
    assert not below.exists("a") and below.free() and not list(tmp_path.glob("**/*.tmp"))


def test_what_is_removed_by_others_meanwhile_is_gone(tmp_path: Path, monkeypatch) -> None:
    remove, calls = shutil.rmtree, []

    def raced(path: str) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        if len(calls) == 2:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        remove(path)

    folder = Folder(tmp_path)
    folder.write("a/b/c", b"")
    monkeypatch.setattr(shutil, "rmtree", raced)
    folder.remove("a")
    assert len(calls) == 3 and folder.names() == []
    folder.remove("a")
    for location in (str(tmp_path), "memory://removed"):
        here = Folder(location)
        here.write("x/y", b"1")
        here.remove("x/y")
        here.remove("x/y")
        assert here.read("x/y") is None and not here.exists("x/y")

    def busy(path: str) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(shutil, "rmtree", busy)
    folder.write("a/b", b"")
    with pytest.raises(EnvironmentProblem, match="Directory not empty"):
        folder.remove("a")


class Listed(LocalFileSystem):
    """A store that many processes write to, and that keeps what it once listed, as those of object stores do."""

    protocol = ("listed",)

    def ls(self, path: str, detail: bool = False, **more: object) -> list:
        if path not in self.dircache:
            found = super().ls(path, detail=True, **more)
            self.dircache[path] = found
            return found if detail else [f["name"] for f in found]
        return self.dircache[path] if detail else [f["name"] for f in self.dircache[path]]


WRITER = """
import sys, fsspec
from pathlib import Path
from tests.test_files import Listed
from study.tracking.ledger import Ledger
fsspec.register_implementation("listed", Listed, clobber=True)
here, there = Ledger(sys.argv[1], "golden"), Ledger(Path("tests/golden/study"), "golden")
for line in sys.stdin:
    for ask in there.asks():
        if ask.number == int(line):
            here.write_ask(ask)
    print("written", flush=True)
"""


@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_what_another_process_writes_to_a_store_is_seen(chain: str, tmp_path: Path) -> None:
    """The sweep writes, and its mirror looks again and again, both through a store of their own."""
    fsspec.register_implementation("listed", Listed, clobber=True)
    url = f"listed://{tmp_path}/results"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=GOLDEN.parent.parent.parent
    ) as writer:
        ledger, seen = Ledger(chain + url, "golden"), []
        for number in (0, 1, 2):
            print(number, file=writer.stdin, flush=True)
            assert writer.stdout.readline() == "written\n"
            seen.append(len(ledger.asks()))
        writer.stdin.close()
    assert 0 < seen[0] < seen[1] < seen[2], seen


class RefusedByStore(Exception):
    """An error as a store's client raises it: no OSError, several lines, the password among them."""


class Refusing(MemoryFileSystem):
    protocol = ("refusing",)
    error: Exception = RefusedByStore("AccessDenied:\n  refusing://me:hunter2@bucket")

    def _refuse(self, *_: object, **__: object) -> None:
        raise self.error

    cat_file = pipe_file = makedirs = ls = exists = rm = _refuse


ACTS = {
    "read": [lambda f: f.read("a"), lambda f: f.names("a"), lambda f: f.exists("a")],
    "write": [lambda f: f.write("a", b"1"), lambda f: f.remove("a")],
}


@pytest.mark.parametrize("verb", ACTS)
def test_W3_errors_of_a_remote_store_are_a_line_with_its_url(verb: str, monkeypatch) -> None:
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    folder = Folder("refusing://me:hunter2@bucket/results")
    for error in (Refusing.error, TimeoutError(), PermissionError(errno.EACCES, "Forbidden"), OSError(errno.EIO, "Service Unavailable")):
        monkeypatch.setattr(Refusing, "error", error)
        for act in ACTS[verb]:
            with pytest.raises(EnvironmentProblem) as caught:
                act(folder)
            line = str(caught.value)
            assert f"cannot {verb} refusing://me:***@bucket/results/a: {type(error).__name__}" in line and "credentials" in line
            assert "\n" not in line and "hunter2" not in line
    for error in (AttributeError("a bug"), MemoryError(), InterruptedError()):
        monkeypatch.setattr(Refusing, "error", error)
        with pytest.raises(type(error)):
            folder.write("a", b"1")
    monkeypatch.setattr(Refusing, "error", FileNotFoundError(errno.ENOENT, "The specified bucket does not exist"))
    assert folder.read("a") is None and folder.names("a") == []
    with pytest.raises(EnvironmentProblem, match="bucket does not exist"):
        folder.write("a", b"1")


class Bucket(MemoryFileSystem):
    """A store as the clients of object stores show it: there are no folders, and asking for one makes its bucket."""

    protocol = "bucket"
    made: ClassVar[set[str]] = set()

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.made.add(path.partition("://")[2].partition("/")[0])

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: object) -> None:
        if path.partition("://")[2].partition("/")[0] not in self.made:
            raise FileNotFoundError(errno.ENOENT, "The specified bucket does not exist")


def test_a_misspelt_bucket_is_named_and_not_made(monkeypatch) -> None:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    monkeypatch.setattr(Bucket, "made", {"mine"})
    monkeypatch.setattr(object_store, "BUCKETS", {*object_store.BUCKETS, "bucket"})
    assert {"s3", "gs", "az"} <= object_store.BUCKETS
    Folder("bucket://mine/results").write("study.json", b"{}")
    with pytest.raises(EnvironmentProblem, match="cannot write bucket://mien/results/study.json.*The specified bucket does not exist"):
        Folder("bucket://mien/results").write("study.json", b"{}")
    assert Bucket.made == {"mine"}


def test_a_url_nobody_serves_and_one_without_its_client_are_told_apart(tmp_path: Path, capsys) -> None:
    from study import sweep

    known_implementations["absent"] = {"class": "no_such_client.FileSystem", "err": "Install absentfs to access it"}
    with pytest.raises(EnvironmentProblem, match=r"^absent://bucket/x needs a package .*Install absentfs"):
        Folder("absent://bucket/x")
    with pytest.raises(ConfigError, match=r"^nothing serves nope://x .*s3://"):
        Folder("nope://x")
    for url, code in (("nope://x", ConfigError.exit_code), ("absent://bucket/x", EnvironmentProblem.exit_code)):
        assert sweep.main(["quickstart", "--results", url]) == code
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ") and url in line


def test_a_store_that_cannot_be_reached_is_said_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Once, PyTorch was loaded and all images were read before that."""
    from study import sweep

    def refuse(self: object, path: str, **options: object) -> list[str]:
        raise PermissionError(13, "Access Denied", path)

    monkeypatch.setattr(type(Folder("memory://closed").fs), "ls", refuse)
    monkeypatch.setattr(sweep, "busy", lambda *words, **options: pytest.fail("something was loaded"))
    assert sweep.main(["quickstart", "--results", "memory://closed/x"]) == EnvironmentProblem.exit_code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "memory://closed/x" in line and line.startswith("error: ")


def test_what_lies_behind_a_url_is_named_by_it(tmp_path: Path) -> None:
    assert (
        Folder("memory://me:hunter2@results/x").shown("a") == "memory://me:***@results/x/a"
        and Folder(tmp_path).shown("a") == f"{tmp_path}/a"
    )
    Folder("memory://broken/s").write("trials/0123456789abcdef/config.json", b"{")
    said = "^memory://broken/s/trials/0.*/config.json is damaged .*remove memory://broken/s/trials/0123456789abcdef "
    with pytest.raises(EnvironmentProblem, match=said):
        Ledger("memory://broken", "s").asks()


def test_a_remote_ledger_reads_as_it_was_written() -> None:
    remote, local = Folder("memory://results/golden"), Folder(str(GOLDEN / "golden"))
    names = [
        "study.json",
        "selection.json",
        *(
            f"trials/{t}/{n}"
            for t in local.names("trials")
            for n in ("config.json", "epochs.jsonl", "result.json", "measured/predictions.parquet")
        ),
    ]
    for name in names:
        if (data := local.read(name)) is not None:
            remote.write(name, data)
    a, b = Ledger("memory://results", "golden"), Ledger(GOLDEN, "golden")
    assert a.asks() == b.asks() and a.results() == b.results() and a.study() == b.study()
