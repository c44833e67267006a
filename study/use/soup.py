"""The average of several networks' weights (Wortsman et al. 2022), at the cost of one network. Validation says whether it is good."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from study.errors import ConfigError
from study.metrics import fit_temperature
from study.scoring.metric import DEFAULT, Metric
from study.use.predictor import Predictor

CHUNK = 256  # images read from the memory-mapped cache at a time


@dataclass(frozen=True, kw_only=True)
class Souped:
    """The averaged network with its own temperature; scores on validation, higher is better."""

    predictor: Predictor
    members: list[float]
    own: float
    metric: Metric = DEFAULT

    @property
    def text(self) -> str:
        return (
            f"weights averaged over {len(self.members)} confirm runs: validation {self.metric.words} "
            f"{self.metric.shown(self.own):.1f}, its members "
            f"{', '.join(f'{self.metric.shown(v):.1f}' for v in self.members)}. It has no test score, and its temperature "
            f"{self.predictor.temperature:.3f} is fitted on the same validation images"
        )


def soup(members: Sequence[Predictor], pixels: np.ndarray, chosen: np.ndarray, labels: np.ndarray, metric: Metric = DEFAULT) -> Souped:
    """Average networks of one kind, and score the result on uint8 `pixels`[chosen] [N, S, S, C].

    Raises ConfigError where it scores less than its members do on average: a mean of heads or networks that went different ways is
    useless.
    """
    first = members[0]
    if first.kept.several:
        raise ConfigError("--soup is judged on images that have one label, and these may have several. Leave it out.")
    metric = metric.bind(first.kept.classes)
    scores = [_score(metric, _logits(m, pixels, chosen), labels) for m in members]
    states = [m.model.state_dict() for m in members]
    mean = {
        name: torch.stack([s[name].double() for s in states]).mean(dim=0).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }
    first.model.load_state_dict(mean)
    logits = _logits(first, pixels, chosen)
    own = _score(metric, logits, labels)
    if own < np.mean(scores):
        raise ConfigError(
            f"the averaged weights score {metric.shown(own):.1f} on validation, their networks "
            f"{metric.shown(float(np.mean(scores))):.1f} on average: not written. Leave --soup out, or take study.predict --ensemble."
        )
    temperature = fit_temperature(logits.astype(float), labels)
    return Souped(predictor=Predictor(first.kept, first.model, temperature), members=scores, own=own, metric=metric)


def _score(metric: Metric, logits: np.ndarray, labels: np.ndarray) -> float:
    return float(metric.score(labels, metric.said(logits, metric.temperature(logits, labels))))


def _logits(network: Predictor, pixels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.concatenate([network.logits(np.asarray(pixels[chosen[k : k + CHUNK]])) for k in range(0, len(chosen), CHUNK)])
