"""`python -m study.replay RESULTS/STUDY TRIAL`: trains a trial again from its ledger alone and says which of its \
numbers come out the same.

On the machine, versions and number of workers that it was trained with, all of them should, to the last digit. What differs elsewhere is
said with how much, beside what is different here.
"""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from study import early
from study.console.arguments import Parser, add_places
from study.console.command import command
from study.console.progress import load
from study.environment import environment
from study.errors import ConfigError
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Outcome, Stage
from study.storage.places import Places
from study.tracking.ledger import STUDY_FILES, Ledger, find
from study.tracking.names import run_name

if TYPE_CHECKING:
    from analysis.data.predictions import Predictions

MOST_THREADS = 1024  # a record may say anything
SHOWN = 10  # differences of a trial, the first ones first
DECIDING = ("device", "precision", "micro_batches", "cut", "activations_reused", "weights", "weights_sha256")
"""Facts of an epoch that decide its numbers beside the configuration."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number, or one group of numbers, that did not come out the same."""

    name: str
    was: float
    now: float

    @property
    def text(self) -> str:
        return f"{self.name}: {self.was:.10g} before, {self.now:.10g} now ({self.now - self.was:+.3g})"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A confirm run's predictions on its validation and test images, before and now."""

    images: int
    same: int  # images whose answer is the same
    furthest: float  # largest difference of a logit

    @property
    def text(self) -> str:
        apart = "all logits are equal" if self.furthest == 0 else f"logits differ by {self.furthest:.3g} at most"
        return f". The same answer on {self.same} of {self.images} images, {apart}"


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One trial, trained again."""

    ask: Ask
    compared: int  # numbers of its epochs
    differences: tuple[Difference, ...]
    answers: Answers | None  # of a confirm run
    conditions: tuple[str, ...]  # what is not as it was

    @property
    def equal(self) -> bool:
        return not self.differences and (self.answers is None or self.answers.furthest == 0)

    @property
    def lines(self) -> list[str]:
        same = self.compared - len(self.differences)
        out = [f"{run_name(self.ask, self.ask.cell)} ({self.ask.trial_id}): {same} of {self.compared} numbers are equal"]
        out[0] += self.answers.text if self.answers else ""
        out += [f"  {d.text}" for d in self.differences[:SHOWN]]
        if len(self.differences) > SHOWN:
            out.append(f"  and {len(self.differences) - SHOWN} more")
        if not self.equal:
            out += [f"  not as it was: {c}" for c in self.conditions] or ["  nothing that is recorded is different here"]
        return out


def replay(ledger: Ledger, ask: Ask, places: Places, scratch: Path) -> Replay:
    """Train `ask` again in `scratch`, as many epochs as it had. Raises ConfigError where it has none, or ran with other workers."""
    import torch.distributed as dist

    from analysis.data.predictions import read_predictions
    from study.run import run_trial

    config, recorded = TrialConfig.from_dict(ask.config), ledger.epochs(ask.trial_id)
    if not recorded:
        raise ConfigError(f"trial {ask.trial_id} ({run_name(ask, ask.cell)}) has no completed epoch that could be compared.")
    workers, here = config.protocol.workers, dist.get_world_size() if dist.is_initialized() else 1
    if workers != here:
        raise ConfigError(
            f"trial {ask.trial_id} ran with {workers} workers, and this is {here}: "
            f"torchrun --nproc-per-node {workers} -m study.replay {ledger.folder.location} {ask.trial_id}"
        )
    again: list[EpochRecord] = []

    def report(record: EpochRecord) -> bool:
        again.append(record)
        return len(recorded) <= record.epoch < config.protocol.max_epochs  # it was stopped there

    result = ledger.result(ask.trial_id)
    looked = ask.stage in (Stage.CONFIRM, Stage.BUDGET) and result is not None and result.outcome is Outcome.COMPLETED
    before = read_predictions(ledger, ask.trial_id) if looked else {}
    folder = scratch / "replay" / "trials" / ask.trial_id
    with threads_of(recorded[0].facts):
        ending = run_trial(config, places.of_trial(str(folder)), report, measurements=("predictions",) if before else ())
    if ending.outcome in (Outcome.FAILED, Outcome.DIVERGED) and len(again) < len(recorded):
        raise ConfigError(f"trial {ask.trial_id} {ending.outcome.value} after {len(again)} of {len(recorded)} epochs: {ending.reason}.")
    pairs = [
        (f"epoch {a.epoch}, {name}", value, b.metrics.get(name))
        for a, b in zip(recorded, again, strict=False)
        for name, value in a.metrics.items()
    ]
    apart = [Difference(name=n, was=a, now=float("nan") if b is None else b) for n, a, b in pairs if a != b]
    answers = _answers(before, read_predictions(Ledger(scratch, "replay"), ask.trial_id)) if before else None
    conditions = _conditions(ledger.facts(), recorded[0].facts, again[0].facts)
    return Replay(ask=ask, compared=len(pairs), differences=tuple(apart), answers=answers, conditions=conditions)


@contextlib.contextmanager
def threads_of(facts: Mapping[str, Any]) -> Iterator[None]:
    """Use as many threads of the processor as a trial had, independent of this machine: rounding depends on how sums are divided."""
    import torch

    had, found = torch.get_num_threads(), re.fullmatch(r"cpu x(\d{1,4})", str(facts.get("device", "")))
    try:
        if found and 0 < int(found[1]) <= MOST_THREADS:
            torch.set_num_threads(int(found[1]))
        yield
    finally:
        torch.set_num_threads(had)


def _answers(before: Mapping[str, "Predictions"], now: Mapping[str, "Predictions"]) -> Answers:
    """Compare the predictions. Raises ConfigError where the images are no longer the same."""
    for split, was in before.items():
        if what := was.differs(now[split]):
            raise ConfigError(f"the {what} of {split} are not those that were predicted on: the data are other ones.")
    old, new = (np.concatenate([each[split].logits for split in before]) for each in (before, now))
    return Answers(images=len(old), same=int((old.argmax(axis=1) == new.argmax(axis=1)).sum()), furthest=float(np.abs(old - new).max()))


def _conditions(before: dict[str, Any], epoch_before: dict[str, Any], epoch_now: dict[str, Any]) -> tuple[str, ...]:
    """Return the conditions that decide rounding and have changed, one line each."""
    now = environment("")
    lines = [
        f"{k} {before[k]}, here {now[k]}" for k in ("host", "platform", "cpus", "python", "commit") if k in before and before[k] != now[k]
    ]
    versions = before.get("versions", {})
    lines += [f"{k} {v}, here {now['versions'].get(k)}" for k, v in versions.items() if v != now["versions"].get(k)]
    lines += [
        f"{k} {epoch_before[k]}, here {epoch_now.get(k)}" for k in DECIDING if k in epoch_before and epoch_before[k] != epoch_now.get(k)
    ]
    return tuple(lines)


def chosen(ledger: Ledger, names: Sequence[str], all_confirm: bool) -> list[Ask]:
    """Return trials by id, by the beginning of one, or by name as MLflow has it; with `all_confirm`, those that the verdict rests on.

    Raises ConfigError.
    """
    asks, study = ledger.asks(), ledger.study()
    if all_confirm and study is not None:
        load("study.conduct.stages")
        from study.conduct.after_search import confirm_asks
        from study.conduct.lines import line_asks

        results = ledger.results()
        line = {a.trial_id for a in line_asks(study, asks) if a.trial_id in results and results[a.trial_id].outcome is Outcome.COMPLETED}
        speak = {a.trial_id for a in confirm_asks(study, ledger, ledger.confirmed_trials())} | line
        return [a for a in asks if a.trial_id in speak]
    found = []
    for name in names:
        own = [a for a in asks if a.trial_id.startswith(name)] or _called(name, asks)
        if len(own) != 1:
            raise ConfigError(
                f"{name!r} names {len(own)} trials of {ledger.folder.location}. Give an id of trials/, its beginning, or a name as "
                "'partial #5' or 'partial confirm #0'"
                + (f": {', '.join(f'{a.trial_id} ({run_name(a, a.cell)})' for a in own[:5])}." if own else ".")
            )
        found += own
    return found


def _called(name: str, asks: Sequence[Ask]) -> list[Ask]:
    """Return the trials whose full name has these words and the fewest others: without a stage, that of the search."""
    head, _, number = name.rpartition("#")
    wanted = _words(head)
    others = [(len(own - wanted), a) for a in asks if wanted and str(a.number) == number.strip() and wanted <= (own := _full(a))]
    return [a for more, a in others if more == min(others, key=lambda o: o[0])[0]]


def _full(ask: Ask) -> set[str]:
    return _words(run_name(ask, ask.cell).rpartition("#")[0])


def _words(text: str) -> set[str]:
    return set(re.split(r"[/\s]+", text)) - {""}


def verdict_again(ledger: Ledger, replays: Sequence[Replay], scratch: Path) -> list[str]:
    """Return the study's verdict from the new predictions beside the old one, one line each, sentence by sentence."""
    from analysis.load import load
    from analysis.verdict import findings

    copy = Ledger(scratch / "verdict", ledger.study_name)
    for name in STUDY_FILES:
        if (data := ledger.folder.read(name)) is not None:
            copy.folder.write(name, data)
    for ask in ledger.asks():
        for name in ("config.json", "epochs.jsonl", "result.json"):
            if (data := ledger.trial_folder(ask.trial_id).read(name)) is not None:
                copy.trial_folder(ask.trial_id).write(name, data)
    for r in replays:
        file = scratch / "replay" / "trials" / r.ask.trial_id / "measured" / "predictions.parquet"
        if file.is_file():
            copy.trial_folder(r.ask.trial_id).write("measured/predictions.parquet", file.read_bytes())
    before, after = (findings(load(each)) for each in (ledger, copy))
    lines = []
    for old, new in zip(before.sentences, after.sentences, strict=True):
        same = str(old) == str(new)
        lines.append(f"verdict {'equal' if same else 'differs'}: {new.text}" + ("" if same else f" Before: {old.text}"))
    return lines


