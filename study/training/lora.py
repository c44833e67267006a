"""LoRA (Hu et al. 2022, arXiv 2106.09685): a weight moves by a product of two thin factors, and the factors are optimised.

The network itself stays timm's own, its weights always the sums, so a plain network is evaluated, kept and cut. That is exact: the
factors' gradients are products of the weight's own, and linear in it, so workers may average before.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from study.networks.cutting.halves import Split
from study.strategies import Phase

ALPHA = 8.0  # an update is ALPHA / rank times the product: fixed, as published, so that one range of rates serves every rank


@dataclass(frozen=True, kw_only=True, eq=False)
class Factor:
    """The factors of one weight: weight = base + ALPHA / rank * up @ down."""

    weight: nn.Parameter  # [outputs, inputs, ...]
    base: Tensor  # as the phase found it
    up: nn.Parameter  # [outputs, rank], zeros at first: training begins with the network as it is
    down: nn.Parameter  # [rank, inputs]


class Factors:
    """The factors of every weight that moves by factors in a phase, by name; none where the phase has no rank."""

    def __init__(self, model: Split, phase: Phase, seed: int = 0, saved: Mapping[str, Tensor] | None = None) -> None:
        """Set up the factors. `down` is drawn from (seed, the weight's name), as PEFT draws it; `saved` is an earlier `state()`."""
        self.scale = ALPHA / max(phase.rank, 1)
        self.by_name: dict[str, Factor] = {}
        for slot, weight in model.named():
            if phase.rank and slot.stage > 0 and slot.matrix and phase.moves(slot):
                outputs, inputs = slot.matrix
                known = saved or {
                    f"{slot.name}/base": weight.detach().clone(),
                    f"{slot.name}/up": torch.zeros(outputs, phase.rank),
                    f"{slot.name}/down": _drawn(seed, slot.name, phase.rank, inputs),
                }
                base, up, down = (known[f"{slot.name}/{part}"].to(weight.device) for part in ("base", "up", "down"))
                self.by_name[slot.name] = Factor(weight=weight, base=base, up=nn.Parameter(up), down=nn.Parameter(down))

    def parameters(self) -> Iterator[nn.Parameter]:
        for factor in self.by_name.values():
            yield from (factor.up, factor.down)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed trial needs besides the network."""
        return {f"{name}/{part}": getattr(f, part).detach() for name, f in self.by_name.items() for part in ("base", "up", "down")}

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Take the gradients of the weights, which are then dropped; after a backward pass, before gradients are clipped."""
        for f in self.by_name.values():
            if f.weight.grad is not None:
                gradient = f.weight.grad.reshape(len(f.up), -1) * self.scale
                f.up.grad, f.down.grad = gradient @ f.down.T, f.up.T @ gradient
                f.weight.grad = None

    @torch.no_grad()
    def merge(self) -> None:
        """Write the factors into the weights, after a step."""
        for f in self.by_name.values():
            f.weight.copy_(f.base + (self.scale * (f.up @ f.down)).view_as(f.base))


def _drawn(seed: int, name: str, rank: int, inputs: int) -> Tensor:
    """Return a draw that is uniform within 1 / sqrt(inputs): Kaiming's with a = sqrt(5), as in torch's linear layers."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    bound = 1 / math.sqrt(inputs)
    return torch.empty(rank, inputs).uniform_(-bound, bound, generator=torch.Generator().manual_seed(int.from_bytes(digest[:6], "big")))
