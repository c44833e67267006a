"""Image sizes in timm: networks built for one size get it as an argument, others take any size."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from study.errors import ConfigError
from study.storage.refusals import one_line

USUAL_PX = 224


def sized(full: str, image_size: int | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return `arguments` for timm, with img_size where the network is built for one size and it is not its own."""
    settings = timm.get_pretrained_cfg(full)
    if image_size is None or settings is None or not settings.fixed_input_size:
        return arguments
    own = arguments.get("img_size", settings.input_size[-1])
    return arguments if own == image_size else {**arguments, "img_size": image_size}


def own_size(full: str) -> int | None:
    """Return the pixels a side that the network was made for; None where timm does not say."""
    settings = timm.get_pretrained_cfg(full)
    return int(settings.input_size[-1]) if settings else None


def full_size(full: str) -> int:
    """Return `own_size`, or the usual size for a network that timm does not know."""
    return own_size(full) or USUAL_PX


def refusal(full: str, size: int | None, error: Exception) -> ConfigError:
    """Return an error of one line: the size, timm's reason, the network's patches and windows, and its own size as the way out."""
    own = own_size(full)
    if size in (None, own):
        return ConfigError(f"{full} cannot be used: {type(error).__name__}: {one_line(error)}. Choose another backbone.")
    with torch.device("meta"):
        grid = _grid(timm.create_model(full, pretrained=False))
    rule = f"it cuts images into {grid}, so image_size must be a multiple that they fill" if grid else "its layers do not fit that size"
    return ConfigError(f"{full} does not take images of {size} px ({one_line(error)}): {rule}; {own} is its own size.")


def _grid(model: nn.Module) -> str:
    """Return the network's patches and windows, in words."""

    def seen(name: str) -> list[str]:
        values = [getattr(m, name, None) for m in model.modules()]
        sides = {v[0] if isinstance(v, (tuple, list)) else v for v in values if v}
        return [str(s) for s in sorted(s for s in sides if isinstance(s, int) and s > 1)]

    patches, windows = seen("patch_size"), seen("window_size")
    words = [f"patches of {' and '.join(patches)} px"] if patches else []
    return " and ".join(words + ([f"windows of {', '.join(windows)} patches"] if windows else []))


@torch.no_grad()
def check_forward(model: nn.Module, full: str, input_size: tuple[int, int, int]) -> None:
    """Run one forward pass in each mode. Raises ConfigError where the network does not take the size, or gives no logits in training."""
    images, training = torch.zeros(2, *input_size), model.training
    try:
        if rest := _left_over(model, input_size[-1]):
            raise ValueError(f"its patches would leave {rest} px out")
        for mode in (False, True):
            logits = model.train(mode)(images)
            if not isinstance(logits, Tensor) or logits.ndim != 2:
                raise TypeError(f"{'in training it' if mode else 'it'} gives {_described(logits)}, not logits [images, classes]")
    except Exception as error:  # whatever a network of timm's makes of a size that it was not made for
        raise refusal(full, input_size[-1], error) from None
    finally:
        model.train(training)


def _left_over(model: nn.Module, size: int) -> int:
    """Return the pixels a side that no patch covers, which the network would drop without a message."""
    embed = getattr(model, "patch_embed", None)
    side = getattr(embed, "patch_size", None)
    if getattr(embed, "dynamic_img_pad", True) or not side:
        return 0
    return size % int(side[0] if isinstance(side, (tuple, list)) else side)


def _described(value: Any) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
