"""A network in two halves. The part below the cut is frozen, needs no gradient, and can be computed once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from study.strategies import Phase
from study.strategies.slots import Slot

TOLERANCE = 1e-4  # relative; the two halves must reproduce the whole network


def near(got: Tensor, expected: Tensor) -> bool:
    """Return True where both are equal except for rounding. NaN is near nothing."""
    return got.shape == expected.shape and bool((got - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1e-6))


class Uncut(Exception):
    """The error of a way to cut that cannot serve a network. Its message gives the reason."""


class Split(nn.Module):
    """Two halves where `trained(frozen(x))` equals the whole network. `frozen` is None when nothing can be cut off.

    Both halves together hold every tensor of the network once, under its own name.
    """

    def __init__(
        self,
        frozen: nn.Module | None,
        trained: nn.Module,
        *,
        cut: int,
        slots: tuple[Slot, ...],
        arguments: dict[str, Any],
        prefix: str = "",
        how: str = "",
        why_whole: str = "",
    ) -> None:
        super().__init__()
        self.frozen, self.trained, self.cut = frozen, trained, cut
        self.prefix = prefix  # of the trained half's tensor names, when that half is the bare head
        self.how = how  # head, chain or replay: the way it was cut
        self.why_whole = why_whole  # one line, where nobody could cut it
        self.slots = {slot.name: slot for slot in slots}
        self.arguments = arguments

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.trained(self.activations(images))
        return logits

    @torch.no_grad()
    def activations(self, images: Tensor) -> Tensor:
        return images if self.frozen is None else self.frozen(images)

    @property
    def where(self) -> int | str:
        """Return the cut, or "whole"."""
        return "whole" if self.frozen is None else self.cut

    def named(self) -> Iterator[tuple[Slot, nn.Parameter]]:
        """Yield the trained half's parameters with their slots, which have the whole network's names."""
        for name, parameter in self.trained.named_parameters():
            yield self.slots[self.prefix + name], parameter

    def named_whole(self) -> Iterator[tuple[Slot, Tensor]]:
        """Yield the parameters of both halves with their slots."""
        yield from ((self.slots[name], tensor) for name, tensor in self.network_state().items() if name in self.slots)

    def network_state(self) -> dict[str, Tensor]:
        """Return the whole network's state dict."""
        state = {self.prefix + k: v for k, v in self.trained.state_dict().items()}
        if self.frozen is not None:
            state |= {k: v for k, v in self.frozen.state_dict().items() if k not in state}
        return state

    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors that training changes. The frozen half is known from the pretrained weights."""
        return {self.prefix + k: v for k, v in self.trained.state_dict().items()}

    def around(self, trained: nn.Module) -> "Split":
        """Return the same cut with the same frozen half around another trained half."""
        return Split(
            self.frozen,
            trained,
            cut=self.cut,
            slots=tuple(self.slots.values()),
            arguments=self.arguments,
            prefix=self.prefix,
            how=self.how,
            why_whole=self.why_whole,
        )

    def set_training(self, phase: Phase, batch_norm: str) -> None:
        """Set train mode only for what moves in this phase.

        A frozen batch norm in train mode would drift, since its statistics move, and a frozen block would drop paths. A module without
        parameters follows the block that contains it.
        """
        self.trained.train()
        if self.frozen is not None:
            self.frozen.eval()
        moving = {"": True}  # by module that holds parameters: whether any of them moves
        for slot, _ in self.named():
            path = slot.name.removeprefix(self.prefix)
            while path := path.rpartition(".")[0]:
                moving[path] = moving.get(path, False) or phase.moves(slot)
        for name, module in self.trained.named_modules():
            own = [self.slots[f"{self.prefix}{name}.{p}" if name else self.prefix + p] for p, _ in module.named_parameters(recurse=False)]
            is_norm = getattr(module, "running_mean", None) is not None
            block = name
            while block not in moving:
                block = block.rpartition(".")[0]
            still = not any(phase.moves(slot) for slot in own) if own else block != name and not moving[block]
            if still or (is_norm and (batch_norm == "freeze" or phase.freeze_statistics)):
                module.training = False  # its own: what stands in it is looked at by itself
