"""The worlds in which the verdict must hold, each with its protocol."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.partitioned import Partitioned
from benchmarks.worlds import Latent, Mixed, World
from study.scoring import find_metric


@dataclass(frozen=True, kw_only=True)
class Case:
    """A world and a protocol. The former protocol has the same number of confirm runs, all of one search's winner."""

    name: str
    world: World
    searches: int = 1
    seeds: int = 5  # of each search
    before: World | None = None  # the world as one search with the whole budget sees it; None: the same
    follow: bool = False  # follow forecasts up
    looks: int = 1  # repeated looks at growing runs
    wide: bool = False  # True: intervals may be wider than they need to be
    told_apart: bool = True  # False: what the study sees may look exactly like a real difference, so that no bar can be held


def cases() -> Iterator[Case]:
    """Yield the cases. Names that end in "none" have no difference between any two strategies."""
    yield from search_luck()
    yield from seeds_and_sessions()
    yield from folds()
    yield from collapses()
    yield from poor_searches()
    yield from small_classes()
    yield from many_pairs()
    yield from margins()
    yield from forecasts()


def measured_by(text: str) -> Iterator[Case]:
    """The default worlds, one split each, by another metric."""
    for case in (*search_luck(), *seeds_and_sessions()):
        assert isinstance(case.world, Latent)
        metric = find_metric(text).bind([str(k) for k in range(len(case.world.shares))])
        yield replace(case, name=f"{metric.words}: {case.name}", world=replace(case.world, metric=metric), before=None)


def search_luck() -> Iterator[Case]:
    for r in (0.0, 0.5, 1.0, 2.0):
        yield Case(name=f"search sd {r:g} seed sd, none", world=Latent(search=0.2 * r), searches=5, seeds=1)
    for searches in (3, 5):
        yield Case(name=f"search sd 1 seed sd, {searches} searches x 2 seeds, none", world=Latent(search=0.2), searches=searches, seeds=2)
    yield Case(name="rugged space, 5 x 8 trials (1 x 40), none", world=Latent(trials=8), before=Latent(trials=40), searches=5, seeds=1)
    for points in (6.0, 10.0):
        yield Case(name=f"search sd 1 seed sd, {points:g} points", world=Latent(search=0.2, points=(points, 0.0)), searches=5, seeds=1)


def seeds_and_sessions() -> Iterator[Case]:
    for seeds in (3, 5, 10):
        yield Case(name=f"one search, {seeds} seeds, none", world=Latent(), seeds=seeds)
    yield Case(name="one search, 5 seeds, 5 points", world=Latent(points=(5.0, 0.0)))
    yield Case(name="A 5 x noisier, 5 seeds, none", world=Latent(seed=0.06, seeds_by=(5.0, 1.0), points=(1e-9, 0.0)))
    for sessions, pure, seeds in ((10, False, 5), (10, False, 10), (18, True, 10), (20, False, 10), (40, False, 10), (40, True, 5)):
        name = f"{sessions} uneven {'class-pure ' * pure}sessions, {seeds} seeds, none"
        yield Case(name=name, world=Latent(sessions=sessions, pure=pure, seed=0.06), seeds=seeds)


def folds() -> Iterator[Case]:
    for training, seeds in ((1, 5), (1, 10), (2, 10)):
        world = Latent(folds=5, images=200, training=0.2 * training)
        yield Case(name=f"5 folds, training sd {training} seed sd, {seeds} seeds, none", world=world, seeds=seeds)
    world = Latent(folds=5, images=200, training=0.2, search=0.2)
    yield Case(name="5 folds x 3 searches, none", world=world, searches=3, seeds=1)


def collapses() -> Iterator[Case]:
    for seeds in (3, 5, 10, 20):
        # a collapse that is seen makes the interval wide and, below ten runs, the pair not comparable
        world = Latent(collapse=(0.15, 0.15), seed=0.06)
        yield Case(name=f"both collapse in 15 %, {seeds} seeds, none", world=world, seeds=seeds, wide=True)
    for seeds in (3, 5, 10, 20):
        # a study that sees no collapse (44 % of those with five seeds) sees A better, as it would be if it never collapsed
        world = Latent(collapse=(0.15, 0.0), seed=0.06)
        yield Case(name=f"A alone collapses, means equal, {seeds} seeds", world=world, seeds=seeds, told_apart=False)


def poor_searches() -> Iterator[Case]:
    """Yield cases of three strategies where a search with poor settings must not be taken for a collapsed run. One point is 0.077."""
    laws = (
        ("searches alike", Latent(), 1),
        ("search sd 1 seed sd", Latent(search=0.2), 1),
        ("poor tail sd 3.6 points", Latent(tail=3.6 / 13), 1),
        ("poor tail sd 6 points", Latent(tail=6 / 13), 1),
        ("poor tail sd 6 points", Latent(tail=6 / 13), 2),
    )
    for name, world, seeds in laws:
        of = f"{name}, 5 searches x {seeds}"
        yield Case(name=f"{of}, 3 pairs, none", world=replace(world, points=(0.0,) * 3), searches=5, seeds=seeds)
        one = replace(world, points=(0.0,) * 3, collapse=(0.15, 0.0, 0.0))
        yield Case(name=f"{of}, A collapses, means equal", world=one, searches=5, seeds=seeds, told_apart=False)


