"""Files that are built once and shared: whatever happened to one of them, the right numbers come back, or one line."""

import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from study.datasets import open_dataset
from study.datasets.cache import pixels
from study.errors import EnvironmentProblem
from study.training.activations import ActivationStore


def ones(positions: np.ndarray) -> torch.Tensor:
    return torch.ones(len(positions), 4) * torch.from_numpy(positions)[:, None]


KINDS: dict[str, Callable[[Path], np.ndarray | None]] = {
    "pixels": lambda root: pixels(open_dataset("digits"), 8, root),
    "activations": lambda root: ActivationStore(root, 1e6).rows({"k": 1}, 100, ones),
}


def only(root: Path, suffix: str) -> Path:
    (path,) = root.rglob(f"*{suffix}")
    return path


def change(path: Path, made: Callable[[bytes], bytes]) -> None:
    data = made(path.read_bytes())
    path.write_bytes(data)
    then = path.stat().st_mtime_ns + 1_000_000_000  # clocks of file systems tick every few milliseconds
    os.utime(path, ns=(then, then))


def without(*names: str) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({k: v for k, v in json.loads(data).items() if k not in names}).encode()


def saying(**values: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | values).encode()


DATA = {
    "empty": lambda d: b"",
    "cut": lambda d: d[:-100],
    "cut in its header": lambda d: d[:40],
    "longer": lambda d: d + b"x",
    "one bit": lambda d: d[:-7] + bytes([d[-7] ^ 1]) + d[-6:],
    "other numbers": lambda d: d[:128] + bytes(255 - b for b in d[128:]),
    "zeros": lambda d: bytes(len(d)),
    "a zip": lambda d: b"PK\3\4" + d[4:],
    "a header that is no literal": lambda d: d[:10] + b"(" * 118 + d[128:],
    "a pickle": lambda d: b"\x80\4K\1.",
}
MANIFESTS = {
    "empty": lambda d: b"",
    "nothing in it": lambda d: b"{}",
    "a list": lambda d: b"[]",
    "null": lambda d: b"null",
    "a number": lambda d: b"7",
    "a text": lambda d: b'"shape"',
    "cut": lambda d: d[: len(d) // 2],
    "no text": lambda d: b"\xff\xfe\0",
    "deeply nested": lambda d: b"[" * 100_000,
    "of the version without checksums": without("sha256"),
    "another shape": saying(shape=[1, 2, 3]),
    "a shape that is none": saying(shape="large"),
    "another checksum": saying(sha256="0" * 64),
    "a checksum that is none": saying(sha256=7),
}
DAMAGES = [(".npy", n) for n in DATA] + [(".json", n) for n in MANIFESTS]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("suffix", "damage"), DAMAGES, ids=[f"{s[1:]} {d}" for s, d in DAMAGES])
def test_K1_a_damaged_file_is_built_again_and_never_used(kind: str, suffix: str, damage: str, tmp_path: Path) -> None:
    expected = np.array(KINDS[kind](tmp_path))
    file = only(tmp_path, suffix)
    whole = file.read_bytes()
    change(file, (DATA if suffix == ".npy" else MANIFESTS)[damage])
    found = KINDS[kind](tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    assert only(tmp_path, suffix).read_bytes() == whole and not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("kind", KINDS)
def test_K2_what_is_whole_is_hashed_once_a_process_and_built_once(kind: str, tmp_path: Path, monkeypatch) -> None:
    import hashlib

    hashed: list[object] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: hashed.append(file.name) or digest(file, name))
    first = KINDS[kind](tmp_path)
    built = only(tmp_path, ".npy").stat()
    for _ in range(3):
        np.testing.assert_array_equal(KINDS[kind](tmp_path), first)
    assert len(hashed) == 1 and only(tmp_path, ".npy").stat().st_ino == built.st_ino
    change(only(tmp_path, ".npy"), lambda d: d)  # written again by somebody: looked at again
    KINDS[kind](tmp_path)
    assert len(hashed) == 2 and only(tmp_path, ".npy").stat().st_ino == built.st_ino


@pytest.mark.parametrize("kind", KINDS)
def test_K3_bytes_are_on_the_disk_before_the_file_has_its_name(kind: str, tmp_path: Path, monkeypatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: events.append(f"to {os.path.basename(b)}") or replace(a, b))
    KINDS[kind](tmp_path)
    data, manifest = only(tmp_path, ".npy").name, only(tmp_path, ".json").name
    synced = [e.partition(".")[2].split(".")[0] if not e.startswith("to ") else e for e in events]
    assert synced == ["npy", "json", f"to {data}", f"to {manifest}"]


def test_K4_a_disk_that_refuses_the_pixels_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentProblem, match=r"no space left on .*STUDY_CACHE"):
            KINDS["pixels"](tmp_path)
    assert {p.suffix for p in (tmp_path / "pixels").iterdir()} == {".lock"}
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="STUDY_CACHE"):
        KINDS["pixels"](tmp_path / "file")
    file = only(tmp_path / "pixels", ".lock").with_suffix(".npy")
    file.mkdir()
    with pytest.raises(EnvironmentProblem, match="STUDY_CACHE"):
        KINDS["pixels"](tmp_path)


def altered(folder: str, queue) -> None:
    queue.put(int(np.asarray(KINDS["pixels"](Path(folder))).sum()))


@pytest.mark.slow
def test_K5_another_process_finds_the_damage_too(tmp_path: Path) -> None:
    """Two processes find it at once: one builds again, and both get the right numbers. A map made before keeps what it showed."""
    before = KINDS["pixels"](tmp_path)
    expected = int(before.sum())
    path = only(tmp_path, ".npy")
    damaged = path.with_name("damaged.bin")
    damaged.write_bytes(DATA["other numbers"](path.read_bytes()))
    os.replace(damaged, path)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=altered, args=(str(tmp_path), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=60) for _ in workers] == [expected, expected] and int(before.sum()) == expected
    for worker in workers:
        worker.join(10)
