"""The golden study: a finished one, kept with the tables that its report must make, and how a test changes a copy of it."""

import json
from pathlib import Path

from study.tracking.ledger import Ledger

GOLDEN = Path(__file__).parent / "golden" / "study"
TABLES = Path(__file__).parent / "golden" / "tables"


def widened(ledger: Ledger) -> Ledger:
    """The golden study as if its ranges had been wide enough, so that its strategies may be compared."""
    path = Path(ledger.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["space"] = {"linear_probe.lr": {"log": [1e-4, 10.0]}}
    path.write_text(json.dumps(values))
    return ledger


def rewrite(ledger: Ledger, was: str, now: str) -> Ledger:
    """The same study as if it had been asked otherwise, in every file that says so."""
    for path in Path(ledger.folder.root).rglob("*.json"):
        path.write_text(path.read_text().replace(was, now))
    return ledger


def on_folder(ledger: Ledger, folder: str) -> Ledger:
    return rewrite(rewrite(ledger, '"digits"', f'"folder:{folder}"'), "digits/official", f"folder:{folder}/official")
