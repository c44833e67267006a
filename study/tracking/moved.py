"""Repair of MLflow's SQLite database in a results folder that was copied or moved.

The database names every artifact by its full old path, so a copy would write into the folder it was copied from. Artifacts of ours, in
mlartifacts/STUDY, are looked for beside the database.
"""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from study.tracking.client import BUSY, KEY, SQLITE

ARTIFACTS = "mlartifacts"
WAIT_S = 30.0  # for another that writes
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Moved:
    """Two folders of artifacts, as URLs: the one that the database names, and the one where they are now."""

    then: str
    now: str

    def place(self, url: str) -> str:
        return self.now + url.removeprefix(self.then) if url.startswith(f"{self.then}/") else url


def beside(uri: str) -> str | None:
    """Return the URL of the folder for artifacts of an SQLite database; None for other servers."""
    return (_file(uri).parent / ARTIFACTS).as_uri() if uri.startswith(SQLITE) else None


def moved(uri: str, study: str) -> Moved | None:
    """Return the two folders; None where nothing has moved, the study is not there, or its artifacts were put elsewhere on purpose.

    Raises sqlite3.Error where the database is busy; MLflow reports its other faults.
    """
    now = beside(uri)
    if now is None or not _file(uri).is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(_file(uri)))}?mode=ro", uri=True, timeout=WAIT_S)) as database:
            row = database.execute(
                "SELECT artifact_location FROM experiments e LEFT JOIN experiment_tags t "
                "ON t.experiment_id = e.experiment_id AND t.key = ? WHERE t.value = ? OR e.name = ? ORDER BY t.value IS NULL",
                (KEY, study, study),
            ).fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in BUSY:
            raise
        return None
    then, own, name = str(row[0] if row else "").rpartition(f"/{ARTIFACTS}/")
    then += f"/{ARTIFACTS}"
    if not own or unquote(name) != study or then == now or _same(then, now):
        return None
    return Moved(then, now)


def bring_along(uri: str, study: str) -> None:
    """Change the database, in one transaction and before anything is written, to name the artifacts beside it. Raises sqlite3.Error."""
    found = moved(uri, study)
    if found is None:
        return
    with closing(sqlite3.connect(_file(uri), timeout=WAIT_S)) as database, database:
        for table, column in COLUMNS:
            if column in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608  # ours
                    (found.now, len(found.then) + 1, len(found.then) + 1, f"{found.then}/"),
                )


def _file(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).absolute()


def _same(one: str, other: str) -> bool:
    """Return True where two URLs are one folder under two names."""
    try:
        return os.path.samefile(unquote(urlsplit(one).path), unquote(urlsplit(other).path))
    except OSError:
        return False
