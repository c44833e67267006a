"""The cost of a study in seconds, from measurements of its images and of the machine. Nothing here reads a disk or a clock.

Each strategy is priced by its real work: every stored view passes the frozen half once, independent of the epochs; trials that a search
may stop early are priced at their expected share; the line to beat is one pass over the images.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from study.question.cell import Cell
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.space import Domain, Integer, extremes

RESERVE = 1.1  # times the price: other programs run too
STRENGTHS = (1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8)
"""Shares of the strengths of augmentation to which stored views are rounded (`training.augment.LEVELS`), where a search draws evenly."""
BUSY = 1.5
"""Programs that want a processor, for each processor, from which on a machine is called busy."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Facts of a data set's images that decide its cost."""

    dataset: str  # as `grid` takes it: NAME[@SPLITS]
    train: int
    val: int
    test: int
    classes: int
    side: int  # median shorter side, pixels: of a tile, where images are seen in tiles, and then the numbers are of tiles too
    longer: int = 0  # median longer side, pixels: what a study sees that shows whole pictures
    folds: int = 1  # into which they should be cut, so that each is a test image once; 1: a fifth is enough, or the test split is given

    @property
    def images(self) -> int:
        return self.train + self.val + self.test


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that an image takes in one of the trials that run at once."""

    frozen: float  # through the frozen half, augmented before and stored after; 0 where nothing is frozen
    train: (
        float  # forward and backward through the trained half, with its share of the optimiser's step; augmented, where nothing is frozen
    )
    evaluate: float  # forward through the trained half

    @property
    def whole(self) -> float:
        """Return the forward pass through the whole network."""
        return self.frozen + self.evaluate


Paces = tuple[Pace, ...]
"""Paces of a strategy at one image size: with the settings at one end of their searched ranges, and at the other."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The measurements of a machine."""

    at_once: int  # trials
    start: float  # seconds of a whole study that no trial takes: start-up, the images read, the report
    trial: float  # seconds a trial takes besides its images: the network made, its weights kept
    solve: float  # seconds to solve for one image and one class on the network's features
    own: int  # pixels a side that the network was made for
    paces: Mapping[tuple[str, str], Mapping[int, Paces]]  # by (backbone, strategy), then by image size
    load: float = 0.0  # programs that wanted a processor when it was measured
    cores: int = 1

    @property
    def busy(self) -> str:
        """Return a note that other programs were using the machine; empty for a quiet one."""
        if self.load < BUSY * self.cores:
            return ""
        return f"measured while this machine was busy: load {self.load:.0f} on {self.cores} core{'s' * (self.cores != 1)}"

    def pace(self, backbone: str, strategy: str, size: int) -> Paces:
        """Return the pace at a size, measured or computed.

        Between sizes it has a fixed part and one in proportion to pixels, from the two nearest sizes measured; with a single one it is in
        proportion to pixels. Below the smallest size it is the smallest's.
        """
        known = self.paces[backbone, strategy]
        sizes = sorted(known)
        if size in known or size < sizes[0]:
            return known[max(size, sizes[0])]
        if len(sizes) == 1:
            return tuple(_mixed(p, p, (size / sizes[0]) ** 2, 0.0) for p in known[sizes[0]])
        high = next((s for s in sizes if s > size), sizes[-1])
        low = sizes[sizes.index(high) - 1]
        share = (size**2 - low**2) / (high**2 - low**2)
        return tuple(_mixed(a, b, 1 - share, share) for a, b in zip(known[low], known[high], strict=True))


