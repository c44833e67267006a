"""One network of every timm family: can it be cut at the probe and at every stage, and does every strategy train it?

    python -m benchmarks.networks --write docs/networks.md

The families are timm's own modules. Of each, the network with the fewest parameters is taken that is not one of timm's test models.
Weights are random, since the places where a network can be cut do not depend on them.
"""

import argparse
import json
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch
from torch.nn import functional as F

from benchmarks.marked import write_between_marks
from study.errors import ConfigError
from study.networks.cutting.cut import split
from study.networks.fits import phases_on
from study.networks.image_sizes import check_forward
from study.networks.pretrained import Backbone, create
from study.question.training_settings import Recipe
from study.strategies import STRATEGIES, Phase
from study.training.optimizers import make_optimizer

SIZES = (64, 96, 128, 224)
"""Image sizes to try, in pixels: the first that a network takes, else its own size."""

MOST = 200e6
"""Limit of parameters: a family whose smallest network has more is not built here."""

CLASSES = 7


def smallest(family: str) -> tuple[str, int]:
    """Return (name, parameters) of the family's smallest network."""
    found: list[tuple[int, str]] = []
    for name in timm.list_models(module=family):
        if not name.startswith("test_"):
            with torch.device("meta"):
                found.append((sum(p.numel() for p in timm.create_model(name).parameters()), name))
    count, name = min(found)
    return name, count


def make(name: str, size: int | None) -> Backbone:
    return create(name, CLASSES, start="random", image_size=size)


def fitting(name: str) -> tuple[Backbone, int]:
    """Return the network at the first size that it takes. Raises ConfigError with the reason why its own size was refused."""
    for size in SIZES:
        try:
            backbone = make(name, size)
            check_forward(backbone.model, name, backbone.input_size)
            return backbone, size
        except ConfigError:
            pass
    backbone = make(name, None)
    check_forward(backbone.model, name, backbone.input_size)
    return backbone, backbone.input_size[-1]


def try_cut(backbone: Backbone, cut: int) -> tuple[str, str]:
    """Return (how it was cut or "whole", why it stayed whole)."""
    model = split(backbone, cut)
    return ("whole", model.why_whole) if model.frozen is None else (model.how, "")


def train_once(backbone: Backbone, phase: Phase) -> None:
    """Train one step of the phase.

    Raises AssertionError where something that it leaves out moved, or nothing that it trains.
    """
    model = split(backbone, phase.cut)
    optimizer = make_optimizer(model, phase, Recipe(), "adamw")
    before = {k: v.clone() for k, v in model.network_state().items()}
    model.set_training(phase, "train")
    rows = model.activations(torch.randn(2, *backbone.input_size))
    loss = F.cross_entropy(model.trained(rows), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    known = model.slots.keys() | {k for k, _ in backbone.model.named_buffers()}  # a module in two places stands in the state twice
    moved = {k for k, v in model.network_state().items() if k in known and not torch.equal(before[k], v)}
    training = {s.name for s in backbone.slots if phase.moves(s)}
    assert moved & training, "nothing moved"
    modules = {n.rpartition(".")[0] for n in training}
    assert all(k in training or (k not in model.slots and k.rpartition(".")[0] in modules) for k in moved), "what is frozen moved"
    assert loss.isfinite(), "the loss is not finite"


def row_of(family: str, name: str, parameters: int) -> dict[str, Any]:
    row: dict[str, Any] = {"family": family, "network": name, "parameters": parameters}
    if parameters > MOST:
        return row | {"refused": f"not tried: its smallest network has more than {MOST / 1e6:.0f} million parameters"}
    try:
        backbone, size = fitting(name)
        stages = backbone.num_stages
        cuts = [try_cut(backbone, cut) for cut in range(stages)]
        row |= {"size": size, "stages": stages, "cuts": [how for how, _ in cuts], "why": sorted({why for _, why in cuts if why})}
        row["trains"] = []
        done: set[Any] = set()
        for strategy, cls in STRATEGIES.items():
            try:
                phases = phases_on(cls(), backbone, 2)
            except ConfigError as error:
                row["trains"].append(f"{strategy}: {error}")
                continue
            for phase in phases:
                key = (tuple(lr is None for lr in phase.lrs), phase.kinds, phase.rank)
                if key not in done:
                    done.add(key)
                    train_once(backbone, phase)
    except ConfigError as error:
        row["refused"] = str(error)
    except Exception as error:  # what the table is there to show
        row["traceback"] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        traceback.print_exc()
    return row


def shown(row: dict[str, Any]) -> str:
    head = f"| {row['family']} | {row['network']} | {row['parameters'] / 1e6:.1f} |"
    if "cuts" not in row:
        return f"{head} | | | | {row.get('refused') or row.get('traceback')} |"
    stages = row["cuts"][1:]
    count = Counter(stages)
    at = f"all {len(stages)}" if "whole" not in count else f"{len(stages) - count['whole']} of {len(stages)}"
    how = ", ".join(f"{h} {n}" if len(count) > 1 else h for h, n in count.items() if h != "whole")
    unfit = ", ".join(said.partition(":")[0] for said in row.get("trains", []))
    notes = "; ".join([*row["why"], *([f"refused: {unfit}"] if unfit else []), *(row[k] for k in ("refused", "traceback") if k in row)])
    return f"{head} {row['size']} | {row['cuts'][0]} | {at}: {how} | {notes} |"


def summary(rows: list[dict[str, Any]]) -> str:
    tried = [r for r in rows if r["parameters"] <= MOST]
    whole = [r for r in tried if "cuts" in r and not r.get("traceback") and "whole" not in r["cuts"]]
    refused = [r for r in tried if "refused" in r]
    every = sum(not r["trains"] for r in whole)
    return (
        f"Of {len(tried)} families tried, {len(whole)} are cut at the probe and at every stage ({100 * len(whole) / len(tried):.0f} %). "
        f"{every} of them train under each of the {len(STRATEGIES)} strategies, {len(whole) - every} under all but those that "
        "would find nothing to "
        f"train or keep and say so in one line before anything starts (no batch norm, no biases); {len(refused)} networks are "
        f"refused in one line; {sum('traceback' in r for r in rows)} end in a traceback."
    )


def table(rows: list[dict[str, Any]]) -> str:
    head = "| family | network | million parameters | px | probe | stages | notes |\n| --- | --- | --- | --- | --- | --- | --- |"
    return "\n".join([summary(rows), "", head, *(shown(r) for r in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="*", help="of timm.list_modules(); all where none is named")
    parser.add_argument("--rows", type=Path, help="JSON file that keeps the rows: what is in it is not tried again")
    parser.add_argument("--write", type=Path, help="page whose table, between its marks, is written anew")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: dict[str, dict[str, Any]] = json.loads(args.rows.read_text()) if args.rows and args.rows.exists() else {}
    for family in args.families or timm.list_modules():
        if family not in rows:
            began = time.perf_counter()
            rows[family] = row_of(family, *smallest(family))
            print(shown(rows[family]), f"{time.perf_counter() - began:.0f} s", flush=True)
            if args.rows:
                args.rows.write_text(json.dumps(rows))
    ordered = [rows[f] for f in timm.list_modules() if f in rows]
    print(summary(ordered))
    if args.write:
        write_between_marks(args.write, "python -m benchmarks.networks", table(ordered))


if __name__ == "__main__":
    main()
