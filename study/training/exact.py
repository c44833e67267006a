"""The line to beat: logistic regression on frozen features, solved exactly instead of trained.

One pass over the images gives the features. L-BFGS solves the same convex problem for a path of strengths, and validation chooses among
them. No epoch, learning rate, augmentation or seed influences the result, so one run is enough.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.errors import ConfigError
from study.inference.device import Device
from study.networks.cutting.cut import split
from study.networks.cutting.halves import Split
from study.networks.pretrained import Backbone, create
from study.question.trial_config import TrialConfig
from study.records import EpochRecord
from study.scoring.figures import scored_by
from study.scoring.metric import DEFAULT
from study.strategies import Features as Line
from study.training import epoch_facts
from study.training.inputs import Features, Inputs
from study.training.scored import scored

STRENGTHS = tuple(float(f"{10.0**k:.3g}") for k in np.arange(-4.0, 1.01, 0.5))
"""Values of C of scikit-learn's LogisticRegression on standardised features, from very strong regularisation to hardly any."""
ITERATIONS = 2000
TOLERANCE = 1e-5
THREADS_PAY = 2e7
"""The size of the features, in numbers, from which several threads solve faster than one: below, they wait for each other."""
BATCH = 256
"""Features fetched at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A linear classifier of features [N, D]: logits are `features @ weight.T + bias`."""

    weight: np.ndarray  # float64 [C, D]
    bias: np.ndarray  # float64 [C]
    strength: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return logits float64 [N, C] of features [N, D]."""
        out: np.ndarray = features @ self.weight.T + self.bias
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """A network whose head was solved, with an epoch's record like that of any other network."""

    record: EpochRecord
    network: Split


@dataclass(frozen=True, kw_only=True, eq=False)
class Frozen:
    """A pretrained network cut below its linear head, which is yet to be solved, and the images as that head sees them."""

    backbone: Backbone
    network: Split
    features: Features
    where: Device

    def train(self) -> np.ndarray:
        """Return features float32 [N, D] of the training images, from the store where it has them."""
        return _rows(self.features.train_unaugmented, len(self.features.inputs.train))

    def val(self) -> np.ndarray:
        """Return features float32 [N, D] of the validation images."""
        return _rows(self.features.val, len(self.features.inputs.val))


def freeze(config: TrialConfig, inputs: Inputs, *, weights: str | None = None) -> Frozen:
    """Cut `config`'s pretrained network below its head. Raises ConfigError for one that cannot be cut below a single linear head."""
    where = Device.best(config.protocol.precision)
    inputs.place(where.device)
    backbone = create(
        config.cell.backbone, len(inputs.table.classes), weights=weights, seed=config.seed, image_size=config.protocol.image_size
    )
    network = where.place(split(backbone, 0))
    head = getattr(network.trained, "weight", None)
    if network.frozen is None or head is None or getattr(network.trained, "bias", None) is None:
        raise ConfigError(
            f"{config.cell.backbone}: no linear head to solve for ({network.why_whole or type(network.trained).__name__}); "
            "the line to beat is left out for this network."
        )
    network.eval()
    return Frozen(backbone=backbone, network=network, features=Features(inputs, network, backbone, config, where), where=where)


def solve(config: TrialConfig, inputs: Inputs, *, weights: str | None = None) -> Solved:
    """Solve the head of `config`'s network on its frozen features of the training images; validation chooses the strength.

    Raises ConfigError for a network that cannot be cut below a single linear head.
    """
    frozen = freeze(config, inputs, weights=weights)
    network = frozen.network
    head: Any = network.trained.weight

    began, worked = time.perf_counter(), time.process_time()
    train, val = frozen.train(), frozen.val()
    strengths = _strengths(config, len(inputs.val))
    path = fit_path(train, inputs.labels_of(inputs.train), len(inputs.table.classes), inputs.weights_of(inputs.train), strengths)
    metric = config.protocol.scored_by.bind(inputs.table.classes)
    by_strength = [scored(metric, inputs, c.logits(val), inputs.val) for c in path] if len(val) else []
    best = choose([figures for figures, *_ in by_strength], metric.key) if len(path) > 1 else 0
    chosen = path[best]
    found, confusion, _ = scored(metric, inputs, chosen.logits(val), inputs.val) if by_strength else ({}, None, None)
    with torch.no_grad():
        head.copy_(torch.from_numpy(chosen.weight).to(head).view_as(head))
        network.trained.bias.copy_(torch.from_numpy(chosen.bias).to(head))  # type: ignore[operator]
    train_seconds = time.perf_counter() - began

    own, *_ = scored(metric, inputs, chosen.logits(train), inputs.train)
    facts: dict[str, Any] = epoch_facts.describe(
        frozen.features, frozen.backbone, frozen.where, 1, sum(p.numel() for p in network.trained.parameters())
    )
    record = EpochRecord(
        epoch=1,
        metrics={"train/loss": own["nll"]} | {f"train/{k}": v for k, v in own.items()} | {f"val/{k}": v for k, v in found.items()},
        train_seconds=train_seconds,
        eval_seconds=time.perf_counter() - began - train_seconds,
        images=len(inputs.train),
        ended_at=time.time(),
        facts=facts | {"strength": chosen.strength, "cpu_seconds": time.process_time() - worked} | scored_by(metric),
        confusion=None if confusion is None else confusion.tolist(),
    )
    return Solved(record=record, network=network)


