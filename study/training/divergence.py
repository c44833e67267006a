"""The check for a non-finite loss, which ends a trial at once and without waiting for the device."""

import math

import torch
from torch import Tensor

from study.training import distributed


class DivergedError(Exception):
    """A loss that became non-finite: this configuration does not train."""


class FiniteLoss:
    """A check that stops at the first non-finite loss.

    On a GPU the value is copied to pinned memory in the background and checked a few steps later.
    """

    LAG = 4

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.pending: list[tuple[Tensor, torch.cuda.Event | None, int]] = []

    def watch(self, loss: Tensor, step: int) -> None:
        """Check the loss of a step, float32 scalar. Raises DivergedError."""
        loss = distributed.mean(loss.clone())  # all workers must agree to stop, or the others would hang
        if loss.device.type == "cuda":
            host = torch.empty((), pin_memory=True)
            host.copy_(loss, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self.pending.append((host, event, step))
            if len(self.pending) > self.LAG:
                self._check(*self.pending.pop(0))
        else:
            self._check(loss, None, step)

    def finish(self) -> None:
        while self.pending:
            self._check(*self.pending.pop(0))

    def _check(self, loss: Tensor, event: torch.cuda.Event | None, step: int) -> None:
        if event is not None:
            event.synchronize()
        if not math.isfinite(float(loss)):
            raise DivergedError(f"loss became {float(loss)} at step {step + 1} of epoch {self.epoch}")
