"""The running average of what is trained (EMA, Polyak and Juditsky 1992): the network that is scored and kept where the recipe asks."""

from typing import Any

from timm.utils import ModelEmaV3
from torch import Tensor, nn

from study.networks.cutting.halves import Split


class Average:
    """Begins with a phase, as the phase does. Batch-norm statistics are averaged as weights are.

    After step t the average moves by 1 - min(decay, 1 - t^(-2/3)) towards the network: early ones forget where training began,
    which a trial of a few hundred steps would otherwise remember to its end (timm's warm-up of the decay).
    """

    def __init__(self, model: Split, decay: float) -> None:
        self._ema = ModelEmaV3(model.trained, decay=decay, use_warmup=True)
        self.network = model.around(self._ema.module)

    def update(self, trained: nn.Module, step: int) -> None:
        """`step`: of the phase, from 1."""
        self._ema.update(trained, step=step)

    def load(self, state: dict[str, Tensor]) -> None:
        """What `network.trained_state()` gave."""
        self.network.trained.load_state_dict({k.removeprefix(self.network.prefix): v for k, v in state.items()})


def averaged(saved: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a saved state as a phase that is over leaves them to the next."""
    return {**saved["model"], **saved.get("average", {})}
