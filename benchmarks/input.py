"""Is the model ever waiting for images? Decoding, the memory-mapped cache and augmentation against the model's speed.

    python -m benchmarks.input --network efficientnet_b0 --size 96 --json

A folder of JPEG files is made and read like a user's folder. Rates are images per second with torch's threads (OMP_NUM_THREADS). The
model's rate is that of a full fine-tuning step on a batch in memory, the fastest consumer there is.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from benchmarks import arguments, contestants
from study.budget.cost import fastest_precision
from study.datasets import open_dataset
from study.datasets.cache import cores, decoded, pixels
from study.datasets.spec import ImageTable
from study.networks.weights import timm_name
from study.training.augment import POLICIES, augment

BATCH = 32


def folder_of_jpegs(folder: Path, images: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    # smooth noise: what JPEG makes of photographs, not of white noise
    for k in range(images):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(folder / "ab"[k % 2] / f"{k}.jpg", quality=90)


def rate(step: Callable[[int], object], batches: int) -> float:
    began = time.perf_counter()
    for k in range(batches):
        step(k)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return batches * BATCH / (time.perf_counter() - began)


def decoding(table: ImageTable, side: int, repetitions: int) -> dict[str, list[float]]:
    """Return the decoding of all images with every core against one thread, in turns: speed-up and additional processor seconds."""
    times: dict[int, list[tuple[float, float]]] = {1: [], cores(): []}
    for _ in range(repetitions):
        for threads, seen in times.items():
            wall, busy = time.perf_counter(), time.process_time()
            for _block in decoded(table, side, threads):
                pass
            seen.append((time.perf_counter() - wall, time.process_time() - busy))
    pairs = list(zip(times[1], times[cores()], strict=True))
    return {"faster": [one[0] / all_[0] for one, all_ in pairs], "work": [all_[1] / one[1] for one, all_ in pairs]}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the images per second of each part, the model's measured in turns with the others'. The images are made in `folder`."""
    folder_of_jpegs(folder / "images", args.images, args.side)
    table = open_dataset(f"folder:{folder / 'images'}", splits="official", root=None)
    side = round(args.size * 1.25)
    began = time.perf_counter()
    cached = pixels(table, side, folder / "cache")
    decode = args.images / (time.perf_counter() - began)
    many = decoding(table, side, args.repetitions)
    torch.save(timm.create_model(timm_name(args.network)).state_dict(), folder / f"{args.network}.pth")
    precision, _ = fastest_precision([args.network], args.size, str(folder))
    setting = contestants.Setting(images=BATCH, batch=BATCH)
    appetite = contestants.ceiling(setting, args.network, "full", args.size, precision, str(folder))
    order = np.random.default_rng(0).permutation(args.images)

    def read(k: int) -> torch.Tensor:
        return torch.from_numpy(cached[order[k * BATCH : (k + 1) * BATCH]]).to(contestants.device())

    def both(k: int) -> torch.Tensor:
        rows, look = order[k * BATCH : (k + 1) * BATCH], {"mean": (0.5,) * 3, "std": (0.25,) * 3}
        return augment(read(k), rows, policy=POLICIES["strong"], strength=1.0, seed=0, epoch=k, size=args.size, **look)

    seen: dict[str, list[float]] = {"read": [], "read and augment": [], "model": []}
    for step in (read, both):
        rate(step, 2)
    appetite()
    for _ in range(args.repetitions):
        for name, step in (("read", read), ("read and augment", both)):
            seen[name].append(rate(step, args.images // BATCH))
        seen["model"].append(appetite())
    return {
        "decode": decode,
        "decode_all_cores": many,
        **{k: statistics.median(v) for k, v in seen.items()},
        "share_of_model_time": statistics.median(m / b for m, b in zip(seen["model"], seen["read and augment"], strict=True)),
        "precision": precision,
        "threads": torch.get_num_threads(),
    }


def lines(found: dict[str, Any], args: argparse.Namespace) -> Iterator[str]:
    """Yield the table, line by line."""
    yield f"{args.network} at {args.size} px, {found['precision']}, batch {BATCH}, {found['threads']} thread(s); images a second"
    yield f"  decode JPEG of {args.side} px, resize, cache (once)   {found['decode']:10.0f}"
    faster, work = ([statistics.median(v), min(v), max(v)] for v in (found["decode_all_cores"][k] for k in ("faster", "work")))
    yield (
        f"  decoded by {cores()} threads: {faster[0]:.2f} [{faster[1]:.2f}, {faster[2]:.2f}] times as fast as by one, "
        f"for {work[0]:.2f} [{work[1]:.2f}, {work[2]:.2f}] of the processor's time"
    )
    yield from (f"  {k:45s}   {found[k]:10.0f}" for k in ("read", "read and augment", "model"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    yield f"  read and augment take {found['share_of_model_time']:.1%} of the model's time; peak memory {peak:.2f} GB"


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--network", default="efficientnet_b0")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--side", type=int, default=256, help="of the JPEG files, pixels")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder))
    print("\n".join(lines(found, args)))
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
