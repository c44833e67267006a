"""How much of a GPU a trial needs: from what the study's own trials were measured to take."""

import math
from collections.abc import Iterable

from study.records import TrialResult

CONTEXT_BYTES = 1.0e9  # CUDA's own share of every process, outside torch's allocator
MARGIN = 1.25  # a deeper unfrozen network than the measured one keeps more for its backward pass


def gpu_share(results: Iterable[TrialResult]) -> float | None:
    """The fraction of a GPU, 1/n rounded down to Ray's 0.0001, such that n trials of the hungriest kind measured fit into the smallest
    GPU seen; None while none was measured."""
    facts = [r.facts for r in results if r.facts.get("peak_gpu_bytes") and r.facts.get("gpu_bytes")]
    if not facts:
        return None
    trial = MARGIN * max(f["peak_gpu_bytes"] for f in facts) + CONTEXT_BYTES
    at_once = max(int(min(f["gpu_bytes"] for f in facts) / trial), 1)
    return math.floor(1e4 / at_once) / 1e4
