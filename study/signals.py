"""SIGINT and SIGTERM: what is done is kept, exit 130 or 143. A second one ends at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(threading.Event):
    """Set when a signal came; `code` is the exit code that says which."""

    code = 0
    raises = False  # set while waiting for others (Ray): the wait is broken off, for the ledger holds all that is done


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupted]:
    event = Interrupted()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if event.is_set():
            os._exit(128 + number)
        event.code = 128 + number
        event.set()
        if event.raises:
            raise KeyboardInterrupt

    if (
        threading.current_thread() is not threading.main_thread()
    ):  # signals are the main thread's; a notebook's or a server's own keep theirs
        yield event
        return
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
