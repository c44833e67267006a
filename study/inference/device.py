"""The device and precision of all computation."""

import contextlib
import ctypes
import functools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Device:
    device: torch.device
    precision: str  # fp32 or bf16

    def autocast(self) -> AbstractContextManager[None]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def place(self, module: M) -> M:
        """Return the module on the device, channels last: on every network tried the faster layout in the faster precision."""
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def wait(self) -> None:
        """Return when the device has finished all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @classmethod
    def best(cls, precision: str) -> "Device":
        """Return the GPU where there is one, else the CPU, with the precision asked for."""
        _keep_memory()
        if torch.cuda.is_available():
            torch.set_float32_matmul_precision("high")
            torch.cuda.reset_peak_memory_stats()  # a reused worker's last trial is another's figure
            torch.backends.cudnn.benchmark = True
            return cls(device=torch.device("cuda", torch.cuda.current_device()), precision=precision)
        return cls(device=torch.device("cpu"), precision=precision)


@functools.cache
def _keep_memory() -> None:
    """Tell glibc to keep freed memory: every step asks for the same large tensors, and fresh pages cost 4-6 % of a step."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
