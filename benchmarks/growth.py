"""The cost of a large study beside its training: to resume, to mirror, to report, on a disk or in an object store.

    python -m benchmarks.growth resume --trials 5000 --epochs 3
    python -m benchmarks.growth idle --trials 5000 --epochs 3
    python -m benchmarks.growth mirror --trials 1000 --epochs 3
    python -m benchmarks.growth report --trials 10000 --epochs 30
    python -m benchmarks.growth store --trials 1000 --epochs 3 --latency 0.1

The ledger is written as a sweep leaves it, with random scores, and only reading it is measured. `mirror` starts an MLflow server,
`store` moto's S3 server, both on loopback.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale import record
from study.metrics import class_scores
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import SCHEMA, Ask, Origin, Outcome, Stage, TrialResult, dumps
from study.search.optuna_cells import SearchPlan
from study.space import Choice, Integer, Log
from study.storage.folder import Folder
from study.tracking import events
from study.tracking.client import KEY
from study.tracking.cursor import Cursor, mark
from study.tracking.ledger import STUDY_FILES, Ledger
from study.tracking.mirror import Mirror
from study.tracking.mlflow_runs import NOTE

CELLS = grid(["digits", "mini_faces"], ["efficientnet_lite0"], ["partial", "full"])


def fill(results: str, trials: int, epochs: int) -> Ledger:
    """Write a study whose search is done and whose choice is made, with `trials` trials of `epochs` epochs each."""
    each = trials // len(CELLS)
    study = Study(
        name="large", cells=CELLS, protocol=Protocol(max_epochs=epochs, image_size=32), trials=each, random_trials=each, confirm_seeds=0
    )
    ledger = Ledger(results, study.name)
    study = ledger.begin(study, {"started_at": 1.0})
    first = record(1, 1).as_dict()
    chosen: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    for sequence in range(trials):
        ask = drawn(study, sequence)
        result, lines = ended(ask, epochs, first)
        chosen.setdefault(ask.cell, ask.trial_id)
        at = f"trials/{ask.trial_id}"
        files += [(f"{at}/config.json", dumps({"schema": SCHEMA, **ask.as_dict()}, indent=1).encode()), (f"{at}/epochs.jsonl", lines)]
        files += [(f"{at}/result.json", dumps({"schema": SCHEMA, **result.as_dict()}, indent=1).encode())]
    if ledger.folder.remote:
        ledger.folder.each(lambda file: ledger.folder.write(*file), files)
    for name, data in [] if ledger.folder.remote else files:  # thousands of fsyncs are not what is measured here
        path = Path(ledger.folder.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    ledger.write_selection("first", chosen, trials)
    return ledger


def drawn(study: Study, sequence: int) -> Ask:
    """Return a random trial, without Optuna, which takes milliseconds for each."""
    cell, number = CELLS[sequence % len(CELLS)], sequence // len(CELLS)
    rng, values = np.random.default_rng(sequence), dict[str, Any]()
    for name, domain in study.ranges(cell).items():
        if isinstance(domain, Choice):
            values[name] = domain.options[rng.integers(len(domain.options))]
        elif isinstance(domain, Integer):
            values[name] = int(rng.integers(domain.low, domain.high + 1))
        else:
            low, high = (np.log([domain.low, domain.high])) if isinstance(domain, Log) else (domain.low, domain.high)
            at = rng.uniform(low, high)
            values[name] = min(max(float(f"{np.exp(at) if isinstance(domain, Log) else at:.6g}"), domain.low), domain.high)
    config = TrialConfig.default(cell, study.protocol, study.seed).with_values(values)
    return Ask(
        trial_id=config.id,
        cell=cell.id,
        number=number,
        stage=Stage.SEARCH,
        origin=Origin.RANDOM,
        config=config.as_dict(),
        sequence=sequence,
    )


def ended(ask: Ask, epochs: int, first: dict[str, Any]) -> tuple[TrialResult, bytes]:
    rng = np.random.default_rng(ask.sequence)
    top, rows = rng.uniform(0.2, 0.8), []
    for epoch in range(1, epochs + 1):
        score = float(np.clip(top * (1 - 0.5**epoch) + rng.normal(0, 0.01), 0, 1))
        metrics = {k: (score if "/" in k and k != "train/loss" else v) for k, v in first["metrics"].items()}
        rows.append({**first, "epoch": epoch, "metrics": metrics, "ended_at": 1e9 + 100 * ask.sequence + epoch})
    result = TrialResult(
        trial_id=ask.trial_id, outcome=Outcome.COMPLETED, epochs=epochs, best_epoch=epochs, metrics=rows[-1]["metrics"],
        classes=list("abcdefg"), val=class_scores(np.array(first["confusion"])), seconds=0.2 * epochs, images=100 * epochs,
        started_at=1e9 + 100 * ask.sequence, ended_at=1e9 + 100 * ask.sequence + epochs,
    )  # fmt: skip
    return result, "".join(dumps(r) + "\n" for r in rows).encode()


def timed(act: Callable[[], Any]) -> tuple[float, float, int, Any]:
    """Return (wall seconds, processor seconds of this process, files read, result)."""
    reads, read = [0], Folder.read

    def counted(self: Folder, name: str) -> bytes | None:
        reads[0] += 1
        return read(self, name)

    Folder.read = counted  # type: ignore[method-assign]
    began, own = time.perf_counter(), time.process_time()
    try:
        made = act()
    finally:
        Folder.read = read  # type: ignore[method-assign]
    return time.perf_counter() - began, time.process_time() - own, reads[0], made


def resume(ledger: Ledger) -> dict[str, Any]:
    """Do what a sweep does before its first trial: read the finished trials, then rebuild the search's memory."""

    def whole() -> int:
        fresh = Ledger(ledger.folder.location.rpartition("/")[0], ledger.study_name)
        fresh.results(), fresh.asks()
        study = fresh.study()
        assert study is not None
        return SearchPlan(study, fresh).done

    seconds, own, reads, done = timed(whole)
    return {"seconds": seconds, "cpu_seconds": own, "reads": reads, "done": done}


