"""The running average of the trained weights (EMA, Polyak and Juditsky 1992), which is scored and kept where the recipe asks for it."""

from typing import Any

from timm.utils import ModelEmaV3
from torch import Tensor, nn

from study.networks.cutting.halves import Split


class Average:
    """An average that begins with its phase. Batch-norm statistics are averaged as weights are.

    After step t the average moves by 1 - min(decay, 1 - t^(-2/3)) towards the network. Early averages so forget the start of training,
    which a trial of a few hundred steps would otherwise keep to its end (timm's warm-up of the decay).
    """

    def __init__(self, model: Split, decay: float) -> None:
        self._ema = ModelEmaV3(model.trained, decay=decay, use_warmup=True)
        self.network = model.around(self._ema.module)

    def update(self, trained: nn.Module, step: int) -> None:
        """Move the average towards the network. `step`: of the phase, from 1."""
        self._ema.update(trained, step=step)

    def load(self, state: dict[str, Tensor]) -> None:
        """Load the result of `network.trained_state()`."""
        self.network.trained.load_state_dict({k.removeprefix(self.network.prefix): v for k, v in state.items()})


def averaged(saved: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a saved state as a finished phase leaves them to the next."""
    return {**saved["model"], **saved.get("average", {})}
