"""The one training loop. `fine_tune` reads from top to bottom; everything it calls is a page of its own.

It yields after every epoch. To stop early, do not ask for the next epoch. The caller saves the state; to resume, pass a state back in.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from study.errors import ConfigError
from study.failpoints import failpoint
from study.inference.device import Device
from study.networks.cutting.cut import split
from study.networks.cutting.halves import Split
from study.networks.fits import phases_on
from study.networks.pretrained import Backbone, create
from study.question.trial_config import TrialConfig
from study.question.which_epoch import may_be_kept
from study.records import EpochRecord
from study.scoring.figures import scored_by
from study.strategies import Phase
from study.training import distributed, epoch_facts
from study.training.distance import distances
from study.training.divergence import DivergedError, FiniteLoss
from study.training.ema import Average, averaged
from study.training.inputs import Features, Inputs
from study.training.lora import Factors
from study.training.losses import LOSSES, OF_LABELS
from study.training.mixup import Blend, draw
from study.training.optimizers import make_optimizer, pull_back
from study.training.schedule import set_rates
from study.training.scored import scored

EVAL_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything needed to continue after an epoch. It holds live tensors: save it before asking for the next epoch."""

    history: tuple[EpochRecord, ...]
    run: "PhaseRun"

    @property
    def network(self) -> Split:
        """Return the network that is scored and kept."""
        return self.run.network

    def as_dict(self) -> dict[str, Any]:
        run = self.run
        return {
            "history": [r.as_dict() for r in self.history],
            "model": run.model.trained_state() if run.pristine else run.model.network_state(),
            "optimizer": run.optimizer.state_dict(),
            "phase": run.index,
            **({"average": run.average.network.trained_state()} if run.average else {}),
            **({"factors": run.factors.state()} if run.factors.by_name else {}),
        }


def fine_tune(
    config: TrialConfig,
    inputs: Inputs,
    *,
    weights: str | None = None,
    saved: dict[str, Any] | None = None,
    micro_batches: int = 1,
    curve: bool = True,
    stops: Collection[int] = (),
) -> Iterator[tuple[EpochRecord, State]]:
    """Train `config` epoch by epoch. `saved` is an earlier State.as_dict(); `micro_batches` > 1 accumulates gradients.

    Without `curve` the training subset is scored only in epochs that may give the result (`study.question.which_epoch`): the best so far,
    or the last one and those of `stops`, after which the trial may be stopped.

    Raises DivergedError at the first non-finite loss, ConfigError when the strategy does not fit the network.
    """
    protocol = config.protocol
    where = Device.best(protocol.precision)
    inputs.place(where.device)
    if len(inputs.train) < 2 * distributed.world():
        raise ConfigError(f"{len(inputs.train)} training images are too few for {distributed.world()} workers. Need at least 2 each.")

    # ---- the plan: phases of epochs, each with its own frozen half -------------------------------
    backbone = _create(config, inputs, weights)
    phases = phases_on(config.strategy, backbone, protocol.max_epochs, config.cell.id)
    ends = [int(e) for e in np.cumsum([p.epochs for p in phases])]
    history = [EpochRecord.from_dict(r) for r in saved["history"]] if saved else []
    start = {name: p.detach().clone() for name, p in backbone.model.named_parameters()}  # where training begins, resumed or not
    trial = _Trial(config, inputs, where, phases, start, micro_batches)

    carried: dict[str, Tensor] = saved["model"] if saved else {}  # what training has changed so far
    if saved and len(history) >= ends[saved["phase"]]:
        carried = averaged(saved)
    for index, phase in enumerate(phases):
        if len(history) >= ends[index] and index < len(phases) - 1:
            continue  # finished before; the next phase starts from its weights
        half_way = saved if saved and saved["phase"] == index else None
        if phase.fresh_head and half_way is None:
            carried = {k: v for k, v in carried.items() if not k.startswith(tuple(f"{head}." for head in backbone.heads))}

        run = _begin(trial, index, backbone, carried, half_way)
        trained = max(p.size(backbone.slots) for p in phases[: index + 1])

        for epoch in range(max(len(history), run.begin) + 1, ends[index] + 1):
            began, worked = time.perf_counter(), time.process_time()
            loss, paces = _train(run, epoch)
            train_seconds = time.perf_counter() - began

            began = time.perf_counter()
            kept = functools.partial(may_be_kept, protocol, epoch, earlier=tuple(history), stops=stops)
            metrics, confusion, said = _evaluate(run, (lambda objective: True) if curve else kept)
            metrics = {"train/loss": loss, "lr": phase.lrs[0] or 0.0} | metrics | distances(run.network, start, whole=not run.pristine)
            if not all(map(math.isfinite, metrics.values())):
                raise DivergedError(f"non-finite metric after epoch {epoch}")
            cpu = sum(distributed.each(time.process_time() - worked, where.device))  # the clock also runs while others have the processor
            record = EpochRecord(
                epoch=epoch,
                metrics=metrics,
                train_seconds=train_seconds,
                eval_seconds=time.perf_counter() - began,
                images=len(inputs.train) * protocol.passes(len(inputs.train)),
                ended_at=time.time(),
                facts=epoch_facts.describe(run.features, backbone, where, micro_batches, trained)
                | {"busy_seconds": paces, "cpu_seconds": cpu}
                | scored_by(protocol.scored_by),
            )
            if confusion is not None and kept(record.objective):
                record = dataclasses.replace(record, confusion=confusion.tolist())
            if curve and epoch == protocol.max_epochs and not inputs.table.several:
                record = dataclasses.replace(record, said=[] if said is None else said.tolist())
            history.append(record)
            yield record, State(history=tuple(history), run=run)

        if index < len(phases) - 1:
            carried = {k: v.cpu() for k, v in run.network.network_state().items()}
            backbone = _create(config, inputs, weights)


