"""Facts about the place where a study runs: versions, commit, machine. They are kept with its results."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study.console.text import redact

PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "pillow")


def environment(command: str, arguments: Sequence[Sequence[str]] | None = None) -> dict[str, Any]:
    """Return the facts of this machine and of how a study was asked for, without secrets; `arguments`: a sweep's, as data."""
    return {
        "command": redact(command),
        **({} if arguments is None else {"arguments": [[redact(word) for word in words] for words in arguments]}),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "commit": commit(),
        "versions": {p: _version(p) for p in PACKAGES},
    }


def commit() -> str:
    """Return the commit of the running code, with "+changes" when the tree differs from it; "unknown" outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        dirty = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("STUDY_COMMIT", "unknown")
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
