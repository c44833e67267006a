"""The part of a GPU that a trial needs, computed from the measured memory of the study's own trials."""

import math
from collections.abc import Iterable

from study.records import TrialResult

CONTEXT_BYTES = 1.0e9  # CUDA's own share of every process, outside torch's allocator
MARGIN = 1.25  # a deeper unfrozen network than the measured one keeps more for its backward pass


def gpu_share(results: Iterable[TrialResult]) -> float | None:
    """Return the fraction of a GPU, 1/n rounded down to Ray's 0.0001, with which n trials fit into the smallest GPU seen.

    The trials are taken to need as much as the largest one measured. None while none was measured.
    """
    facts = [r.facts for r in results if r.facts.get("peak_gpu_bytes") and r.facts.get("gpu_bytes")]
    if not facts:
        return None
    trial = MARGIN * max(f["peak_gpu_bytes"] for f in facts) + CONTEXT_BYTES
    at_once = max(int(min(f["gpu_bytes"] for f in facts) / trial), 1)
    return math.floor(1e4 / at_once) / 1e4