@dataclass(frozen=True)
class _Trial:
    """The state that all phases of a trial share."""

    config: TrialConfig
    inputs: Inputs
    where: Device
    phases: Sequence[Phase]
    start: Mapping[str, Tensor]  # of every parameter, as it was before the first phase
    micro_batches: int


@dataclass(frozen=True)
class PhaseRun:
    """The training of one phase."""

    trial: _Trial
    index: int  # of the phase, from 0
    phase: Phase
    begin: int  # epochs before it
    features: Features
    model: Split
    factors: Factors
    average: Average | None  # of what `model` was at every step, where the recipe asks
    ddp: torch.nn.Module
    optimizer: torch.optim.Optimizer
    class_weights: Tensor | None
    pristine: bool  # what is frozen now never moved before: the pretrained weights know it

    @property
    def network(self) -> Split:
        """Return the network that is scored and kept."""
        return self.average.network if self.average else self.model


def _begin(trial: _Trial, index: int, backbone: Backbone, carried: dict[str, Tensor], half_way: Mapping[str, Any] | None) -> PhaseRun:
    """Return phase `index` at its beginning, or as a saved state left it: the model, cut and frozen before DDP wraps it, and its
    optimizer."""
    config, inputs, where = trial.config, trial.inputs, trial.where
    phase, earlier = trial.phases[index], trial.phases[:index]
    pristine = all(before.cut <= phase.cut for before in earlier)
    backbone.model.load_state_dict(backbone.model.state_dict() | carried)
    model = where.place(split(backbone, phase.cut))
    factors = Factors(model, phase, config.seed, half_way and half_way.get("factors"))
    optimizer = make_optimizer(model, phase, config.recipe, config.protocol.optimizer, factors)
    average = Average(model, config.recipe.ema) if config.recipe.ema else None
    if half_way:
        optimizer.load_state_dict(half_way["optimizer"])
        if average:
            average.load(half_way["average"])
    return PhaseRun(
        trial=trial,
        index=index,
        phase=phase,
        begin=sum(before.epochs for before in earlier),
        features=Features(inputs, model, backbone, config, where, reuse=pristine),
        model=model,
        factors=factors,
        average=average,
        # buffers: worker 0's are broadcast once an epoch, so that no forward pass waits for the slowest worker
        ddp=DistributedDataParallel(model.trained, forward_sync_buffers=False) if distributed.world() > 1 else model.trained,
        optimizer=optimizer,
        class_weights=inputs.class_weights(config.recipe.class_weighting),
        pristine=pristine,
    )


def _create(config: TrialConfig, inputs: Inputs, weights: str | None) -> Backbone:
    return create(
        config.cell.backbone,
        len(inputs.table.classes),
        weights=weights,
        seed=config.seed,
        start=config.strategy.start,
        image_size=config.protocol.image_size,
        drop_path=config.recipe.drop_path,
    )


