"""Seconds of a training step on a busy machine, by how OpenMP's threads wait: spinning, torch's default, or asleep (PASSIVE).

    python -m benchmarks.waiting --busy 0 8 --json

Each way is a step of full fine-tuning in a process of its own, while a number of other processes compute. They start when it is ready,
and end with it. Wall seconds are what a user waits for, and processor seconds show what spinning wastes.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import arguments

WAYS: dict[str, tuple[int, str]] = {"spinning, 2 threads": (2, ""), "PASSIVE, 2 threads": (2, "PASSIVE"), "1 thread": (1, "")}
"""Ways to wait by name: (threads, OMP_WAIT_POLICY), where "" leaves the variable unset."""
LONGEST_S = 60  # of what keeps the machine busy: it ends by itself


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    compute = f"import time; end = time.monotonic() + {LONGEST_S}\nwhile time.monotonic() < end: pass"
    started = [subprocess.Popen([sys.executable, "-c", compute]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def steps(way: str, network: str, px: int, batch: int, seconds: float) -> list[tuple[float, float]]:
    """Return (wall, processor) seconds of each step after the first.

    It is called in a process of its own, which says when it is ready, and is told to begin. OpenMP reads its variables when torch is
    loaded, here.
    """
    threads, policy = WAYS[way]
    os.environ.pop("OMP_WAIT_POLICY")
    os.environ |= {"OMP_NUM_THREADS": str(threads)} | ({"OMP_WAIT_POLICY": policy} if policy else {})
    from torch.nn import functional as F

    from study.inference.device import Device
    from study.networks.cutting.cut import split
    from study.networks.fits import phases_on
    from study.networks.pretrained import create
    from study.question.training_settings import Recipe
    from study.strategies import STRATEGIES
    from study.training.optimizers import make_optimizer

    import torch  # isort: skip

    where, backbone = Device.best("fp32"), create(network, 9, image_size=px)
    phase = phases_on(STRATEGIES["full"](), backbone, 2, "full")[-1]
    model = where.place(split(backbone, phase.cut))
    optimizer = make_optimizer(model, phase, Recipe(), "adamw")
    model.set_training(phase, "train")
    images, labels = torch.randn(batch, 3, px, px).contiguous(memory_format=torch.channels_last), torch.arange(batch) % 9
    print("ready", flush=True)
    sys.stdin.readline()
    took: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(took) < 3 or time.perf_counter() - began < seconds:
        wall, processor = time.perf_counter(), time.process_time()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        took.append((time.perf_counter() - wall, time.process_time() - processor))
    return took[1:]


def measure(args: argparse.Namespace, way: str, processes: int) -> dict[str, float]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-m", "benchmarks.waiting", "--child", way, "--network", args.network, "--px", str(args.px)]
    command += ["--batch", str(args.batch), "--seconds", str(args.seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n", "the network was not made"
        with busy(processes):
            child.stdin.write("\n")
            child.stdin.flush()
            took = json.loads(child.stdout.readline())
    return {"wall": statistics.median(w for w, _ in took), "processor": statistics.median(p for _, p in took), "steps": len(took)}


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 8], help="other processes that compute")
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--child", choices=list(WAYS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(steps(args.child, args.network, args.px, args.batch, args.seconds)))
        return
    rows = []
    print(
        f"{args.network} at {args.px} px, batch {args.batch}, {os.cpu_count()} cores; seconds a step, median: wall / of processor (steps)"
    )
    print("others that compute  " + "".join(f"{way:>28s}" for way in WAYS))
    for processes in args.busy:
        found = {way: measure(args, way, processes) for way in WAYS}
        rows += [{"busy": processes, "way": way, **row} for way, row in found.items()]
        print(
            f"{processes:19d}  " + "".join(f"{r['wall']:14.2f} / {r['processor']:5.2f} ({r['steps']:2.0f})" for r in found.values()),
            flush=True,
        )
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
