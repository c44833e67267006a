"""The average of several networks' weights (Wortsman et al. 2022), at the cost of one network. Validation says whether it is good."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from study.errors import ConfigError
from study.metrics import fit_temperature, score
from study.use.predictor import Predictor

CHUNK = 256  # images read from the memory-mapped cache at a time


@dataclass(frozen=True, kw_only=True)
class Souped:
    """The averaged network with its own temperature; macro-F1 on validation, shares in [0, 1]."""

    predictor: Predictor
    members: list[float]
    own: float

    @property
    def text(self) -> str:
        return (
            f"weights averaged over {len(self.members)} confirm runs: validation macro-F1 {100 * self.own:.1f}, its members "
            f"{', '.join(f'{100 * v:.1f}' for v in self.members)}; it has no test score, and its temperature "
            f"{self.predictor.temperature:.3f} "
            "is fitted on the same validation images"
        )


def soup(members: Sequence[Predictor], pixels: np.ndarray, chosen: np.ndarray, labels: np.ndarray) -> Souped:
    """Average networks of one kind, and score the result on uint8 `pixels`[chosen] [N, S, S, C].

    Raises ConfigError where it scores less than its members do on average: a mean of heads or networks that went different ways is
    useless.
    """
    first = members[0]
    scores = [score(_logits(m, pixels, chosen), labels)[0]["macro_f1"] for m in members]
    states = [m.model.state_dict() for m in members]
    mean = {
        name: torch.stack([s[name].double() for s in states]).mean(dim=0).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }
    first.model.load_state_dict(mean)
    logits = _logits(first, pixels, chosen)
    own = score(logits, labels)[0]["macro_f1"]
    if own < np.mean(scores):
        raise ConfigError(
            f"the averaged weights score {100 * own:.1f} on validation, their networks {100 * float(np.mean(scores)):.1f} on average: "
            "not written. Leave --soup out, or take study.predict --ensemble."
        )
    temperature = fit_temperature(logits.astype(float), labels)
    return Souped(predictor=Predictor(first.kept, first.model, temperature), members=scores, own=own)


def _logits(network: Predictor, pixels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.concatenate([network.logits(np.asarray(pixels[chosen[k : k + CHUNK]])) for k in range(0, len(chosen), CHUNK)])
