"""The one training loop. `fine_tune` is read from top to bottom; everything it calls is a page of its own.

It yields after every epoch. Stopping early is not asking for the next; saving is the caller's business;
resuming is passing a state back in.
"""

import contextlib
import ctypes
import dataclasses
import functools
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from study import backbones
from study.config import TrialConfig
from study.errors import ConfigError
from study.failpoints import failpoint
from study.records import EpochRecord
from study.strategies import Phase
from study.training import distributed
from study.training.inputs import Inputs
from study.training.metrics import score
from study.training.split import Split, split

EVAL_BATCH = 64


class DivergedError(Exception):
    """The loss became non-finite: this configuration does not train."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything needed to go on after an epoch. Holds live tensors: save it before asking for the next epoch."""

    history: tuple[EpochRecord, ...]
    model: Split
    optimizer: torch.optim.Optimizer
    phase: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "history": [r.as_dict() for r in self.history],
            "model": self.model.trained_state(),
            "optimizer": self.optimizer.state_dict(),
            "phase": self.phase,
        }


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where and how the arithmetic is done."""

    device: torch.device
    precision: str

    def autocast(self) -> Any:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @classmethod
    def best(cls, precision: str) -> "Device":
        _keep_memory()
        if torch.cuda.is_available():
            torch.set_float32_matmul_precision("high")
            torch.cuda.reset_peak_memory_stats()  # a reused worker's last trial is another's figure
            torch.backends.cudnn.benchmark = True
            return cls(device=torch.device("cuda", torch.cuda.current_device()), precision=precision)
        return cls(device=torch.device("cpu"), precision=precision)


@functools.cache
def _keep_memory() -> None:
    """Tells glibc to keep what is freed: every step asks for the same large tensors, and fresh pages cost 4-6 % of a step."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def fine_tune(
    config: TrialConfig,
    inputs: Inputs,
    *,
    weights: str | None = None,
    saved: dict[str, Any] | None = None,
    micro_batches: int = 1,
) -> Iterator[tuple[EpochRecord, State]]:
    """Trains `config` epoch by epoch. `saved` is an earlier State.as_dict(); `micro_batches` > 1 accumulates gradients.

    Raises DivergedError at the first non-finite loss, ConfigError when the strategy does not fit the network.
    """
    protocol = config.protocol
    where = Device.best(protocol.precision)
    inputs.place(where.device)

    # ---- the plan: phases of epochs, each with its own frozen half -------------------------------
    backbone = backbones.create(config.cell.backbone, len(inputs.table.classes), weights=weights, seed=config.seed)
    try:
        phases = config.strategy.phases(backbone.num_stages, protocol.max_epochs)
    except ValueError as error:
        raise ConfigError(f"{config.cell.id}: {error}") from None
    ends = np.cumsum([p.epochs for p in phases])
    history = [EpochRecord.from_dict(r) for r in saved["history"]] if saved else []
    steps = -(-len(inputs.train) // protocol.batch_size)
    if len(inputs.train) < 2 * distributed.world():
        raise ConfigError(f"{len(inputs.train)} training images are too few for {distributed.world()} workers; need at least 2 each.")

    carried: dict[str, Tensor] = saved["model"] if saved else {}  # what training has changed so far
    for index, phase in enumerate(phases):
        if len(history) >= ends[index] and index < len(phases) - 1:
            continue  # finished before; the next phase starts from its weights

        # ---- model and optimizer: frozen before DDP wraps them ----------------------------------
        backbone.model.load_state_dict(backbone.model.state_dict() | carried)
        model = split(backbone, phase.cut).to(where.device, memory_format=torch.channels_last)
        optimizer = _optimizer(model, phase, config.recipe.weight_decay)
        if saved and saved["phase"] == index:
            optimizer.load_state_dict(saved["optimizer"])
        start = int(ends[index]) - phase.epochs
        # buffers: worker 0's are broadcast once an epoch, so that no forward pass waits for the slowest worker
        ddp = DistributedDataParallel(model.trained, forward_sync_buffers=False) if distributed.world() > 1 else model.trained
        features = inputs.behind(model, backbone, config, where)

        for epoch in range(max(len(history), start) + 1, int(ends[index]) + 1):
            # ---- train --------------------------------------------------------------------------
            began = time.perf_counter()
            torch.manual_seed((config.seed * 1_000_003 + epoch) * 1_009 + distributed.rank())  # dropout, drop path
            model.set_training(phase.lrs, protocol.batch_norm)
            guard = FiniteLoss(epoch)
            losses, busy = torch.zeros((), device=where.device), 0.0
            for step, batch in enumerate(inputs.batches(config.seed, epoch, steps)):
                _set_lr(optimizer, phase, (epoch - start - 1 + step / steps), protocol.warmup_epochs, steps)
                optimizer.zero_grad(set_to_none=True)
                mine = distributed.shard(batch)
                ready = time.perf_counter()
                if step == steps // 2:
                    failpoint("mid_epoch", distributed.rank())
                for part in np.array_split(mine, min(micro_batches, len(mine))):
                    with where.autocast():
                        logits = ddp(features.train(part, epoch))
                    each = F.cross_entropy(
                        logits.float(), inputs.targets(part), label_smoothing=config.recipe.label_smoothing, reduction="sum"
                    )
                    loss = each * (distributed.world() / len(batch))  # DDP averages over workers: exact for uneven shards
                    busy += time.perf_counter() - ready  # a worker's own time: in backward it waits for the others
                    loss.backward()
                    losses += loss.detach() * (len(batch) / len(inputs.train))
                    guard.watch(loss.detach(), step)
                    ready = time.perf_counter()
                if math.isfinite(protocol.grad_clip):
                    torch.nn.utils.clip_grad_norm_(model.trained.parameters(), protocol.grad_clip)
                optimizer.step()
            guard.finish()
            distributed.broadcast_buffers(model.trained)
            train_loss = float(distributed.mean(losses))
            train_seconds = time.perf_counter() - began
            paces = distributed.each(busy, where.device)

            # ---- evaluate: eval mode, no augmentation, each image once -------------------------------
            began = time.perf_counter()
            model.eval()
            metrics = {"train/loss": train_loss, "lr": phase.lrs[0] or 0.0}
            seen, _ = score(_logits(model, features.train_plain, len(inputs.train_eval), where), inputs.labels_of(inputs.train_eval))
            val, confusion = score(_logits(model, features.val, len(inputs.val), where), inputs.labels_of(inputs.val))
            metrics |= {f"train/{k}": v for k, v in seen.items()} | {f"val/{k}": v for k, v in val.items()}
            if not all(map(math.isfinite, metrics.values())):
                raise DivergedError(f"non-finite metric after epoch {epoch}")
            best = max((r.objective for r in history), default=-math.inf)
            record = EpochRecord(
                epoch=epoch,
                metrics=metrics,
                train_seconds=train_seconds,
                eval_seconds=time.perf_counter() - began,
                images=len(inputs.train),
                ended_at=time.time(),
                facts=_facts(model, backbone, where, features, micro_batches) | {"busy_seconds": paces},
            )
            if record.objective > best:
                record = dataclasses.replace(record, confusion=confusion.tolist())
            history.append(record)
            yield record, State(history=tuple(history), model=model, optimizer=optimizer, phase=index)

        if index < len(phases) - 1:
            carried = {k: v.cpu() for k, v in model.network_state().items()}
            backbone = backbones.create(config.cell.backbone, len(inputs.table.classes), weights=weights, seed=config.seed)


def _optimizer(model: Split, phase: Phase, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with one group a stage and kind; norms and biases are not decayed. lr is set at every step."""
    stage_of = {n: k for k, names in enumerate(model.stages) for n in names}
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named():
        stage = stage_of[name]
        parameter.requires_grad_(phase.lrs[stage] is not None)
        if phase.lrs[stage] is not None:
            groups.setdefault((stage, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": params, "lr": phase.lrs[stage], "stage": stage, "weight_decay": weight_decay if decayed else 0.0}
            for (stage, decayed), params in sorted(groups.items())
        ],
        fused=True,  # one pass over memory: on a CPU a quarter of the time of the other kinds
    )


def _set_lr(optimizer: torch.optim.Optimizer, phase: Phase, done: float, warmup: float, steps: int) -> None:
    """Linear warm-up, then cosine to zero over the phase. `done` counts its epochs, fractions included."""
    warmup = min(warmup, phase.epochs / 2)
    if done < warmup:
        factor = (done + 1 / steps) / (warmup + 1 / steps)
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (done - warmup) / (phase.epochs - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = (phase.lrs[group["stage"]] or 0.0) * factor


@torch.no_grad()
def _logits(model: Split, fetch: Callable[[np.ndarray], Tensor], total: int, where: Device) -> np.ndarray:
    mine = distributed.shard(np.arange(total))
    rows = []
    for start in range(0, len(mine), EVAL_BATCH):
        with where.autocast():
            rows.append(model.trained(fetch(mine[start : start + EVAL_BATCH])).float())
    return distributed.gather_rows(torch.cat(rows) if rows else torch.zeros(0, 0, device=where.device), total)


class FiniteLoss:
    """Stops at the first non-finite loss without waiting for the device.

    On a GPU the value travels to pinned memory in the background and is looked at a few steps later.
    """

    LAG = 4

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.pending: list[tuple[Tensor, torch.cuda.Event | None, int]] = []

    def watch(self, loss: Tensor, step: int) -> None:
        loss = distributed.mean(loss.clone())  # all workers must agree to stop, or the others would hang
        if loss.device.type == "cuda":
            host = torch.empty((), pin_memory=True)
            host.copy_(loss, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self.pending.append((host, event, step))
            if len(self.pending) > self.LAG:
                self._check(*self.pending.pop(0))
        else:
            self._check(loss, None, step)

    def finish(self) -> None:
        while self.pending:
            self._check(*self.pending.pop(0))

    def _check(self, loss: Tensor, event: "torch.cuda.Event | None", step: int) -> None:
        if event is not None:
            event.synchronize()
        if not math.isfinite(float(loss)):
            raise DivergedError(f"loss became {float(loss)} at step {step + 1} of epoch {self.epoch}")


def _facts(model: Split, backbone: backbones.Backbone, where: Device, features: Any, micro_batches: int) -> dict[str, Any]:
    cuda = where.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(where.device) if cuda else f"cpu x{torch.get_num_threads()}",
        "host": platform.node(),
        "torch": str(torch.__version__),
        "workers": distributed.world(),
        "precision": where.precision,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_parameters": sum(p.numel() for p in model.trained.parameters() if p.requires_grad),
        "weights": backbone.weights,
        "weights_sha256": backbone.fingerprint,
        "activations_reused": features.reused,
        "micro_batches": micro_batches,
        "peak_gpu_bytes": torch.cuda.max_memory_reserved(where.device) if cuda else 0,
        "gpu_bytes": torch.cuda.get_device_properties(where.device).total_memory if cuda else 0,
    }
