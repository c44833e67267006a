"""Failpoints: tests of the promise that nothing is lost when a process is killed or broken.

`STUDY_FAILPOINT=name[:n[:action]]` acts at the n-th pass of that point (`*`: at every pass); without the variable a pass costs one
look-up. Actions: `kill` (SIGKILL, the default), `hang`, `sleep` (0.2 s), `exit` (as if done, code 0), `abort` (code 1), `raise` (an error
that cannot be pickled), `eat` (memory until the system refuses). `STUDY_FAILPOINT_RANK` limits it to one DDP worker;
`STUDY_FAILPOINT_TIMES=FOLDER:k` lets it act k times altogether, counted by files in FOLDER over all processes.
"""

import os
import signal
import sys
import time
from pathlib import Path

import psutil

NAMES = (
    "after_lock",
    "after_validate",
    "after_ask",
    "after_ledger_insert",
    "after_mlflow_start",
    "mid_epoch",
    "before_ckpt_rename",
    "after_ckpt_rename",
    "before_report",
    "after_report",
    "before_tell",
    "after_tell",
    "before_mlflow_end",
    "before_budgets",
    "after_budgets",
    "mid_report_write",
)

ACTIONS = ("kill", "hang", "sleep", "exit", "abort", "raise", "eat")

_passes: dict[str, int] = {}


def wrong() -> str:
    """Return why the value of STUDY_FAILPOINT would act nowhere; an empty text where it would act, or there is none."""
    wanted = os.environ.get("STUDY_FAILPOINT", "")
    name, _, rest = wanted.partition(":")
    count, _, action = rest.partition(":")
    if not wanted or (name in NAMES and (count in ("", "*") or (count.isascii() and count.isdigit())) and action in ("", *ACTIONS)):
        return ""
    return (
        f"STUDY_FAILPOINT={wanted} is no NAME[:N[:ACTION]] with NAME of {', '.join(NAMES)}, N a number or *, ACTION of "
        f"{', '.join(ACTIONS)}. It is for tests: unset it."
    )


def failpoint(name: str, rank: int = 0) -> None:
    wanted = os.environ.get("STUDY_FAILPOINT", "")
    if not wanted:
        return
    target, _, rest = wanted.partition(":")
    count, _, action = rest.partition(":")
    if target != name or rank != int(os.environ.get("STUDY_FAILPOINT_RANK", rank)):
        return
    _passes[name] = _passes.get(name, 0) + 1
    if (count == "*" or _passes[name] == int(count or 1)) and _may_act():
        _act(action or "kill")


def _may_act() -> bool:
    folder, _, most = os.environ.get("STUDY_FAILPOINT_TIMES", "").rpartition(":")
    if not folder:
        return True
    for k in range(int(most)):
        try:
            Path(folder, f"fired-{k}").touch(exist_ok=False)
        except FileExistsError:
            continue
        Path(folder, f"fired-{k}").write_text(f"{os.getpid()} {time.time()}")
        return True
    return False


class Unpicklable(Exception):
    def __reduce__(self) -> str:
        raise TypeError("this error cannot be pickled")


def _act(action: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(3600)
        case "sleep":
            time.sleep(0.2)
        case "exit":
            sys.exit(0)
        case "abort":
            os._exit(1)
        case "raise":
            raise Unpicklable("a fault was injected here")
        case "eat":
            eaten = []
            while psutil.virtual_memory().percent < 90:  # what does not object in time must not take the machine along
                eaten.append(b"x" * 50_000_000)
                time.sleep(0.02)
            os._exit(1)
        case _:
            raise ValueError(f"STUDY_FAILPOINT action {action!r}")
