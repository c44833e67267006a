"""Checks whether images of a size fit into memory, before a pass is tried: one that does not fit may take the whole machine down."""

import copy

import psutil
import torch
from torch import Tensor, nn

from study.errors import ConfigError

LARGE_PX = 512  # below, nothing is looked at: a pass of two such images fits everywhere
SAVED = 0.5  # of what layers put out, at least so much is kept for the way back


def at_hand() -> float:
    """Return the bytes that this process may still take: those of the machine, or the rest of its own limit."""
    free = float(psutil.virtual_memory().available)
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    except ImportError:
        return free
    return free if limit == resource.RLIM_INFINITY else min(free, max(limit - psutil.Process().memory_info().vms, 0.0))


def on_device() -> float:
    """Return the bytes for training: of the largest GPU here, else as `at_hand`."""
    if torch.cuda.is_available():
        return float(max(torch.cuda.get_device_properties(k).total_memory for k in range(torch.cuda.device_count())))
    return at_hand()


@torch.no_grad()
def layers_put_out(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[float, float]:
    """Return (bytes in and out of the largest layer, bytes out of all layers) for one image in 32 bit, without computing anything.

    Zeros where torch cannot tell.
    """
    largest = total = 0

    def seen(_: nn.Module, given: tuple[object, ...], out: object) -> None:
        nonlocal largest, total
        if isinstance(out, Tensor):
            total += out.numel()
            largest = max(largest, out.numel() + sum(t.numel() for t in given if isinstance(t, Tensor)))

    shadow = copy.deepcopy(model).to("meta").eval()
    for module in shadow.modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(seen)
    try:
        shadow(torch.empty(1, *input_size, device="meta"))
    except Exception:  # whatever a network makes of the size: the pass itself says it better
        return 0.0, 0.0
    return 4.0 * largest, 4.0 * total


def check_memory(where: str, model: nn.Module, input_size: tuple[int, int, int], images: int) -> None:
    """Check that two images fit for a pass, and `images` at once, with all activations kept, for training (0: none). Raises
    ConfigError."""
    if input_size[-1] <= LARGE_PX:
        return
    largest, total = layers_put_out(model, input_size)
    for needed, have, what in (
        (2 * largest, at_hand(), "a pass of two images"),
        (images * SAVED * total, on_device(), f"training on {images} images at once"),
    ):
        if needed > have:
            raise ConfigError(
                f"{where}: at {input_size[-1]} px {what} needs about {needed / 1e9:.1f} GB, and {have / 1e9:.1f} GB are free. "
                "Choose a smaller image_size, or a smaller batch_size where it trains."
            )