def _train(run: PhaseRun, epoch: int) -> tuple[float, list[float]]:
    """Train one epoch, of as many passes over the training images as the protocol asks.

    Returns (mean loss, seconds of work by worker). Raises DivergedError.
    """
    config, protocol, inputs = run.trial.config, run.trial.config.protocol, run.trial.inputs
    passes = protocol.passes(len(inputs.train))
    steps = passes * -(-len(inputs.train) // protocol.batch_size)
    torch.manual_seed((config.seed * 1_000_003 + epoch) * 1_009 + distributed.rank())  # dropout, drop path
    run.model.set_training(run.phase, protocol.batch_norm)
    guard, loss_of = FiniteLoss(epoch), (OF_LABELS if inputs.table.several else LOSSES)[config.recipe.loss]
    losses, busy = torch.zeros((), device=run.trial.where.device), 0.0
    for step, (turn, batch) in enumerate(_batches(run, epoch, passes, steps // passes)):
        done = epoch - run.begin - 1 + step / steps
        set_rates(run.optimizer, run.phase, done, protocol.warmup_epochs, steps, protocol.schedule)
        run.optimizer.zero_grad(set_to_none=True)
        blend = draw(config.recipe, seed=config.seed, turn=turn, step=step, size=protocol.image_size)
        parts = _parts(run, batch)
        ready = time.perf_counter()
        if step == steps // 2:
            failpoint("mid_epoch", distributed.rank())
        for part in parts:
            with run.trial.where.autocast():
                images, targets, weights = _shown(run, part[:, 0], part[:, 1], turn, blend)
                logits = run.ddp(images)
            total = loss_of(logits.float(), targets, weights, run.class_weights, config.recipe.label_smoothing)
            loss = total * (distributed.world() / len(batch))  # DDP averages over workers: exact for uneven shards
            busy += time.perf_counter() - ready  # a worker's own time: in backward it waits for the others
            loss.backward()
            losses += loss.detach() * (len(batch) / (passes * len(inputs.train)))
            guard.watch(loss.detach(), step)
            ready = time.perf_counter()
        pull_back(run.model, run.phase, run.trial.start)
        run.factors.take_gradients()
        if math.isfinite(protocol.grad_clip):
            torch.nn.utils.clip_grad_norm_([*run.model.trained.parameters(), *run.factors.parameters()], protocol.grad_clip)
        run.optimizer.step()
        if run.average:
            run.average.update(run.model.trained, (epoch - run.begin - 1) * steps + step + 1)
    guard.finish()
    for network in dict.fromkeys((run.model, run.network)):
        distributed.broadcast_buffers(network.trained)
    return float(distributed.mean(losses)), distributed.each(busy, run.trial.where.device)


def _batches(run: PhaseRun, epoch: int, passes: int, steps: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (the number of the pass since training began, from 1; positions of one step). Each pass has its own order and views."""
    config, turns = run.trial.config, range((epoch - 1) * passes + 1, epoch * passes + 1)
    balance = 1.0 if run.phase.balanced else config.recipe.balanced_sampling
    coming = ((turn, batch) for turn in turns for batch in run.trial.inputs.batches(config.seed, turn, steps, balance))
    now = next(coming)
    for then in coming:
        run.features.fetch(_parts(run, then[1])[0])
        yield now
        now = then
    yield now


def _parts(run: PhaseRun, batch: np.ndarray) -> list[np.ndarray]:
    """Return this worker's share of a step, in as many parts as are trained on at once.

    A part is [n, 2]: positions of each image and, where images are blended, of its partner.
    """
    mine = distributed.shard(np.stack([batch, batch[::-1]], axis=1))
    return np.array_split(mine, min(run.trial.micro_batches, len(mine)))


def _shown(run: PhaseRun, own: np.ndarray, partners: np.ndarray, turn: int, blend: Blend | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return training images at positions `own` as the trained half sees them on pass `turn`, their targets, and their weights if any."""
    inputs = run.trial.inputs
    if blend is None:
        return run.features.train(own, turn), inputs.targets(own), inputs.image_weights(own)
    weights, others = inputs.image_weights(own), inputs.image_weights(partners)
    targets = blend.targets(inputs.targets(own), inputs.targets(partners), len(inputs.table.classes), weights, others)
    return run.features.blended(own, partners, turn, blend), targets, blend.weights(weights, others)


def _evaluate(run: PhaseRun, looked: Callable[[float], bool]) -> tuple[dict[str, float], np.ndarray | None, np.ndarray | None]:
    """Evaluate in eval mode, without augmentation, each image once.

    Returns (figures of train subset and validation, confusion of validation, the predicted class of each of its images). The last two
    are None where images may have several labels. The train subset is left out where `looked`, called with the objective, returns
    False. There are no validation figures where its images are trained on.
    """
    inputs, features = run.trial.inputs, run.features
    run.network.eval()
    metric = run.trial.config.protocol.scored_by.bind(inputs.table.classes)
    val, confusion, named = dict[str, float](), None, None
    if len(inputs.val):
        val, confusion, named = scored(metric, inputs, _logits(run, features.val, len(inputs.val)), inputs.val)
    metrics = {f"val/{k}": v for k, v in val.items()}
    if looked(metrics.get(metric.recorded, -math.inf)):
        train, *_ = scored(metric, inputs, _logits(run, features.train_plain, len(inputs.train_eval)), inputs.train_eval)
        metrics = {f"train/{k}": v for k, v in train.items()} | metrics
    for name, doubtful in inputs.doubtful.items():
        said = _logits(run, functools.partial(features.doubtful, name), len(doubtful.rows)).argmax(axis=1)
        metrics[f"{name}/memorised"] = float((said == doubtful.told).mean())
        metrics[f"{name}/resisted"] = float((said == doubtful.true).mean())
    return metrics, confusion, named


@torch.no_grad()
def _logits(run: PhaseRun, fetch: Callable[[np.ndarray], Tensor], total: int) -> np.ndarray:
    mine = distributed.shard(np.arange(total))
    rows = []
    for start in range(0, len(mine), EVAL_BATCH):
        with run.trial.where.autocast():
            rows.append(run.network.trained(fetch(mine[start : start + EVAL_BATCH])).float())
    return distributed.gather_rows(torch.cat(rows) if rows else torch.zeros(0, 0, device=run.trial.where.device), total)
