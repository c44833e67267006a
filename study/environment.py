"""Facts about where a study runs: versions, commit, machine. They travel with its results."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

from study.errors import StudyError

PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "pillow")
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\0")
T = TypeVar("T")


def environment(command: str) -> dict[str, Any]:
    return {
        "command": redact(command),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "commit": commit(),
        "versions": {p: _version(p) for p in PACKAGES},
    }


def redact(text: str) -> str:
    """Passwords in URLs never reach a log, a ledger or a server: ://user:secret@ -> ://user:***@."""
    return re.sub(r"(://[^/\s:@]*):[^/\s@]+@", r"\1:***@", text)


def shown(text: str) -> str:
    """On one line and harmless to a terminal: what is no printable character stands there as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def harmless(value: T) -> T:
    """Text that a spreadsheet would take for a formula gets a leading apostrophe (CWE-1236); numbers are left alone."""
    if isinstance(value, str) and value.startswith(DANGEROUS):
        return "'" + value  # type: ignore[return-value]  # still a text
    return value


def tell(error: StudyError) -> int:
    """Says on stderr, in one line without secrets or escapes, what ended a command; its exit code."""
    print(f"error: {shown(redact(str(error)))}", file=sys.stderr)
    return error.exit_code


def commit() -> str:
    """The commit of the code that runs, with "+changes" when the tree differs from it; "unknown" outside a checkout."""
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
