"""The part of a ledger that an MLflow server has not got, by its cursor alone: no server is asked."""

import time
from pathlib import Path

from study.tracking import events
from study.tracking.cursor import Cursor
from study.tracking.ledger import Ledger
from study.tracking.unsent import Unsent


def sent(copy: Ledger) -> tuple[Unsent, Cursor]:
    """The golden study, as if a server had got all of it."""
    cursor = Cursor(uri="http://mlflow:5000")
    unsent = Unsent(copy, cursor)
    unsent.look()
    for ask in unsent.asks:
        cursor.runs |= dict.fromkeys(("", ask.cell, ask.trial_id), "run")
        cursor.epochs[ask.trial_id] = len(copy.epochs(ask.trial_id))
        cursor.ended.add(ask.trial_id)
    for ask, name in unsent.measurements():
        cursor.files[f"trials/{ask.trial_id}/{name}"] = "mark"
    for name, data in unsent.files().items():
        unsent.file_sent(name, data)
    cursor.closed = events.last_word(unsent.facts)
    unsent.measurements_sent()
    return unsent, cursor


def test_of_a_study_that_was_never_sent_all_is_counted(copy: Ledger) -> None:
    asks, unsent = copy.asks(), Unsent(copy, Cursor(uri="http://mlflow:5000"))
    unsent.look()
    epochs = sum(len(copy.epochs(a.trial_id)) for a in asks)
    assert unsent.count() == 2 * len(asks) + epochs + len(unsent.files()) + 1 + 2 + 1, (
        "runs and their ends, epochs, files, the study, its cells, its last word"
    )
    assert [a.trial_id for a in unsent.trials()] == [a.trial_id for a in asks] and unsent.measurements() == []


def test_what_is_new_is_counted_and_named_and_nothing_else(copy: Ledger) -> None:
    unsent, cursor = sent(copy)
    assert unsent.count() == 0 and unsent.trials() == [] and unsent.files() == {}
    trial = copy.asks("confirm")[0].trial_id
    copy.folder.write(f"trials/{trial}/measured/later.parquet", b"new")
    assert unsent.count() == 0, "measurements are looked for where study.json was written since"
    time.sleep(0.01)
    copy.add_facts(verdicts=["another"])
    assert unsent.count() == 1 + 1 + 1, "the measurement, study.json, and what the study says at last"
    assert [(a.trial_id, name) for a, name in unsent.measurements()] == [(trial, "measured/later.parquet")]
    assert list(unsent.files()) == ["study.json"]
    cursor.ended.discard(trial)
    cursor.epochs[trial] -= 2
    assert [a.trial_id for a in unsent.trials()] == [trial]
    assert unsent.count() == 2 + 1 + 1 + 1, "two epochs and its end; its measurements come with it"


def test_a_file_that_was_written_again_as_it_was_is_not_sent_again(copy: Ledger) -> None:
    unsent, _ = sent(copy)
    path = Path(copy.folder.path("study.json"))
    path.write_bytes(path.read_bytes())
    assert unsent.files() == {} and unsent.count() == 0


def test_what_was_sent_of_a_trial_that_began_anew_makes_up_for_nothing_else(copy: Ledger) -> None:
    """Epochs that were sent of an earlier start were once taken off the count of what is left."""
    unsent, cursor = sent(copy)
    again, other = (a.trial_id for a in copy.asks("confirm")[:2])
    cursor.ended -= {again, other}
    cursor.epochs[again] += 100
    cursor.epochs[other] -= 1
    cursor.amendments = 3
    assert unsent.count() == 2 + 1, "two ends, an epoch"


def test_a_network_that_is_kept_and_not_registered_is_counted(copy: Ledger) -> None:
    unsent, cursor = sent(copy)
    (trial, *_) = unsent.kept
    copy.folder.write(f"trials/{trial}/best/manifest.json", b"{}")
    assert unsent.count() == 1 and [a.trial_id for a in unsent.networks()] == [trial]
    cursor.models.add(trial)
    assert unsent.count() == 0
