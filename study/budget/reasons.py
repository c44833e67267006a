"""The choices of `mine` in words: one row for each choice, one for everything that hours buy, and the price in parts."""

from collections.abc import Sequence

from study.budget.bought import Choice, Rung, enough
from study.budget.ladder import reserved, sizes
from study.budget.price import Machine, Pictures, line_size
from study.console.text import span

Row = tuple[str, str, str]


def reasons(choice: Choice, pictures: Sequence[Pictures], machine: Machine, given: frozenset[str] = frozenset()) -> list[Row]:
    """Return (what, chosen, why) for every choice; `given`: the names of what the user set."""
    study, p = choice.study, choice.study.protocol
    train = min(x.train for x in pictures)
    per, steps = study.trials // study.searches, p.steps(train)
    drawn = min(-(-study.random_trials // study.searches), per - 1)
    taught = per - 1 - drawn
    confirmed = study.confirm_size or p.image_size
    strategies = tuple(dict.fromkeys(c.strategy for c in study.cells))
    line = line_size(machine.own, confirmed)
    rows = [
        *(
            (
                "images",
                f"{x.images:,}",
                f"{x.train:,} train, {x.val:,} validation, {x.test:,} test. {x.classes} classes. "
                f"{'Longer' if x.side == x.longer > 0 and p.fit != 'square' else 'Shorter'} side {x.side} px (median)",
            )
            for x in pictures
        ),
        (
            "line to beat",
            f"{line} px",
            f"frozen features of all images at {line} px and a classifier solved exactly: about {span(choice.cost.line)}",
        ),
        ("strategies", ", ".join(strategies), _strategies(choice)),
        ("image_size", f"{p.image_size}", _size(choice, pictures, machine)),
        *((("confirm_size", f"{confirmed}", "the pixels of the runs that the verdict rests on"),) if study.confirm_size else ()),
        (
            "max_epochs",
            f"{p.max_epochs}",
            f"{steps:,} optimiser steps a trial" + ("" if steps >= 300 else ". Below 300, training has hardly begun"),
        ),
        (
            "trials",
            f"{study.trials}",
            f"for each strategy. A search is the published default, {drawn} random"
            + (f", {taught} that learn from these" if taught else ""),
        ),
        (
            "searches",
            f"{study.searches}",
            "the verdict is about strategies"
            if study.searches > 1
            else "the verdict is about the settings found, not yet about strategies",
        ),
        (
            "confirm_seeds",
            f"{study.confirm_seeds}",
            "every search's winner is trained again with a fresh seed, and scored once on the images of its fold"
            if study.folds > 1
            else "every winner is trained again with so many fresh seeds, and scored once on the test images",
        ),
        *((("folds", f"{study.folds}", "every image is a test image once, for networks that never saw it"),) if study.folds > 1 else ()),
        ("budget_check", f"{study.budget_check}", _check(choice)),
        ("batch_size", f"{p.batch_size}", f"{train:,} training images: {-(-train // p.batch_size)} steps an epoch"),
        ("precision", p.precision, "the faster, as measured"),
        ("time", f"{choice.cost.hours:.2g} of {choice.hours:g} h", _time(choice, machine)),
        (
            "delivery",
            f"{span(3600 * max(choice.hours - choice.cost.hours, 0))}",
            f"is left for the network that you take away. {reserved(study):.0%} of the hours are set aside for it",
        ),
    ]
    return [(what, value, "given" if what in given else why) for what, value, why in rows]


def bought(choice: Choice) -> list[Row]:
    """Return (what hours buy, whether these did, the hours needed with everything above it): all that was bought, and the next three."""
    study = choice.smallest
    strategies = " and ".join(dict.fromkeys(c.strategy for c in study.cells))
    smallest = f"the line to beat, and {strategies} at {study.protocol.image_size} px: a search and {study.confirm_seeds} confirm runs"
    rows, left = [(smallest, "yes", _from(choice.least))], 0
    for rung in choice.rungs:
        if rung.change.title and left < 3:
            left += not rung.bought
            rows.append((_title(rung), "yes" if rung.bought else "no", _from(rung.hours) if not (rung.bought and left) else ""))
    return rows


def _title(rung: Rung) -> str:
    return rung.change.title + (f": {rung.change.why}" if rung.change.why else "")


def _from(hours: float) -> str:
    return f"--hours {enough(hours):g}"


def _strategies(choice: Choice) -> str:
    left = [f"{name} was left out: to train it fairly needs --hours {enough(hours):g}" for name, hours in choice.left_out.items()]
    return ". ".join(left) or "from the head alone to everything"


def _size(choice: Choice, pictures: Sequence[Pictures], machine: Machine) -> str:
    study = choice.study
    confirmed, side = study.confirm_size or study.protocol.image_size, max(x.side for x in pictures)
    best = sizes(machine.own)[-1]
    searched = "searched at this size, confirmed at more" if study.confirm_size else ""
    if confirmed >= best:
        most = (f"the network was made for {machine.own} px") + (
            f", to which images of {side} px are enlarged" if side < machine.own else ""
        )
        return f"{searched}. Confirmed at {confirmed} px: {most}" if searched else most
    fewer = f"few for images of {side} px and a network made for {machine.own} px. More pixels mostly mean better scores"
    wider = next((r for r in choice.rungs if not r.bought and r.change.fields.keys() == {"size"}), None)
    return fewer + (f". {wider.change.title} need --hours {enough(wider.hours):g}" if wider else "")


def _check(choice: Choice) -> str:
    study = choice.study
    if study.folds > 1:
        return "off: with folds, the images it would be decided on are test images of another fold"
    if not study.budget_check:
        return "off: whether a strategy was cut short stays unknown"
    longer = f" and confirmed at {study.longest} times the epochs where one gains" if study.longest > 1 else ""
    return f"every winner once at {study.budget_check} times the epochs, on validation images{longer}"


def _time(choice: Choice, machine: Machine) -> str:
    cost = choice.cost
    parts = {
        "start and report": cost.start,
        "line to beat": cost.line,
        "search": cost.search,
        "confirmation": cost.confirm + cost.tested,
        "budget check": cost.check,
        "longer confirmation": cost.longer,
    }
    said = ", ".join(f"{name} {span(seconds)}" for name, seconds in parts.items() if seconds)
    busy = f". {machine.busy[0].upper()}{machine.busy[1:]}: on a quiet one it is less" if machine.busy else ""
    return f"about: {said}. A tenth in reserve; {at_once(machine.at_once)}{busy}"


def at_once(trials: int) -> str:
    return f"{trials} trial{'s' * (trials != 1)} at once"
