"""Errors of file systems and stores, turned into one line that names the path and the way out."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.console.text import redact
from study.errors import ConfigError, EnvironmentProblem

ANOTHER = "choose another folder with --results (a report's: --out, --tables)"
BUGS = (AssertionError, AttributeError, NameError, TypeError)  # ours or a client's: they keep their traceback


@contextmanager
def explained(path: str, size: int = 0, *, reading: bool = False, another: str = ANOTHER) -> Iterator[None]:
    """Turn errors of the file system into one line that names the path and the way out.

    `size`: bytes about to be written. `another`: how to choose another place, in words. While reading, FileNotFoundError is left to the
    caller. Raises EnvironmentProblem.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.EINTR) or (reading and error.errno == errno.ENOENT):
            raise  # not the file system's: a signal, a time limit of ours
        raise EnvironmentProblem(_refusal(error, path, size, "read" if reading else "write", another)) from error


def _refusal(error: OSError, path: str, size: int, verb: str, another: str) -> str:
    folder = os.path.dirname(path)
    owner = "change its owner or its mode" if verb == "read" else f"{another} or change its owner"
    match error.errno:
        case errno.ENOSPC:
            needed = f": need about {size / 1e6:.1f} MB more" if size else ""
            return f"no space left on {folder}{needed}. Free some and run the same command again, or {another}"
        case errno.EDQUOT:
            return f"disk quota exceeded on {folder}. Free some and run the same command again"
        case errno.EROFS:
            return f"{folder} is on a read-only file system; {another}"
        case errno.EACCES:
            return f"no permission to {verb} {path}; {owner}"
        case errno.EPERM:
            return f"not allowed to {verb} {path}; {owner}"
        case errno.EMFILE | errno.ENFILE:
            return f"too many open files while trying to {verb} {path}. Raise the limit with `ulimit -n 4096`"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{_in_the_way(path)} is a file where a folder should be. Move it away or {another}"
        case errno.EISDIR:
            return f"{path} is a folder where a file should be. Move it away or {another}"
        case errno.ENOENT if link := _broken_link(folder):
            return f"{link} is a link to a folder that does not exist. Make that folder, remove the link, or {another}"
        case errno.ENOENT:
            return (
                f"{folder} has gone while {path} was written, or cannot be made in {_last_there(folder)}. Leave it in place and run the "
                f"same command again, or {another}"
            )
    return f"cannot {verb} {path}: {error.strerror}. Look after its disk or {another}"


def _in_the_way(path: str) -> str:
    """Return the outermost part of `path` that exists and is no folder."""
    return next((str(p) for p in reversed([Path(path), *Path(path).parents]) if os.path.lexists(p) and not p.is_dir()), path)


def _last_there(folder: str) -> str:
    """Return the innermost part of the path that exists."""
    return next((str(p) for p in Path(folder).parents if p.exists()), folder)


def _broken_link(folder: str) -> str:
    """Return the outermost part of the path that is a link to a missing target; an empty text where there is none."""
    return next((str(p) for p in reversed([Path(folder), *Path(folder).parents]) if p.is_symlink() and not p.exists()), "")


@contextmanager
def explained_store(url: str, *, reading: bool) -> Iterator[None]:
    """Turn errors of a store behind a URL into one such line. Its clients have errors of their own, which need not be installed to be
    caught."""
    try:
        yield
    except (ConfigError, EnvironmentProblem, InterruptedError, MemoryError, *BUGS):
        raise
    except Exception as error:
        if reading and isinstance(error, FileNotFoundError):
            raise
        raise EnvironmentProblem(
            f"cannot {'read' if reading else 'write'} {redact(url)}: {type(error).__name__}: {one_line(error, url)}; "
            f"{_store_way_out(error)}"
        ) from error


def _store_way_out(error: Exception) -> str:
    response = getattr(error.__cause__, "response", None)
    code = str(response.get("Error", {}).get("Code")) if isinstance(response, dict) else ""
    if isinstance(error, FileNotFoundError):
        return "check the spelling of the bucket, or make it: none is made here"
    if isinstance(error, PermissionError) and "Quota" not in code:
        return "check the credentials, and what they allow there, then run the same command again"
    if "Quota" in code or "Storage" in code:
        return "free some room there or raise the quota, then run the same command again"
    return "check the URL, the credentials and the connection, then run the same command again"


def one_line(error: Exception, *urls: str) -> str:
    text = " ".join(redact(str(error), *urls).split())
    return text if len(text) <= 200 else text[:197] + "..."


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, the nearest first: those it was raised from or during, and those it wraps (requests, urllib3,
    SQLAlchemy)."""
    waiting: list[Any] = [error]
    seen: list[BaseException] = []
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        context = None if one.__suppress_context__ else one.__context__
        waiting += [one.__cause__, context, getattr(one, "reason", None), getattr(one, "orig", None), *one.args]
