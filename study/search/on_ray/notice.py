"""The notice that a node will be taken away (a spot machine's preemption, an autoscaler's drain), which Ray gives 30 to 120 s ahead.

Training continues as long as the node lives. Meanwhile every epoch leaves a checkpoint, so that the next node resumes from there.
"""

import time
from collections.abc import Callable
from typing import Any

ASK_S = 2.0  # between two questions to Ray's head: notices come long before


def leaving(whole_cluster: bool = False) -> Callable[[], bool]:
    """Return a function that returns True while this worker's node is on notice, or any node, with `whole_cluster`, for trials on
    several.

    It asks the head at most every ASK_S seconds. A missing answer is no notice: it never ends a trial.
    """
    import ray

    asked_at, found = float("-inf"), False

    def ask() -> bool:
        nonlocal asked_at, found
        if not found and time.monotonic() - asked_at >= ASK_S:
            asked_at = time.monotonic()
            try:
                draining = _draining()
                found = bool(draining) if whole_cluster else ray.get_runtime_context().get_node_id() in draining
            except Exception:  # whatever a Ray of another version has in its place
                found = False
        return found

    return ask


def _draining() -> dict[str, Any]:
    """Return by node id when each node that is on notice will be gone (unix milliseconds; 0: not said)."""
    from ray._private.state import state  # where Ray Train's own watcher asks; no public call has it (2.60)

    return dict(state.get_draining_nodes())