def _together(scratch: Path) -> Path:
    """Under torchrun: the first worker's folder, for all of them."""
    import torch.distributed as dist

    from study.training.distributed import connect

    connect()
    shared: list[Path | None] = [scratch]
    dist.broadcast_object_list(shared)
    return shared[0] or scratch


def parser() -> Parser:
    p = Parser(prog="python -m study.replay", description=__doc__.split("\n")[0])
    p.add_argument("study", help="a study's folder: RESULTS/STUDY (local path or URL)")
    p.add_argument("trials", nargs="*", help="ids of trials, the beginning of one, or names as 'partial #5' and 'partial confirm #0'")
    p.add_argument(
        "--all-confirm", action="store_true", help="every confirm run and the line to beat, and the verdict from what they say now"
    )
    add_places(p)
    return p


@command(parser, "stopped")
def main(args: argparse.Namespace) -> int:
    if not args.trials and not args.all_confirm:
        raise ConfigError("name a trial, or give --all-confirm.")
    ledger = find(args.study)
    asks = chosen(ledger, args.trials, args.all_confirm)
    load("study.run", "analysis.verdict")
    import torch.distributed as dist

    from study.conduct.workplace import Workplace

    with early.temporary("replay-") as own:
        scratch = Path(own)
        try:
            if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
                scratch = _together(scratch)
            work = Workplace.of(ledger, args.data, args.weights)
            work.check(TrialConfig.from_dict(a.config) for a in asks)
            replays = []
            for ask in asks:
                replays.append(replay(ledger, ask, work.places, scratch))
                if not dist.is_initialized() or dist.get_rank() == 0:
                    print("\n".join(replays[-1].lines), flush=True)
            if args.all_confirm and (not dist.is_initialized() or dist.get_rank() == 0):
                print("\n".join(verdict_again(ledger, replays, scratch)))
            return 0 if all(r.equal for r in replays) else 5
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
