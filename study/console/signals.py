"""SIGINT and SIGTERM: finished work is kept, exit 130 or 143. A second one ends the process at once.

Both are answered at once. Python calls its handlers between two instructions of the main thread, which inside a long step of training is
too late to print anything; the numbers of signals come through a socket to a thread that waits for them.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from study import early

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(threading.Event):
    """An event that is set when a signal came; `code` is the exit code that says which."""

    code = 0
    raises = False  # set while waiting for others (Ray): the wait is broken off, for the ledger holds all that is done
    doing = "what is being done"  # what is brought to its end first, where nothing is raised
    told = False  # what comes is answered by somebody else

    def came(self, number: int) -> None:
        self.code = 128 + number
        self.set()

    @contextlib.contextmanager
    def during(self, doing: str) -> Iterator[None]:
        before, self.doing = self.doing, doing
        try:
            yield
        finally:
            self.doing = before

    def answer(self) -> str:
        return "stopping (again: at once)" if self.raises else f"stopping after {self.doing} (again: at once)"

    def stopped(self) -> int:
        """Print how to resume; return the exit code, which names the signal."""
        print("stopped. Resume with the same command", file=sys.stderr)
        return self.code

    def break_off(self) -> None:
        """End the main thread's wait from another thread, for a reason that is reported elsewhere."""
        if not self.is_set():
            self.told = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupted]:
    event = Interrupted()
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # signals are the main thread's; a notebook's or a server's own keep theirs
        yield event
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        event.came(number)
        if event.raises:
            raise KeyboardInterrupt

    numbers, bell = socket.socketpair()
    bell.setblocking(False)
    listener = threading.Thread(target=_listen, args=(numbers, event), name="study-signals", daemon=True)
    listener.start()
    before = {s: signal.signal(s, handle) for s in SIGNALS}
    rung = signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    try:
        yield event
    finally:
        signal.set_wakeup_fd(rung)
        for number, handler in before.items():
            signal.signal(number, handler)
        bell.close()  # the listener ends
        listener.join()
        numbers.close()


def _listen(numbers: socket.socket, event: Interrupted) -> None:
    stopping = False
    while came := numbers.recv(1):
        number = came[0]
        if number not in SIGNALS:
            continue
        if stopping:
            early.remove_temporary()
            os._exit(128 + number)
        stopping = True
        event.came(number)
        if not event.told:
            print(event.answer(), file=sys.stderr, flush=True)