def _mixed(a: Pace, b: Pace, first: float, second: float) -> Pace:
    fields = [f.name for f in dataclasses.fields(Pace)]
    return Pace(**{n: max(first * getattr(a, n) + second * getattr(b, n), min(getattr(a, n), getattr(b, n))) for n in fields})


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of a study by purpose."""

    start: float
    line: float  # the line to beat
    search: float
    confirm: float
    tested: float = 0.0  # the confirm runs measured on the test images, once nothing more is bought
    check: float = 0.0  # the budget check: every winner once more, trained longer
    longer: float = 0.0  # at most: all confirm runs but the checked one again at the longer budget, where a strategy gains by it

    @property
    def seconds(self) -> float:
        return self.start + self.line + self.search + self.confirm + self.tested + self.check + self.longer

    @property
    def hours(self) -> float:
        return RESERVE * self.seconds / 3600


def cost_of(study: Study, pictures: Sequence[Pictures], machine: Machine, won: Mapping[str, float] | None = None) -> Cost:
    """Return the price of a study.

    Stages are priced by list scheduling's bound (Graham 1969): the trials that run at once share the work, and the stage waits for the
    longest.

    `won`: of cells whose search has chosen, by id, the place of the winner's settings between the usual cut (0) and the dearest (1).
    """
    by_name = {p.dataset: p for p in pictures}
    trials = {c: _Trial(study, c, by_name[c.data.text], machine, (won or {}).get(c.id)) for c in study.cells}
    runs = study.confirm_seeds

    def stage(of: Sequence["_Trial"], count: Callable[["_Trial"], float], longest: Callable[["_Trial"], float]) -> float:
        together = machine.at_once
        return (sum(map(count, of)) + (together - 1) * max(map(longest, of), default=0.0)) / together

    def confirm(factor: int, count: int, *, checked: bool = False) -> float:
        """Return the seconds of confirm runs. `checked`: only of the questions whose budget is checked."""
        of = [t for t in trials.values() if not checked or study.is_longest(t.cell)]
        usual = {t: study.confirmed_protocol(t.cell) for t in of}
        long = {t: dataclasses.replace(p, max_epochs=factor * p.max_epochs) for t, p in usual.items()}
        each = {t: t.won(long[t]) for t in of}
        return stage(of, lambda t: count * each[t] + t.once(long[t]), lambda t: each[t]) if count else 0.0

    return Cost(
        start=machine.start,
        line=_lines(study, by_name, machine),
        search=stage(list(trials.values()), lambda t: t.search() + t.once(t.protocol), lambda t: t.usual(t.protocol)),
        confirm=confirm(1, runs),
        tested=stage(list(trials.values()), lambda t: runs * t.tested(), lambda t: t.tested()) if runs else 0.0,
        check=confirm(study.budget_check, 1, checked=True) if study.budget_check and runs else 0.0,
        longer=confirm(study.longest, runs - (study.longest == study.budget_check), checked=True)
        if study.budget_check and study.longest > 1
        else 0.0,
    )


def run_seconds(
    study: Study, cell: Cell, protocol: Protocol, pictures: Sequence[Pictures], machine: Machine, won: Mapping[str, float] | None = None
) -> float:
    """Return the seconds of one training of the cell's winner by a protocol of the study's, without its measurement on test images."""
    trial = _Trial(study, cell, next(p for p in pictures if p.dataset == cell.data.text), machine, (won or {}).get(cell.id))
    return trial.won(protocol)


def line_size(own: int, smallest: int) -> int:
    """Return the pixels a side of the line to beat: the network's own size, to which smaller images are enlarged, and at least
    `smallest`."""
    return max(own, smallest)


def _lines(study: Study, by_name: Mapping[str, Pictures], machine: Machine) -> float:
    """Return the seconds of the lines, one trial at a time: features of all images at the full size, and at the study's where that is
    less."""
    seconds = 0.0
    for name, backbone in dict.fromkeys((c.data.text, c.backbone) for c in study.cells):
        own, strategy = by_name[name], next(c.strategy for c in study.cells if c.backbone == backbone)
        sizes = {study.confirmed_protocol(c).image_size for c in study.cells if (c.data.text, c.backbone) == (name, backbone)}
        for pixels in {line_size(machine.own, size) for size in sizes} | sizes:
            forward = fmean(pace.whole for pace in machine.pace(backbone, strategy, pixels))
            once = 2 * machine.trial + own.images * forward / machine.at_once + own.train * own.classes * machine.solve
            seconds += (study.searches if study.folds > 1 else 1) * once
    return seconds


class _Trial:
    """The cost of one trial of a cell, in seconds of the machine's one share."""

    def __init__(self, study: Study, cell: Cell, pictures: Pictures, machine: Machine, place: float | None = None) -> None:
        self.study, self.cell, self.pictures, self.machine, self.place = study, cell, pictures, machine, place
        self.protocol = study.protocol_of(cell)
        self.images = round(pictures.train * cell.train_fraction)
        self.blends = any(max(extremes(d)) > 0 for n, d in study.ranges(cell).items() if n in ("mixup", "cutmix"))

    def usual(self, protocol: Protocol) -> float:
        """Return the seconds with settings from anywhere in their ranges."""
        return fmean(self._seconds(protocol, pace) for pace in self._paces(protocol))

    def won(self, protocol: Protocol) -> float:
        """Return the seconds of one run with the settings that a search chose, or, before it has, with settings halfway from the usual to
        the dearest, since deep cuts win more often than shallow ones."""
        return self._at_place([self._seconds(protocol, pace) for pace in self._paces(protocol)])

    def tested(self) -> float:
        """Return the seconds of measuring one confirm run on the test images."""
        return self._at_place([self._measured(pace) for pace in self._paces(self.study.confirmed_protocol(self.cell))])

    def search(self) -> float:
        """Return the seconds of all trials of the cell: the published defaults, then random ones, then guided ones that may be stopped
        early."""
        study, p = self.study, self.protocol
        each = study.trials // study.searches
        drawn = min(-(-study.random_trials // study.searches), each - 1)
        depths = max((d.high - d.low + 1 for d in _whole(study.ranges(self.cell))), default=1)
        whole = 1 + drawn + (each - 1 - drawn) * trained_share(study)  # so many trials that train to their end
        views = distinct(whole - 1, depths) / whole  # trials of one search share the views that look alike
        return study.searches * whole * fmean(self._seconds(p, pace, views) for pace in self._paces(p))

    def once(self, protocol: Protocol) -> float:
        """Return the seconds of scoring through the frozen half, once for all trials at one size; each outer fold has other images."""
        paces = self._paces(protocol)
        return self.study.folds * sum(self._looked(protocol) * pace.frozen for pace in paces)

    def _paces(self, protocol: Protocol) -> Paces:
        return self.machine.pace(self.cell.backbone, self.cell.strategy, protocol.image_size)

    def _looked(self, protocol: Protocol) -> int:
        return self.pictures.val + min(self.images, protocol.train_eval_images)

    def _at_place(self, each: Sequence[float]) -> float:
        """Return the price of the winner's settings, from those at the ends of their ranges."""
        if self.place is not None:
            return (1 - self.place) * each[0] + self.place * each[-1]
        return (fmean(each) + max(each)) / 2

    def _measured(self, pace: Pace) -> float:
        return self.machine.trial + (self.pictures.val + self.pictures.test) * pace.whole

    def _seconds(self, protocol: Protocol, pace: Pace, new_views: float = 1.0) -> float:
        passes = protocol.max_epochs * protocol.passes(self.images)
        views = passes if self.blends or not protocol.views else new_views * min(passes, protocol.views)
        trained = self.images * (views * pace.frozen + passes * pace.train)
        return self.machine.trial + trained + protocol.max_epochs * self._looked(protocol) * pace.evaluate


def _whole(ranges: Mapping[str, Domain]) -> list[Integer]:
    return [d for d in ranges.values() if isinstance(d, Integer)]


def distinct(drawn: float, cuts: int) -> float:
    """Return the expected number of kinds of stored views for so many random trials and the published default.

    Strengths of augmentation are rounded and networks are cut at `cuts` places.
    """
    shares = [share / cuts for share in STRENGTHS for _ in range(cuts)]
    default = STRENGTHS[len(STRENGTHS) // 2] / cuts
    return 1 + sum(1 - (1 - share) ** drawn for share in shares) - (1 - (1 - default) ** drawn)


def trained_share(study: Study) -> float:
    """Return the share of a trial that successive halving trains on average: one in `reduction_factor` goes on at every rung."""
    going, share, before, rung = 1.0, 0.0, 0, study.grace_epochs
    while rung < study.protocol.max_epochs:
        share += going * (rung - before)
        going, before, rung = going / study.reduction_factor, rung, rung * study.reduction_factor
    return (share + going * (study.protocol.max_epochs - before)) / study.protocol.max_epochs