def small_classes() -> Iterator[Case]:
    """Yield cases of nine classes, eight of them with 6 % of the images, as in a split of a few hundred photographs.

    Macro-F1 over 3 or 4 images of a class has another mean than over many: a strategy that seldom names a rare class loses by it, and
    one that names it readily does not.
    """
    for images in (60, 140, 180):
        for bold in (0.0, 0.6):
            for seeds in (5, 10):
                world = Latent(
                    images=images, shares=(0.06,) * 8 + (0.52,), even=True, level=-0.7, common=1.8, lure=1.0, bold=bold,
                    points=(1e-9, 0.0), difficulty=0.8, taste=0.1, chance=0.3, seed=0.06,
                )  # fmt: skip
                kind = "A bold, B careful" if bold else "alike"
                yield Case(name=f"8 classes of {0.06 * images:.3g} images, {kind}, {seeds} seeds, none", world=world, seeds=seeds)


def many_pairs() -> Iterator[Case]:
    for strategies in (3, 4, 5):
        world = Latent(points=(0.0,) * strategies, search=0.2)
        yield Case(name=f"{strategies * (strategies - 1) // 2} pairs, none", world=world, searches=5, seeds=1)
    world = Latent(points=(16.0, 12.0, 8.0, 4.0, 0.0), search=0.1, seed=0.1)
    yield Case(name="10 pairs, all differ", world=world, searches=5, seeds=1)


def precise(*points: float) -> Latent:
    """Return a world in which differences far below a point can be seen."""
    return Latent(points=points, seed=0.02, interaction=0.06, taste=0.02, chance=0.1, images=3000)


def margins() -> Iterator[Case]:
    for points in (0.0, 0.5, 1.0, 2.0):
        name = f"precise study, {points:g} points" if points else "precise study, none"
        yield Case(name=name, world=precise(points, 0.0))
    yield Case(name="precise study, 10 pairs about the margin", world=precise(2.0, 1.0, 1.0, 0.0, 0.0))


def cheaper() -> Iterator[Case]:
    """Yield cases for "good enough" at a worth of 3 points.

    The last strategy is the cheapest, and costs a little more than 3 points, a little less, or nothing.
    """
    for points in (3.2, 2.0, 0.0):
        for strategies in (2, 4):
            law = precise(*(points,) * (strategies - 1), 0.0)
            yield Case(name=f"precise, {strategies} strategies, the cheapest costs {points:g} points", world=law)
            law = Latent(points=(*(points,) * (strategies - 1), 0.0), search=0.1, images=1500)
            yield Case(
                name=f"1,500 test images, {strategies} strategies, the cheapest costs {points:g} points", world=law, searches=5, seeds=1
            )


def forecasts() -> Iterator[Case]:
    """Yield cases with many true differences.

    Forecasts are right on average over them: large ones are decided more often, small ones less.
    """
    for search, searches, seeds in ((0.0, 1, 5), (0.2, 5, 1)):
        mixed = Mixed(worlds=tuple(Latent(points=(points, 0.0), search=search) for points in (2.0, 4.0, 6.0, 8.0)))
        name = f"forecasts, 2 to 8 points, {searches} search{'es' * (searches > 1)} x {seeds} seed{'s' * (seeds > 1)}"
        yield Case(name=name, world=mixed, searches=searches, seeds=seeds, follow=True)
    world = Latent(images=1500, taste=0.1, interaction=0.1, seed=0.25)
    yield Case(name="add 5 seeds and look, five looks, none", world=world, seeds=5, looks=5)


def partitions() -> Iterator[tuple[str, Partitioned]]:
    """Yield cross-fitted studies with their total number of images. Names with "none" have no difference between the two strategies."""
    laws = {
        "seed sd 1.3": Latent(seed=0.1),
        "search sd 2.6, seed sd 2.6": Latent(search=0.2),
        "search sd 5, seed sd 2.6": Latent(search=0.4),
    }
    sizes, every = (150, 300, 600), ((5, 1), (5, 2), (10, 1))
    found = [(f"{name}, none", Partitioned(law=replace(law, images=n), designs=every)) for n in sizes for name, law in laws.items()]
    for points in (5.0, 10.0):
        law = Latent(search=0.2, points=(points, 0.0))
        found += [(f"search sd 2.6, {points:g} points", Partitioned(law=replace(law, images=n))) for n in sizes]
    for overlap, reshuffled in ((0.0, 0.0), (0.0, 0.5), (0.55, 0.75)):
        world = Partitioned(law=Latent(search=0.1, training=0.1, images=300), overlap=overlap, reshuffled=reshuffled)
        found.append((f"training sd 1.3, alike {overlap:g} | {reshuffled:g}, none", world))
    for images, sessions in ((300, 20), (300, 60), (600, 40)):
        found.append((f"{sessions} uneven sessions, none", Partitioned(law=Latent(search=0.1, sessions=sessions, images=images))))
    found.append(("a third are copies, none", Partitioned(law=Latent(search=0.1, images=300), copies=1 / 3)))
    for number, (name, world) in enumerate(found):
        yield name, replace(world, number=number)
