"""The line to beat for every question of a study: frozen features and an exact classifier, before anything is searched.

`features` sees images at the size that the network was made for, which costs only one pass over the images. Smaller images are enlarged
to it, since a pretrained network's filters expect things at that scale (measured on eight data sets of 48 to 160 px with
EfficientNet-Lite0: -1 to +23 points of test macro-F1 against the images' own size, +5 in the mean). `features_small` sees them at the
fewer pixels that the study trains at, to show the cost of the smaller size.

A study that asks at several budgets or sizes of images solves each line once: epochs do not apply to it, and `features` sees every size
of images at the network's own size, except for larger ones.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from study.budget.cost import measure
from study.networks.image_sizes import full_size
from study.networks.weights import timm_name
from study.question.cell import Cell, line_of
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Stage, TrialResult
from study.search.plans import ask_for
from study.search.seeds import confirm_config
from study.strategies import EVERY, LINES, Features, FeaturesSmall


def line_cells(study: Study) -> list[Cell]:
    """Return a cell of each line for every question that starts from a pretrained network, before image sizes are compared."""
    pretrained = (cell for cell in study.cells if EVERY[cell.strategy].start == "pretrained")
    cells = (_whole(line_of(cell, name), study) for cell in pretrained for name in LINES)
    return list(dict.fromkeys(cells))


def _whole(cell: Cell, study: Study) -> Cell:
    """Return the cell with its image size left out where `features` enlarges it to the network's own size."""
    if cell.strategy == Features.name and cell.image_size and cell.image_size <= _full(cell, study):
        return dataclasses.replace(cell, image_size=0)
    return cell


def _full(cell: Cell, study: Study) -> int:
    return study.line_size or full_size(timm_name(cell.backbone))


def line_config(cell: Cell, study: Study) -> TrialConfig | None:
    """Return the settings to solve for a cell of `line_cells`; None where both lines are one, since the study's size is the full one."""
    confirmed = study.confirmed_protocol(cell).image_size
    if not cell.image_size and all(c.image_size for c in study.cells):  # nothing is trained at the protocol's size
        confirmed = 0
    size = max(_full(cell, study), confirmed)
    if cell.strategy == FeaturesSmall.name:
        if size == confirmed:
            return None
        size = confirmed
    of = study.protocol
    protocol = Protocol(max_epochs=1, image_size=size, precision=of.precision, fit=of.fit, metric=of.metric)
    return TrialConfig(cell=cell, strategy=EVERY[cell.strategy](), recipe=Recipe(), protocol=protocol)


def line_asks(study: Study, known: Sequence[Ask]) -> list[Ask]:
    """Return one run of every line on every split and part of the training images that confirm runs see; seeds change no result.

    `known`: all trials asked for before.
    """
    before = {a.trial_id: a for a in known}
    sequence = max((a.sequence for a in known), default=-1) + 1
    found: dict[str, Ask] = {}
    for cell in line_cells(study):
        config = line_config(cell, study)
        for number in range(max(study.confirm_seeds, 1)) if config else ():
            assert config is not None
            own = dataclasses.replace(confirm_config(study, config, number), protocol=config.protocol)  # its fold, part and seed
            if cell.train_fraction == 1:  # every seed would solve the same
                own = dataclasses.replace(own, seed=confirm_config(study, config, 0).seed)
            found.setdefault(
                own.id,
                before.get(own.id) or ask_for(own, cell.id, number, Stage.CONFIRM, Origin.LINE, sequence + len(found)),
            )
    return list(found.values())


def line_hours(study: Study, images: Mapping[tuple[str, str], int], weights: str | None) -> float:
    """Return the hours of one pass over all images (their number by data set and split protocol) for every line, measured on this
    machine."""
    paces: dict[tuple[str, int], float] = {}
    total = 0.0
    for ask in line_asks(study, ()):
        config = TrialConfig.from_dict(ask.config)
        key = (config.cell.backbone, config.protocol.image_size)
        if key not in paces:
            paces[key] = measure(config.cell, config.protocol, 2, weights).evaluate
        total += paces[key] * images[config.cell.dataset, config.cell.split_protocol]
    return total / 3600


def describe(ask: Ask, result: TrialResult) -> str:
    """Return the line's result as one line of text."""
    config = TrialConfig.from_dict(ask.config)
    cell, size = config.cell, config.protocol.image_size
    what = f"{EVERY[cell.strategy].title.partition(', at')[0]}, {cell.backbone}, {size} px"
    metric = config.protocol.scored_by
    if result.objective is None:
        return f"{what}: not known ({result.reason})"
    return f"{what}: {metric.phrase(result.objective)} on validation ({result.seconds:.0f} s)"