def _strengths(config: TrialConfig, validation: int) -> tuple[float, ...]:
    """Return the strengths to try. Raises ConfigError where there are several and no validation image to choose by."""
    own = config.strategy.strength if isinstance(config.strategy, Line) else 0.0
    if not own and not validation:
        raise ConfigError("no validation image is left to choose the strength by: give the strategy's strength.")
    return (own,) if own else STRENGTHS


def choose(by_strength: list[dict[str, float]], key: str = DEFAULT.key) -> int:
    """The place of the strength with the best validation score, called `key`; of several, the one whose probabilities are likeliest."""
    return max(range(len(by_strength)), key=lambda k: (by_strength[k].get(key, -math.inf), -by_strength[k]["nll"]))


def fit_path(
    features: np.ndarray, labels: np.ndarray, classes: int, weights: np.ndarray | None = None, strengths: Sequence[float] = STRENGTHS
) -> list[Classifier]:
    """Return a classifier of `classes` classes for each of `strengths`.

    They are fitted to features [N, D], labels [N] and, where there are any, weights [N] of images. A class without training images is
    never predicted. Each solution begins at the one before it. Labels bool [N, C], where an image may have several, are solved one by one.
    """
    if labels.ndim == 2:
        return _each_label([_path_of(features, own.astype(np.int64), weights, strengths) for own in labels.T], strengths)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    centre, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-30), scale, 1.0)  # what never varies is no feature
    standard = ((features - centre) / scale).astype(np.float64)
    known = np.unique(labels)
    if len(known) < 2:
        raise ConfigError(f"the training images show {len(known)} class. A classifier needs two or more.")
    rotation = None
    if len(standard) < standard.shape[1]:  # the penalty knows no axes: the same solution in the space that the images span, and faster
        left, lengths, rotation = np.linalg.svd(standard, full_matrices=False)
        standard = left * lengths
    model = LogisticRegression(max_iter=ITERATIONS, tol=TOLERANCE, warm_start=True)
    found = []
    for strength in strengths:
        model.C = strength
        with warnings.catch_warnings(), threadpool_limits(1 if standard.size < THREADS_PAY else None):
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(standard, labels, sample_weight=weights)
        coefficients, intercept = _by_class(model.coef_, model.intercept_)
        weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, float(intercept.min()) - NEVER)
        weight[known] = (coefficients if rotation is None else coefficients @ rotation) / scale
        bias[known] = intercept - weight[known] @ centre
        found.append(Classifier(weight=weight, bias=bias, strength=strength))
    return found


def _path_of(features: np.ndarray, own: np.ndarray, weights: np.ndarray | None, strengths: Sequence[float]) -> list[Classifier]:
    """Return the classifiers [2, D] of a label that images have (1) or have not (0), which is always or never said where all are alike."""
    if len(kinds := np.unique(own)) == 2:
        return fit_path(features, own, 2, weights, strengths)
    bias = np.array([0.0, NEVER if kinds[0] else -NEVER])
    return [Classifier(weight=np.zeros((2, features.shape[1])), bias=bias, strength=strength) for strength in strengths]


def _each_label(paths: Sequence[Sequence[Classifier]], strengths: Sequence[float]) -> list[Classifier]:
    """Return for each strength one classifier of all labels, whose logits are those of yes less those of no."""
    found = []
    for k, strength in enumerate(strengths):
        weight = np.stack([path[k].weight[1] - path[k].weight[0] for path in paths])
        bias = np.array([path[k].bias[1] - path[k].bias[0] for path in paths])
        found.append(Classifier(weight=weight, bias=bias, strength=strength))
    return found


NEVER = 50.0
"""The distance of the logits of a class without training images below the lowest other."""


def _by_class(coefficients: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients and intercepts by class. For two classes scikit-learn solves for their difference: half of it goes to each."""
    if len(coefficients) > 1:
        return coefficients, intercept
    return np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-intercept, intercept]) / 2


def _rows(fetch: Callable[[np.ndarray], Tensor], total: int) -> np.ndarray:
    """Return features float32 [total, D]."""
    if not total:
        return np.zeros((0, 0), np.float32)
    parts = [fetch(np.arange(k, min(k + BATCH, total))).flatten(1) for k in range(0, total, BATCH)]
    return torch.cat(parts).float().cpu().numpy()
