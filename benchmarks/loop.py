"""The loop against its own ceiling, against the loop people write, and partial fine-tuning at its true price.

    python -m benchmarks.loop --networks resnet50 efficientnet_b0 --sizes 96 --json

Random weights and random pixels: speed does not look at them. Every comparison is paired in one run and given as a ratio,
median over repetitions with their range.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch.nn import functional as F
from torchvision import transforms

from study import backbones
from study.config import Cell, Protocol, TrialConfig
from study.datasets.spec import ImageTable
from study.training.inputs import Inputs
from study.training.loop import Device, _optimizer, fine_tune
from study.training.split import split

CLASSES, IMAGES, BATCH = 7, 192, 32


def table(size: int, images: int = IMAGES) -> ImageTable:
    """Random pixels in memory, split into mostly train."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images + 16, size, size, 3), dtype=np.uint8)
    split_of = np.r_[np.zeros(images), np.ones(8), np.full(8, 2)].astype(np.int8)
    return ImageTable(
        name="random", classes=tuple("abcdefg"), ids=tuple(map(str, range(images + 16))), labels=rng.integers(0, CLASSES, images + 16), split=split_of,
        form="random pixels", fingerprint=f"random-{size}-{images}", decode=lambda i: pixels[i], policy="strong", channels=3, native_size=size,
    )  # fmt: skip


class Given(Inputs):
    """Inputs of a table that is at hand instead of one that is opened by name."""

    def __init__(self, given: ImageTable, cache: Path) -> None:
        self.table, self.cache = given, cache
        self.images = np.stack([given.decode(k) for k in range(len(given.ids))])
        self.train, self.val = np.flatnonzero(given.split == 0), np.flatnonzero(given.split == 1)
        self.train_eval = self.train[:8]
        self._labels = torch.from_numpy(given.labels.astype(np.int64))
        self._resident = None
        self.device = torch.device("cpu")


def ours(network: str, strategy: str, size: int, precision: str, weights: str, views: int, cache: Path) -> Callable[[], float]:
    """Images a second of the product's own loop; each call trains one more epoch."""
    protocol = Protocol(max_epochs=1000, image_size=size, batch_size=BATCH, precision=precision, views=views, train_eval_images=8)  # type: ignore[arg-type]
    config = TrialConfig.default(Cell(dataset="digits", backbone=network, strategy=strategy), protocol)
    epochs = fine_tune(config, Given(table(size), cache), weights=weights)

    def epoch() -> float:
        record, _ = next(epochs)
        return record.images / record.train_seconds

    return epoch


def ceiling(network: str, strategy: str, size: int, precision: str, weights: str) -> Callable[[], float]:
    """Images a second of the same model and optimizer on one resident batch: nothing but arithmetic."""
    where = Device.best(precision)
    backbone = backbones.create(network, CLASSES, weights=weights)
    config = TrialConfig.default(Cell(dataset="digits", backbone=network, strategy=strategy), Protocol(image_size=size))
    (phase,) = config.strategy.phases(backbone.num_stages, 10)
    model = split(backbone, phase.cut).to(where.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(model, phase, 1e-4)
    model.set_training(phase.lrs, "train")
    x = torch.randn(BATCH, 3, size, size, device=where.device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, CLASSES, (BATCH,), device=where.device)

    def epoch() -> float:
        began = time.perf_counter()
        for _ in range(IMAGES // BATCH):
            optimizer.zero_grad(set_to_none=True)
            with where.autocast():
                logits = model(x)
            F.cross_entropy(logits.float(), y, label_smoothing=0.1).backward()
            torch.nn.utils.clip_grad_norm_(model.trained.parameters(), 1.0)
            optimizer.step()
        if where.device.type == "cuda":
            torch.cuda.synchronize()
        return IMAGES / (time.perf_counter() - began)

    return epoch


def plain(network: str, strategy: str, size: int) -> Callable[[], float]:
    """The loop people write: torchvision transforms on PIL images, DataLoader workers, fp32, requires_grad = False."""
    data = table(size)
    change = transforms.Compose([
        transforms.ToPILImage(), transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.RandomRotation(22),
        transforms.ColorJitter(0.15, 0.15, 0.15), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ])  # fmt: skip

    class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return IMAGES

        def __getitem__(self, k: int) -> Any:
            return change(data.decode(k)), int(data.labels[k])

    loader = torch.utils.data.DataLoader(Images(), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = timm.create_model(backbones.timm_name(network), num_classes=CLASSES).to(device)
    if strategy != "full":
        head, stages = backbones.stages_of(model)
        keep = {n for names in stages[: 1 if strategy == "linear_probe" else 2] for n in names}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in keep)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def epoch() -> float:
        model.train()
        began, total = time.perf_counter(), 0.0
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return IMAGES / (time.perf_counter() - began)

    return epoch


def median(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "efficientnet_b0"])
    parser.add_argument("--strategies", nargs="+", default=["full", "partial", "linear_probe"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[96])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    print(
        "network          strategy      px  precision  images/s  of ceiling          against plain loop   reused, against not", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        for network in args.networks:
            torch.save(timm.create_model(backbones.timm_name(network)).state_dict(), Path(folder, f"{network}.pth"))
        for network, size, strategy in ((n, s, t) for n in args.networks for s in args.sizes for t in args.strategies):
            people = plain(network, strategy, size)
            for precision in args.precisions:
                loops = {
                    "ours": ours(network, strategy, size, precision, folder, 0, Path(folder, "a")),
                    "ceiling": ceiling(network, strategy, size, precision, folder),
                    "plain": people,
                }
                if strategy != "full":
                    loops["reused"] = ours(network, strategy, size, precision, folder, 1, Path(folder, "b"))
                for loop in loops.values():
                    loop()  # warm up: the first epoch of the reusing loop fills the store
                seen = {k: [] for k in loops}  # type: dict[str, list[float]]
                for _ in range(args.repetitions):
                    for k, loop in loops.items():
                        seen[k].append(loop())
                ratio = {
                    "of_ceiling": median([a / b for a, b in zip(seen["ours"], seen["ceiling"], strict=True)]),
                    "vs_plain_loop": median([a / b for a, b in zip(seen["ours"], seen["plain"], strict=True)]),
                }
                if "reused" in seen:
                    ratio["reused_vs_not"] = median([a / b for a, b in zip(seen["reused"], seen["ours"], strict=True)])
                row = {
                    "network": network,
                    "strategy": strategy,
                    "size": size,
                    "precision": precision,
                    "images_per_second": statistics.median(seen["ours"]),
                    **ratio,
                }
                rows.append(row)
                shown = [f"{r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in ratio.values()]
                print(
                    f"{network:16s} {strategy:12s} {size:4d}  {precision:9s} {row['images_per_second']:9.1f}  "
                    + "  ".join(f"{s:18s}" for s in shown),
                    flush=True,
                )
    if args.json:
        key = next((r for r in rows if r["network"] == "resnet50" and r["strategy"] == "full"), rows[0])
        print(json.dumps({"of_ceiling": key["of_ceiling"], "vs_plain_loop": key["vs_plain_loop"], "rows": rows}))


if __name__ == "__main__":
    main()
