"""MIG slices: parts of a GPU, each a small GPU of its own. Ray counts whole GPUs, and a process can use one slice."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

GPUs = Sequence[dict[str, Any]]
"""GPUs as `node_report.gpus` lists them: a name, and profiles of slices."""


def in_words(gpus: GPUs) -> str:
    """Return "2 x NVIDIA H100 80GB HBM3 (7 MIG slices: 7 x 1g.10gb)"; an empty text where there is no GPU."""
    said = Counter(f"{gpu['name']}{_slices(gpu['slices'])}" for gpu in gpus)
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in said.items())


def _slices(profiles: Sequence[str]) -> str:
    if not profiles:
        return ""
    kinds = ", ".join(f"{count} x {kind}" for kind, count in Counter(profiles).items())
    return f" ({len(profiles)} MIG slice{'s' * (len(profiles) > 1)}: {kinds})"


def slice_problems(who: str, gpus: GPUs, counted: float, workers: int = 1) -> list[str]:
    """Return the faults of a node's slices, one line each. `counted`: GPUs as Ray has them of this node; `workers` of a trial."""
    slices, whole = sum(len(gpu["slices"]) for gpu in gpus), sum(not gpu["slices"] for gpu in gpus)
    if not slices:
        return []
    out = []
    if counted != slices:
        how = "CUDA_VISIBLE_DEVICES=MIG-...,MIG-... (each UUID of `nvidia-smi -L`)"
        out.append(
            f"{who} has {slices} MIG slices{f' and {whole} whole GPUs' * bool(whole)}, and Ray counts {counted:g} GPUs there: it "
            f"knows no slices. Start Ray on it with {how} and --num-gpus={slices}."
        )
    if workers > 1:
        out.append(f"{who} has MIG slices, which NCCL joins into no group: give a trial one worker, not {workers}, or whole GPUs.")
    return out
