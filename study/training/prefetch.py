"""Images fetched to the device during training: read from disk and copied from pinned memory, one batch ahead.

It serves images that do not fit into the GPU's memory; others are kept there (`Inputs.place`).
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

Read = Callable[[np.ndarray], np.ndarray]
AT_ONCE = 2  # batches: the one that is coming, and one that was asked for and is not wanted after all


class Ahead:
    """A fetcher of rows in the background. `take` returns the rows that `fetch` was called with."""

    def __init__(self, read: Read, device: torch.device) -> None:
        """Set up the fetcher. `read(rows [B]) -> [B, ...]` is called in a thread of its own."""
        self._read, self.device = read, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._coming: dict[bytes, Future[tuple[Tensor, torch.cuda.Event | None]]] = {}

    def fetch(self, rows: np.ndarray) -> None:
        """Start to fetch the rows and return at once."""
        while len(self._coming) >= AT_ONCE:
            self._coming.pop(next(iter(self._coming))).cancel()
        self._coming.setdefault(rows.tobytes(), self._thread.submit(self._copy, rows))

    def take(self, rows: np.ndarray) -> Tensor | None:
        """Return those rows on the device, None where they were not fetched. Raises the errors of reading them."""
        coming = self._coming.pop(rows.tobytes(), None)
        if coming is None:
            return None
        found, copied = coming.result()
        if copied is not None:
            now = torch.cuda.current_stream(self.device)
            now.wait_event(copied)  # the GPU waits, not this thread
            found.record_stream(now)  # its memory is not given away before this stream has read it
        return found

    def _copy(self, rows: np.ndarray) -> tuple[Tensor, torch.cuda.Event | None]:
        there = torch.from_numpy(self._read(rows))
        if self._stream is None:
            return there.to(self.device), None
        with torch.cuda.stream(self._stream):
            found = there.pin_memory().to(self.device, non_blocking=True)  # torch keeps pinned memory until the copy has ended
            return found, self._stream.record_event()
