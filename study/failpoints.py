"""Failpoints: `STUDY_FAILPOINT=name[:n]` kills this process with SIGKILL at the n-th pass of that point.

How the promise "whatever is killed, nothing is lost" is tested; without the variable a pass costs one look-up.
"""

import os
import signal

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
    "mid_report_write",
)

_passes: dict[str, int] = {}


def failpoint(name: str) -> None:
    wanted = os.environ.get("STUDY_FAILPOINT")
    if wanted is None:
        return
    target, _, count = wanted.partition(":")
    if target == name:
        _passes[name] = _passes.get(name, 0) + 1
        if _passes[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
