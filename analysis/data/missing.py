"""Files that a finished study recorded and no longer has: a lost file must not change a verdict silently."""

from collections import Counter
from collections.abc import Iterator

from analysis.data.frames import CONFIRMING, Frames
from study.console.text import shown
from study.records import Origin


def losses(frames: Frames) -> Iterator[str]:
    """Yield one line per loss, those that affect the verdict first.

    Nothing is yielded while the study is in progress, when no file needs to be there yet.
    """
    if frames.in_progress:
        return
    yield from _confirm_runs(frames)
    yield from _lines(frames)
    yield from _records(frames)
    yield from _search_trials(frames)
    yield from _epochs(frames)


def _confirm_runs(frames: Frames) -> Iterator[str]:
    study = frames.study
    completed = set(frames.confirmed()["trial_id"]) if len(frames.trials) else set()
    usable = {t for t in completed if "predictions" not in study.measure or frames.predictions(t)}
    cells = dict(zip(frames.trials["trial_id"], frames.trials["cell"], strict=True)) if len(frames.trials) else {}
    counted = Counter(cells[t] for t in usable)
    for cell, winners in frames.confirmed_trials.items():
        if empty := winners.count(""):
            yield f"{cell}: {empty} of {len(winners)} searches found no trial that can be used, so nothing is confirmed of them"
        if counted[cell] < len(planned := frames.planned.get(cell, [])):
            reasons = [f"{t}: {_why_lost(frames, t)}" for t in planned if t not in usable]
            yield f"{cell}: {counted[cell]} of {len(planned)} confirm runs count ({'; '.join(reasons)})"


def _lines(frames: Frames) -> Iterator[str]:
    """Yield the runs of the line to beat that the test set was opened for and that no longer count."""
    if not len(frames.trials) or "predictions" not in frames.study.measure:
        return
    known = frames.trials.set_index("trial_id")["origin"]
    planned = {t for own in frames.planned.values() for t in own}
    opened = dict.fromkeys(t for opening in frames.openings for t in opening["trials"])
    usable = {t for t in frames.confirmed()["trial_id"] if frames.predictions(t)}
    handed = {entry["trial"] for entry in frames.delivered.values()}
    for trial_id in opened:
        if trial_id not in {*planned, *usable, *handed} and known.get(trial_id, Origin.LINE) == Origin.LINE:
            yield f"{trial_id}, which the test set was opened for, does not count: {_why_lost(frames, trial_id)}"


def _why_lost(frames: Frames, trial_id: str) -> str:
    own = frames.trials[frames.trials.trial_id == trial_id]
    if not len(own):
        return "its folder is gone"
    outcome, reason = own.iloc[0]["outcome"], own.iloc[0]["reason"]
    if outcome == "running":
        return "no result.json"
    return "no predictions" if outcome == "completed" else f"{outcome}{f', {shown(reason)}' if reason else ''}"


def _records(frames: Frames) -> Iterator[str]:
    """Yield losses in the records of the study itself: its choice, and the openings of its test set."""
    for key, entry in frames.delivered.items():
        if frames.ledger.ask(entry["trial"]) is None:
            yield f"{key}: trial {entry['trial']}, which was delivered, is gone: the compared network is the one to use"
    confirm = frames.trials[frames.trials.stage.isin(CONFIRMING)] if len(frames.trials) else frames.trials
    if not len(confirm):
        return
    if not frames.chosen:
        yield f"no choice is recorded (selection.json), so none of {len(confirm)} confirm runs count. Run the sweep again to choose"
    if not frames.openings and any(frames.predictions(t) for t in confirm["trial_id"]):
        yield "no opening of the test set is recorded (test_lock.json), though it was opened: how often is no longer known"


def _search_trials(frames: Frames) -> Iterator[str]:
    planned = frames.study.trials
    for cell in (c.id for c in frames.study.cells):
        own = frames.trials[(frames.trials.stage == "search") & (frames.trials.cell == cell)] if len(frames.trials) else frames.trials
        lost = [*own[own.outcome == "running"]["trial_id"]] if len(own) else []
        if (here := len(own) - len(lost)) < planned:
            gone = planned - len(own)
            reasons = [f"{t}: no result.json" for t in lost] + [f"{gone} folder{'s' * (gone > 1)} gone"] * (gone > 0)
            yield f"{cell}: {here} of {planned} search trials count ({'; '.join(reasons)})"


def _epochs(frames: Frames) -> Iterator[str]:
    """Yield the trials whose epochs.jsonl has fewer epochs than their result counted.

    No verdict depends on them, but curves and costs do.
    """
    found = frames.epochs.groupby("trial_id").size() if len(frames.epochs) else {}
    for trial in frames.trials.to_dict("records"):
        if (here := int(found.get(trial["trial_id"], 0))) < trial["epochs"]:
            yield f"{trial['trial_id']} trained {trial['epochs']} epochs, of which its epochs.jsonl holds {here}: curves lack the rest"
