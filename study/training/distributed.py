"""The same code for several workers or one. A process group, if any, was made by the caller (Ray Train, or `connect` under torchrun)."""

import os

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn


def connect() -> None:
    """Joins the processes that torchrun started, each with a GPU of its own where there are some."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(items: np.ndarray) -> np.ndarray:
    """Every world-th item: unlike DistributedSampler nothing is padded, so no image counts twice."""
    return items[rank() :: world()]


def gather_rows(rows: Tensor, total: int) -> np.ndarray:
    """Puts the shards of a [total, C] tensor together again, in order, on every worker."""
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
    """Averaged over workers, in place."""
    if world() > 1:
        dist.all_reduce(value)
        value /= world()
    return value


def each(value: float, device: torch.device) -> list[float]:
    """One number of every worker, by rank."""
    values = torch.zeros(world(), dtype=torch.float64, device=device)
    values[rank()] = value
    if world() > 1:
        dist.all_reduce(values)
    return [float(v) for v in values]


def broadcast_buffers(module: nn.Module) -> None:
    """Batch-norm statistics differ between workers after their last step; worker 0's are kept."""
    if world() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def barrier() -> None:
    if world() > 1:
        dist.barrier()