def idle(ledger: Ledger) -> dict[str, Any]:
    """Run a pass of the follower when its server has everything, so that no server is asked."""
    uri, asks, study = "http://127.0.0.1:9", ledger.asks(), ledger.study()
    assert study is not None
    files = {n: mark(d) for n in STUDY_FILES if (d := ledger.folder.read(n)) is not None}
    files[NOTE] = mark(events.note(study, ledger.facts(), ledger.amendments(), events.REPORT_TO_COME).encode())
    runs = {key: "r" for a in asks for key in ("", a.cell, a.trial_id)}
    epochs = {a.trial_id: len(ledger.epochs(a.trial_id)) for a in asks}
    cursor = Cursor(uri=uri, study=ledger.study_name, runs=runs, epochs=epochs, ended=set(epochs), files=files, models=set(epochs))
    cursor.save(ledger.folder)
    mirror = Mirror(ledger, uri)
    first = timed(mirror.sync)
    seconds, own, reads, report = timed(mirror.sync)
    assert report.problem is None and report.pending == 0, report
    return {"first_seconds": first[0], "seconds": seconds, "cpu_seconds": own, "reads": reads}


def mirror(ledger: Ledger) -> dict[str, Any]:
    """Run the first pass to a server that knows nothing of the study."""
    from tests.services import mlflow

    with tempfile.TemporaryDirectory() as folder, mlflow(f"sqlite:///{folder}/m.db", Path(folder, "artifacts")) as server:
        mirror = Mirror(ledger, server.url)
        seconds, own, _, report = timed(mirror.sync)
        runs = mirror.runs.client.search_runs([mirror.runs.experiment], f"tags.`{KEY}` LIKE '%'", max_results=50000)
    return {
        "seconds": seconds,
        "cpu_seconds": own,
        "sent": report.sent,
        "pending": report.pending,
        "problem": report.problem,
        "runs": len(runs),
    }


def report(ledger: Ledger) -> dict[str, Any]:
    from analysis.report import write_report

    with tempfile.TemporaryDirectory() as folder:
        seconds, own, _, _ = timed(lambda: write_report(ledger, f"{folder}/report.html", tables=f"{folder}/tables"))
        return {"seconds": seconds, "cpu_seconds": own, "megabytes": Path(folder, "report.html").stat().st_size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["resume", "idle", "mirror", "report", "store"])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds a request, of `store`")
    args = parser.parse_args()
    if args.what == "store":
        from tests import s3server

        with s3server.moto() as server:
            os.environ.update(server.env)
            ledger = fill(f"s3://{server.bucket}/results", args.trials, args.epochs)
            server.trouble(latency=args.latency)
            found = resume(ledger)
            found["requests"] = sum(server.trouble().values())
    else:
        with tempfile.TemporaryDirectory() as folder:
            acts = {"resume": resume, "idle": idle, "mirror": mirror, "report": report}
            found = acts[args.what](fill(folder, args.trials, args.epochs))
    load = os.getloadavg()[0]
    numbers = {k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()}
    print(json.dumps({"what": args.what, "trials": args.trials, "epochs": args.epochs, **numbers, "load": round(load, 1)}))


if __name__ == "__main__":
    main()
