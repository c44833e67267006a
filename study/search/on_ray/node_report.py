"""A node's report on itself. It imports nothing of ours and is sent to the nodes by value: a node may hold other code of ours, or none."""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

DEEP = 3  # levels of a folder whose names are compared: classes and their images


def look(asked: dict[str, Any], node: str) -> dict[str, Any]:
    """Return a node's report as plain values; an unavailable value is None or the reason, as text.

    `asked`: `results` (a folder or URL), `name` and `mark` (a file there, and what it must hold), `folders` (paths), `cache` (a path, or
    None for its default), `packages`.
    """
    seen, wrote = _shared(asked["results"], asked["name"], asked["mark"], node)
    cache = asked["cache"] or os.environ.get("STUDY_CACHE") or str(Path.home() / ".cache" / "finetune-study")
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": {p: _version(p) for p in asked["packages"]},
        "code": code(),
        "seen": seen,
        "wrote": wrote,
        "folders": {path: contents(path) for path in asked["folders"]},
        "cache": _writable(cache),
        "gpus": gpus(),
        "free_gb": shutil.disk_usage("/tmp").free / 1e9,  # noqa: S108  where Ray spills
    }


def gpus() -> list[dict[str, Any]]:
    """Return by GPU of this machine its name and its MIG slices' profiles ("1g.10gb").

    They are as `nvidia-smi -L` lists them, independent of what this process may see; where that cannot be run, the slices that
    CUDA_VISIBLE_DEVICES names.
    """
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout  # noqa: S607
    except (OSError, subprocess.SubprocessError):
        listed = ""
    found: list[dict[str, Any]] = []
    for line in listed.splitlines():
        if gpu := re.match(r"GPU \d+: (.+?) \(UUID", line):
            found.append({"name": gpu[1], "slices": []})
        elif found and (part := re.match(r"\s+MIG (\S+)\s+Device", line)):
            found[-1]["slices"].append(part[1])
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip().startswith("MIG-")]
    return found or ([{"name": "a GPU", "slices": ["named by CUDA_VISIBLE_DEVICES"] * len(named)}] if named else [])


def code() -> str | None:
    """Return a hash of the package `study` as it would be imported here; None where there is none."""
    loaded = sys.modules.get("study")
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec("study")
    if spec is None or spec.origin is None:
        return None
    root, found = Path(spec.origin).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def contents(path: str) -> str | None:
    """Return a hash of the names down to DEEP levels and the sizes of the files at the top; None where there is no such folder or file."""
    try:
        if os.path.isfile(path):
            return f"{os.path.getsize(path)} bytes"
        return hashlib.sha256("\n".join(_names(path, "", DEEP)).encode(errors="surrogateescape")).hexdigest()[:12]
    except OSError:
        return None


def _names(path: str, below: str, levels: int) -> list[str]:
    found = []
    with os.scandir(os.path.join(path, below)) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            name = f"{below}/{entry.name}".lstrip("/")
            if entry.is_dir():
                found += [name + "/", *(_names(path, name, levels - 1) if levels > 1 else [])]
            else:
                found.append(name if below else f"{name} {entry.stat().st_size}")
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _shared(location: str, name: str, mark: str, node: str) -> tuple[bool | str, bool | str]:
    """Return (True where the mark can be read here, True where an answer can be left beside it); the reason where the storage refuses."""
    try:
        import fsspec

        store, root = fsspec.core.url_to_fs(location)
        try:
            seen = store.cat_file(f"{root}/{name}").decode() == mark
        except FileNotFoundError:
            return False, False
        if seen:
            store.pipe_file(f"{root}/{name}-{node}", mark.encode())
        return seen, seen
    except Exception as error:  # whatever a store's package raises
        return f"{type(error).__name__}: {error}", False


def _writable(path: str) -> str:
    """Return an empty text, or why nothing can be written there."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        probe = os.path.join(path, f".probe-{os.getpid()}")
        with open(probe, "w"):
            pass
        os.unlink(probe)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""
