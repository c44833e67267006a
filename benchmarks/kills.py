"""Studies whose parts are killed at random moments, continued by the same command, and compared with an unkilled twin.

    python -m benchmarks.kills --kills 100 --json

The targets are the driver (with and without Ray), Ray's raylet and GCS, the actor that trains, a DDP worker, and the follower that
feeds MLflow. The moments are before the search, in it, while confirming, and while reporting. A target that is not there at its moment
does not count, and nothing else is killed in its place.

A study takes several kills. Then the same command runs to its end, and ids, epochs, metrics, choice, verdicts, predictions and MLflow's
rows must be the twin's, bit by bit (benchmarks/twins.py). The columns are:

- lost: trials, epochs or rows that only the twin has,
- doubled: those that the twin has once, or not at all,
- unequal: other values,
- left running: processes that live `LEFT_S` after the start of the command they belong to has ended,
- silent: starts that neither ended nor went on within `SILENT_S` after a kill.

benchmarks/restore_kills.py applies the same kills to Ray's own restore.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np

from benchmarks import arguments
from benchmarks.starts import LEFT_S, MOMENTS, SILENT_S, Start
from benchmarks.targets import TARGETS, Kind, Target
from benchmarks.twins import Differences, differences

STUDY = """
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
TINY = Study(
    name="tiny", cells=grid(["digits"], ["efficientnet_lite0"], {strategies}, (0.1,)),
    protocol=Protocol(max_epochs=2, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5),
    trials=2, random_trials=1, grace_epochs=1, reduction_factor=2, confirm_seeds={seeds}, line_size=32, budget_check=0,
)
"""
TRIES = 3  # draws for a kill, at most, and starts to finish a study


@dataclass(kw_only=True)
class Row:
    kills: int = 0
    not_there: int = 0
    studies: int = 0
    silent: int = 0
    left_running: list[str] = field(default_factory=list)
    found: Differences = field(default_factory=Differences)
    moments: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)  # how starts ended that were killed by what they lost
    timers: list[Timer] = field(default_factory=list, repr=False)


class Study:
    """One study of a kind, in a folder of its own."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.results, file = folder / "results", folder / "tiny.py"
        file.write_text(STUDY.format(strategies=list(kind.strategies), seeds=kind.seeds))
        self.command = [sys.executable, "-m", "study.sweep", str(file), "--results", str(self.results), *kind.arguments]
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_ADDRESS", "STUDY_"))}
        self.env |= {"STUDY_CACHE": str(folder / "cache"), "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}

    def start(self) -> Start:
        return Start(self.command, self.env, self.results / "tiny" / "study.json")

    def finish(self, start: Start | None, row: Row) -> str:
        """Run it to its end and return "", or the reason why the end was not reached.

        Rows that MLflow lacks then are sent, as the sweep advises.
        """
        for _ in range(TRIES):
            start = start or self.start()
            code = start.wait(600)
            left_later(start, row)
            if code == 0:
                break
            row.ended[f"{code} {start.last_line()}"] += 1
            start = None
        else:
            return "the study was not finished: " + str(row.ended)
        assert start is not None
        start.wait_for_followers()
        if any("events not sent" in line for line in start.lines):
            sync = [sys.executable, "-m", "study.tracking", "sync", str(self.results / "tiny")]
            subprocess.run(sync, env=self.env, capture_output=True, timeout=300)
        return ""


def left_later(start: Start, row: Row) -> None:
    timer = Timer(LEFT_S, lambda: row.left_running.extend(start.end_what_is_left()))
    timer.start()
    row.timers.append(timer)


Twin = tuple[Path, dict[str, float]]
"""The results of an unkilled study, and the seconds of each of its moments."""


def twin(kind: Kind, folder: Path) -> Twin:
    study = Study(kind, folder)
    start, row = study.start(), Row()
    lengths = start.watch()
    if problem := study.finish(start, row):
        raise SystemExit(f"the unkilled study of {kind} failed: {problem}")
    say(f"twin of {kind}: " + ", ".join(f"{m} {s:.0f} s" for m, s in lengths.items()))
    return study.results, lengths


def kill_parts(name: str, rows: dict[str, Row], wanted: int, twin_of: Future[Twin], folder: Path, seed: int, until: float) -> None:
    """Run studies, each under several kills, until there were `wanted` kills, TRIES times as many draws, or it is `until`."""
    target, row, rng = TARGETS[name], rows[name], np.random.default_rng([seed, list(TARGETS).index(name)])
    unkilled, lengths = twin_of.result()
    while row.kills < wanted and row.kills + row.not_there < TRIES * wanted and time.monotonic() < until:
        study = Study(target.kind, folder / f"{name.replace(', ', '-').replace(' ', '-')}-{row.studies}")
        start: Start | None = None
        for moment in sorted(rng.choice(target.moments, min(target.a_study, wanted - row.kills)), key=MOMENTS.index):
            start = start or study.start()
            start = strike(start, target, str(moment), lengths[str(moment)], rng, row)
        problem = study.finish(start, row)
        row.studies += 1
        found = Differences(lost=[problem]) if problem else differences(study.results, unkilled, "tiny")
        row.found.add(found)
        counted = f"{row.kills} of {wanted} kills, {row.not_there} not there"
        say(f"{name}: study {row.studies} ended, {counted}, {asdict(found)}\n" + table(rows))


def strike(start: Start, target: Target, moment: str, length: float, rng: np.random.Generator, row: Row) -> Start | None:
    """Kill the target at a random time within the moment. Return the start that goes on, or None where it has ended."""
    there = start.reach(moment, 240)
    if there:
        time.sleep(rng.uniform(0, length * start.left_of(moment)))
    victims = start.find(target.is_it) if there and start.moment() == moment else []
    if not victims:
        row.not_there += 1
        say(f"   {target.name} {moment}: not there ({start.moment()})")
        return start if start.runs() else _ended(start, row)
    start.remember_family()
    victims[rng.integers(len(victims))].kill()
    row.kills += 1
    row.moments[moment] += 1
    say(f"   {target.name} {moment}: killed")
    if not target.ends:
        return start
    if start.wait(SILENT_S) is None:
        row.silent += 1
        say(f"   {target.name} silent for {SILENT_S:.0f} s; its last line: {start.last_line()}")
        start.kill()
    return _ended(start, row)


def _ended(start: Start, row: Row) -> None:
    row.ended[f"{start.wait(60)} {start.last_line()}"] += 1
    left_later(start, row)


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def bound(kills: int) -> float:
    """Return the 95 % upper bound, in per cent, of a rate of which no case was seen in `kills`."""
    return 100 * (1 - 0.05 ** (1 / kills)) if kills else 100.0


def table(rows: dict[str, Row]) -> str:
    wrong = ("lost", "doubled", "unequal", "left running", "silent")
    lines = [
        "| target | kills | " + " | ".join(MOMENTS) + " | studies | " + " | ".join(wrong) + " | not there | 95 % below |",
        "| --- " * 13 + "|",
    ]
    for name, r in rows.items():
        counts = (len(r.found.lost), len(r.found.doubled), len(r.found.unequal), len(r.left_running), r.silent)
        clean = f"{bound(r.kills):.1f} %" if not any(counts[:3]) else "-"
        cells = [name, r.kills, *(r.moments[m] for m in MOMENTS), r.studies, *counts, r.not_there, clean]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    kills = sum(r.kills for r in rows.values())
    lines.append(f"{kills} kills; none lost, doubled or unequal in all of them bounds the rate below {bound(kills):.1f} % (95 %)")
    for name, r in rows.items():
        lines += [f"   {name}: {text}" for text in [*r.found.lost, *r.found.doubled, *r.found.unequal, *r.left_running]]
        lines += [f"   {name}: {times} starts ended with {text}" for text, times in r.ended.items()]
    return "\n".join(lines)


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--at-once", type=int, default=2, help="studies that run side by side")
    parser.add_argument("--minutes", type=float, default=120.0, help="no study is begun later")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shares = sum(TARGETS[name].share for name in args.targets)
    wanted = {name: max(round(args.kills * TARGETS[name].share / shares), 1) for name in args.targets}
    until = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary, ThreadPoolExecutor(args.at_once) as pool:
        root = Path(temporary)
        kinds = list(dict.fromkeys(TARGETS[name].kind for name in args.targets))
        twins = {
            kind: pool.submit(twin, kind, root / f"twin-{n}") for n, kind in enumerate(kinds)
        }  # first in the queue, so nobody waits for ever
        rows = {name: Row() for name in args.targets}
        jobs = [pool.submit(kill_parts, n, rows, wanted[n], twins[TARGETS[n].kind], root, args.seed, until) for n in args.targets]
        for job in as_completed(jobs):
            job.result()
        for timer in [t for row in rows.values() for t in row.timers]:
            timer.join()
    say("done\n" + table(rows))
    if args.json:
        print(json.dumps({name: _plain(row) for name, row in rows.items()}))


def _plain(row: Row) -> dict[str, Any]:
    return {k: asdict(v) if isinstance(v, Differences) else v for k, v in vars(row).items() if k != "timers"}


if __name__ == "__main__":
    main()
