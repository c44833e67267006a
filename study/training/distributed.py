"""Helpers that serve one worker or several. A process group, if there is one, was made by the caller (Ray Train, torchrun)."""

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(items: np.ndarray) -> np.ndarray:
    """Return every world-th item. Unlike in DistributedSampler nothing is padded, so no image counts twice."""
    return items[rank() :: world()]


def gather_rows(rows: Tensor, total: int) -> np.ndarray:
    """Return the shards of a [total, C] tensor put together again, in order, on every worker."""
    if world() == 1:
        return rows.float().cpu().numpy()
    most = -(-total // world())
    padded = torch.zeros(most, *rows.shape[1:], device=rows.device, dtype=torch.float32)
    padded[: len(rows)] = rows
    shards = [torch.empty_like(padded) for _ in range(world())]
    dist.all_gather(shards, padded)
    whole = torch.stack(shards, dim=1).flatten(0, 1)[:total]
    return whole.cpu().numpy()


def mean(value: Tensor) -> Tensor:
    """Average the value over workers, in place, and return it."""
    if world() > 1:
        dist.all_reduce(value)
        value /= world()
    return value


def each(value: float, device: torch.device) -> list[float]:
    """Return one number of every worker, by rank."""
    values = torch.zeros(world(), dtype=torch.float64, device=device)
    values[rank()] = value
    if world() > 1:
        dist.all_reduce(values)
    return [float(v) for v in values]


def broadcast_buffers(module: nn.Module) -> None:
    """Copy worker 0's batch-norm statistics to all workers; they differ after the last step."""
    if world() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def barrier() -> None:
    if world() > 1:
        dist.barrier()
