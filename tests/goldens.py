"""The golden study: a finished one, kept with the tables that its report must make, and ways to change a copy of it."""

import json
import shlex
from pathlib import Path
from typing import Any

from study.console.typed import typed
from study.question.trial_config import TrialConfig
from study.sweep import parser
from study.tracking.ledger import Ledger

GOLDEN = Path(__file__).parent / "golden" / "study"
TABLES = Path(__file__).parent / "golden" / "tables"


def began(line: str) -> dict[str, Any]:
    """Return the facts that a sweep of these arguments leaves of its study."""
    return {"command": f"python -m study.sweep {line}", "arguments": typed(parser(), shlex.split(line))}


def widened(ledger: Ledger) -> Ledger:
    """Return the golden study as if its ranges had been wide enough, so that its strategies may be compared."""
    path = Path(ledger.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["space"] = {"linear_probe.lr": {"log": [1e-4, 10.0]}}
    path.write_text(json.dumps(values))
    return ledger


def rewrite(ledger: Ledger, was: str, now: str) -> Ledger:
    """Return the same study as if it had been asked otherwise, in every file that says so. Its trials then have other ids."""
    files = [*Path(ledger.folder.root).rglob("*.json")]
    texts = {path: path.read_text().replace(was, now) for path in files}
    asked = {path.parent: TrialConfig.from_dict(json.loads(texts[path])["config"]).id for path in files if path.name == "config.json"}
    for path, text in texts.items():
        for folder, trial in asked.items():
            text = text.replace(f'"{folder.name}"', f'"{trial}"')
        path.write_text(text)
    for folder, trial in asked.items():
        folder.rename(folder.with_name(trial))
    return ledger


def on_folder(ledger: Ledger, folder: str) -> Ledger:
    return rewrite(rewrite(ledger, '"digits"', f'"folder:{folder}"'), "digits/official", f"folder:{folder}/official")
