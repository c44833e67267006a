"""Trackers beside MLflow: each brings a copy up to a ledger, once, whatever ends it. TensorBoard's files hold what the ledger holds."""

import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from study import sweep
from study.conduct.pipeline import follow
from study.errors import ConfigError
from study.records import OBJECTIVE, Outcome
from study.storage import options
from study.storage.options import Options
from study.tracking import events, trackers
from study.tracking.__main__ import main
from study.tracking.ledger import Ledger
from study.tracking.tensorboard import EventFiles
from study.tracking.tracker import SyncReport
from tests import tiny


def read(path: Path) -> Iterator[Event]:
    """Yield the events of one file: TFRecords, each its length, a checksum, the message, a checksum."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4


def runs(folder: Path, study: str = "golden") -> dict[str, Counter[tuple[str, int, float]]]:
    """Return by run every scalar that was written: (name, step, value), and how often."""
    found: dict[str, Counter[tuple[str, int, float]]] = {}
    for path in sorted((folder / study).glob("*/events.*")):
        own = found.setdefault(path.parent.name, Counter())
        own.update((v.tag, e.step, v.simple_value) for e in read(path) for v in e.summary.value if v.WhichOneof("value") == "simple_value")
    return found


def scalars(ledger: Ledger, trial_id: str) -> set[tuple[str, int]]:
    return {(name, step) for name, _, _, step in events.epoch_rows(ledger.epochs(trial_id))}


def test_every_kind_of_address_has_a_tracker() -> None:
    assert set(options.TRACKERS) == set(trackers.TRACKERS)
    for address in ("tensorboard", "tensorboard:", "wandb:x", "tensorboard:s3://b/x", "http://user:secret@host"):
        with pytest.raises(ConfigError, match="is no tracker. Give KIND:FOLDER") as refused:
            Options(track=address)
        assert "secret" not in str(refused.value)
    Options(track="tensorboard:runs")


def test_a_missing_package_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(options.TRACKERS, "tensorboard", "no_such_package")
    assert sweep.main(["quickstart", "--dry-run", "--track", "tensorboard:runs"]) == 2
    assert "pip install no_such_package" in capsys.readouterr().err


def test_event_files_hold_every_trial_by_name_with_its_epochs(copy: Ledger, tmp_path: Path) -> None:
    report = EventFiles(copy, str(tmp_path / "runs")).sync()
    found, asks = runs(tmp_path / "runs"), copy.asks()
    assert report.problem is None and report.pending == 0 and len(found) == len(asks)
    for ask in asks:
        (name,) = (n for n in found if n.endswith(ask.trial_id[:6]))
        assert f"#{ask.number} " in name and ("confirm" in name) == (ask.stage.value == "confirm")
        assert scalars(copy, ask.trial_id) <= {(tag, step) for tag, step, _ in found[name]}
        assert max(found[name].values()) == 1
        best = copy.epochs(ask.trial_id)[-1]
        assert (OBJECTIVE, best.epoch, pytest.approx(best.objective)) in list(found[name])


def test_what_was_searched_stands_among_the_hyperparameters(copy: Ledger, tmp_path: Path) -> None:
    EventFiles(copy, str(tmp_path / "runs")).sync()
    ask = copy.asks()[0]
    (path,) = (p for p in (tmp_path / "runs" / "golden").glob("*/events.*") if p.parent.name.endswith(ask.trial_id[:6]))
    tags = {v.tag for e in read(path) for v in e.summary.value}
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"} <= tags
    assert b"weight_decay" in path.read_bytes() and b"strategy" in path.read_bytes()


def test_sending_twice_writes_once_in_this_process_and_in_another(copy: Ledger, tmp_path: Path) -> None:
    files = EventFiles(copy, str(tmp_path / "runs"))
    assert files.sync().sent > 0
    once = runs(tmp_path / "runs")
    assert files.sync() == SyncReport() == EventFiles(copy, str(tmp_path / "runs")).sync()
    assert runs(tmp_path / "runs") == once


def test_a_trial_that_runs_is_followed_epoch_by_epoch(copy: Ledger, tmp_path: Path) -> None:
    ask = next(
        a for a in copy.asks() if (r := copy.result(a.trial_id)) and r.outcome is Outcome.COMPLETED and len(copy.epochs(a.trial_id)) > 1
    )
    folder = Path(copy.folder.path(f"trials/{ask.trial_id}"))
    result, lines = (folder / "result.json").read_bytes(), (folder / "epochs.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "result.json").unlink()
    (folder / "epochs.jsonl").write_bytes(lines[0])
    fresh = Ledger(copy.folder.location.rpartition("/")[0], copy.study_name)
    files = EventFiles(fresh, str(tmp_path / "runs"))
    files.sync()
    name = next(n for n in runs(tmp_path / "runs") if n.endswith(ask.trial_id[:6]))
    assert {step for tag, step, _ in runs(tmp_path / "runs")[name] if tag == OBJECTIVE} == {1}, "it is on the disk while the trial runs"
    (folder / "epochs.jsonl").write_bytes(b"".join(lines))
    assert files.sync().sent == len(lines) - 1
    (folder / "result.json").write_bytes(result)
    assert EventFiles(fresh, str(tmp_path / "runs")).sync().sent == 1, "another process goes on: the end alone is new"
    assert sorted(step for tag, step, _ in runs(tmp_path / "runs")[name].elements() if tag == OBJECTIVE) == list(range(1, len(lines) + 1))


def test_a_place_that_takes_nothing_is_one_line_and_costs_nothing(copy: Ledger, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder is expected")
    report = trackers.open_tracker(f"tensorboard:{tmp_path / 'runs'}").sync(copy)
    assert report.pending > 0 and report.problem and "takes no event files" in report.problem and "\n" not in report.problem


def test_a_tracker_keeps_studies_apart(copy: Ledger, tmp_path: Path) -> None:
    shutil.copytree(copy.folder.location, tmp_path / "elsewhere" / "other")
    tracker = trackers.open_tracker(f"tensorboard:{tmp_path / 'runs'}")
    sent = [tracker.sync(ledger).sent for ledger in (copy, Ledger(tmp_path / "elsewhere", "other"), copy)]
    assert sent[0] == sent[1] > 0 == sent[2]
    assert len(runs(tmp_path / "runs")) == len(runs(tmp_path / "runs", "other")) == len(copy.asks())


def test_an_address_without_a_kind_is_mlflows(copy: Ledger, tmp_path: Path) -> None:
    assert trackers.open_tracker(f"sqlite:///{tmp_path}/own.db").sync(copy).pending == 0
    assert (tmp_path / "own.db").exists()


def test_a_command_syncs_and_a_follower_finishes_what_it_began(copy: Ledger, tmp_path: Path, capsys) -> None:
    place = copy.folder.location
    assert main(["sync", place, "--track", f"tensorboard:{tmp_path / 'one'}"]) == 0
    assert "golden: " in capsys.readouterr().out and len(runs(tmp_path / "one")) == len(copy.asks())
    (follower,) = follow(copy, "off", f"tensorboard:{tmp_path / 'two'}")
    report = follower.close()
    assert report.pending == 0 and report.sent > 0 and runs(tmp_path / "two") == runs(tmp_path / "one")
    assert follower.how_to_look() == f"tensorboard --logdir {tmp_path / 'two'}"
    assert follower.how_to_send() == f"python -m study.tracking sync {place} --track tensorboard:{tmp_path / 'two'}"


def test_a_sweep_tracks_while_it_runs_and_adds_the_test_scores(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "study.sweep", str(tiny.write(tmp_path)), "--local", "--mlflow", "off", "--no-images"]
    line += ["--results", str(tmp_path / "results"), "--track", f"tensorboard:{tmp_path / 'runs'}"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"tensorboard --logdir {tmp_path / 'runs'}" in done.stdout.replace("\n", " ")
    ledger, found = Ledger(tmp_path / "results", "tiny"), runs(tmp_path / "runs", "tiny")
    assert len(found) == len(ledger.asks())
    confirmed = {n for n, own in found.items() if any(tag == "test/macro_f1" for tag, _, _ in own)}
    assert confirmed and all("confirm" in n or "features" in n for n in confirmed)
