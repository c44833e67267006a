"""The table of a search: its title says what the data are, and splits only where they were asked for."""

from pathlib import Path

import pytest

from study.conduct.plan_tables import print_results
from study.tracking.ledger import Ledger

GOLDEN = Path(__file__).parent / "golden"


def test_the_usual_splits_are_not_called_official(capsys: pytest.CaptureFixture[str]) -> None:
    """A user's own images have no official splits."""
    ledger = Ledger(GOLDEN / "study", "golden")
    print_results(ledger.study(), ledger)
    told = capsys.readouterr().out
    assert ", search" in told and "official" not in told
