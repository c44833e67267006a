"""One trial, no search, no Ray: `python -m study.trial DATASET/BACKBONE/STRATEGY --set lr=1e-3`.

The same line under torchrun uses every GPU:  torchrun --nproc-per-node 8 -m study.trial fer2013/resnet50/full
Needs neither ray, optuna nor mlflow.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence

from study import early
from study.console.arguments import Parser, add_places, add_settings, assigned
from study.console.command import command
from study.console.progress import load
from study.errors import ConfigError
from study.question.cell import Cell
from study.question.naming import DataName
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import EpochRecord, Outcome, dumps
from study.scoring import Metric
from study.storage import outputs
from study.storage.places import Places


def parser() -> Parser:
    p = Parser(prog="python -m study.trial", description=__doc__.split("\n")[0])
    p.add_argument("cell", help="DATASET[@SPLITS]/BACKBONE/STRATEGY, e.g. deepweeds@session/efficientnet_b0/partial")
    add_settings(p, "strategy, recipe, protocol fields, or seed")
    add_places(p)
    p.add_argument("--out", help="folder for checkpoints. The same folder resumes (default: a temporary one)")
    p.add_argument("--json", action="store_true", help="one JSON object an epoch instead of text")
    return p


@command(parser, "stopped. With --out, the same command goes on")
def main(args: argparse.Namespace) -> int:
    distributed = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    config = parse_trial(args.cell, args.set, int(os.environ["WORLD_SIZE"]) if distributed else 1)
    load("torch", "study.run", "study.networks.fits", "study.training.batches")  # once nothing is wrong with what was asked
    from study.run import ATTEMPTS

    if args.out is not None:
        outputs.check_place(f"{args.out.rstrip('/') or '/'}/{ATTEMPTS}", "--out")
    with _workers(distributed) as leader:
        check(config, Places(folder="", data=args.data, weights=args.weights))
        return run(config, args, leader)


@contextlib.contextmanager
def _workers(distributed: bool) -> Iterator[bool]:
    """Yield True in the process that prints; under torchrun all processes are connected inside the block."""
    if not distributed:
        yield True
        return
    import torch.distributed as dist

    from study.training.distributed import connect

    connect()
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


def parse_trial(cell: str, settings: Sequence[str], workers: int = 1) -> TrialConfig:
    """Return the trial. Raises ConfigError for anything that is not DATASET[@SPLITS]/BACKBONE/STRATEGY or NAME=VALUE."""
    parts = cell.rsplit("/", 2)  # a folder: dataset may hold slashes itself
    if len(parts) != 3:
        raise ConfigError(f"{cell!r} is not DATASET/BACKBONE/STRATEGY, e.g. fer2013/resnet50/partial.")
    data = DataName.parse(parts[0])
    config = TrialConfig.default(
        Cell(dataset=data.dataset, splits=data.splits, backbone=parts[1], strategy=parts[2]), Protocol(workers=workers)
    )
    found = config.with_values(assigned(settings))
    if (asked := found.protocol.workers) != workers:
        raise ConfigError(f"workers={asked}, and this is {workers}: start it as torchrun --nproc-per-node {asked} -m study.trial ...")
    return found


def check(config: TrialConfig, places: Places) -> None:
    """Raise ConfigError where the network does not take the trial's size or so small batches, or does not fit its strategy.

    A study's own checks find the same before it starts.
    """
    from study.datasets.spec import TRAIN
    from study.networks.fits import phases_on
    from study.networks.image_sizes import check_forward
    from study.networks.memory import check_memory
    from study.networks.pretrained import create
    from study.networks.weights import timm_name
    from study.run import open_table
    from study.training.batches import check_share, fewest_images

    size, cell, recipe = config.protocol.image_size, config.cell, config.recipe
    made = create(cell.backbone, 2, weights=places.weights, start=config.strategy.start, image_size=size, drop_path=recipe.drop_path)
    phases = phases_on(config.strategy, made, config.protocol.max_epochs, cell.id)
    whole = any(phase.cut == made.num_stages for phase in phases)
    check_memory(cell.backbone, made.model, made.input_size, config.protocol.at_once if whole else 0)
    check_forward(made.model, timm_name(cell.backbone), made.input_size)
    images = int((open_table(config, places).split == TRAIN).sum())
    if config.protocol.share(images) < 2 and not config.strategy.exact:
        check_share(cell.id, config.protocol, images, fewest_images(made, phases, config.protocol.batch_norm))


def run(config: TrialConfig, args: argparse.Namespace, leader: bool) -> int:
    """Run the trial. `leader`: this process prints."""
    from study.run import run_trial

    with early.temporary() as temporary:
        places = Places(folder=args.out or temporary, data=args.data, weights=args.weights)

        def report(record: EpochRecord) -> bool:
            if leader:
                print(
                    dumps({"trial": config.id, **record.as_dict()}) if args.json else _line(record, config.protocol.scored_by), flush=True
                )
            return False

        if leader and not args.json:
            print(f"trial {config.id}  {config.cell.id}  {json.dumps(config.tuned())}", flush=True)
        ending = run_trial(config, places, report)
    if leader and not args.json:
        print(f"{ending.outcome}{': ' + ending.reason if ending.reason else ''}")
    return 0 if ending.outcome is Outcome.COMPLETED else 5


def _line(record: EpochRecord, metric: Metric) -> str:
    m = record.metrics
    return (
        f"epoch {record.epoch:3d}  loss {m['train/loss']:.4f}  train acc {m['train/accuracy']:.3f}  val acc {m['val/accuracy']:.3f}  "
        f"val {metric.words} {metric.natural(record.objective):.3f}  nll {m['val/nll']:.3f}  ece {m['val/ece']:.3f}  "
        f"{record.images / record.train_seconds:.0f} images/s  train {record.train_seconds:.1f}s  eval {record.eval_seconds:.1f}s"
    )


if __name__ == "__main__":
    sys.exit(main())
