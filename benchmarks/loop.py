"""The loop against its own ceiling and against the loops people use, and the true price of partial fine-tuning.

    python -m benchmarks.loop --networks resnet50 efficientnet_b0 --sizes 96 --json

    python -m benchmarks.loop --networks vit_tiny_patch16_224 --sizes 224 --strategies partial --against --json

Every comparison is paired in one run and given as a ratio: median over repetitions, with their range. Our loop runs in the precision
that `fastest_precision` measures as the faster one, as a study with precision="auto" does. The others run in their own defaults.
`flops` gives the same ratios in counted operations, which is what arithmetic alone would give.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch

from benchmarks import arguments, contestants
from study.budget.cost import fastest_precision
from study.networks.weights import timm_name

AGAINST = ("plain", "timm", "lightning")
PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense, FLOP/s, as the vendor gives them


def median(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "low": round(min(values), 3), "high": round(max(values), 3)}


def ratios(a: list[float], b: list[float]) -> dict[str, float]:
    return median([x / y for x, y in zip(a, b, strict=True)])


def peak_bf16() -> float | None:
    """Return the peak FLOP/s of the GPU at hand, or None without one or where its peak is not in the table."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((v for k, v in PEAK_BF16.items() if k in name), None)


def arithmetic(strategy: str, size: int, weights: str) -> tuple[tuple[str, int, str, bool], ...]:
    """Return the steps whose operations bound the ratios of time: the strategy's, full's, and the strategy's without its frozen half."""
    return (strategy, size, weights, False), ("full", size, weights, False), (strategy, size, weights, True)


def measure(network: str, strategy: str, size: int, precision: str, weights: str, args: argparse.Namespace) -> dict[str, Any]:
    setting = contestants.Setting(images=args.images, batch=args.batch, workers=args.workers)
    loops = {
        "ours": contestants.ours(setting, network, strategy, size, precision, weights, 0, Path(weights, "a")),
        "ceiling": contestants.ceiling(setting, network, strategy, size, precision, weights),
    }
    if strategy != "full":
        loops["full"] = contestants.ours(setting, network, "full", size, precision, weights, 0, Path(weights, "c"))
        loops["reused"] = contestants.ours(setting, network, strategy, size, precision, weights, 1, Path(weights, "b"))
    if args.compile:
        loops["compiled"] = contestants.ceiling(setting, network, strategy, size, precision, weights, compiled=True)
    makers = {"plain": contestants.plain, "timm": contestants.timm_s, "lightning": contestants.lightning_s}
    for name in args.against:
        loops[name] = makers[name](setting, network, strategy, size)
    for loop in loops.values():
        loop()  # warm up: the first epoch of the reusing loop fills the store, compilers compile
    seen: dict[str, list[float]] = {k: [] for k in loops}
    for _ in range(args.repetitions):
        for k, loop in loops.items():
            seen[k].append(loop())
    row: dict[str, Any] = {
        "network": network,
        "strategy": strategy,
        "size": size,
        "precision": precision,
        "images_per_second": round(statistics.median(seen["ours"]), 1),
        "of_ceiling": ratios(seen["ours"], seen["ceiling"]),
    }
    row |= {f"vs_{k if k != 'plain' else 'plain_loop'}": ratios(seen["ours"], seen[k]) for k in args.against}
    if "reused" in seen:
        row["vs_full"] = ratios(seen["ours"], seen["full"])
        row["reused_vs_not"] = ratios(seen["reused"], seen["ours"])
        flops, full, left = (contestants.flops_of_a_step(network, *of) for of in arithmetic(strategy, size, weights))
        row["flops"] = {"vs_full": round(full / flops, 2), "reused_vs_not": round(flops / left, 2)}
    if "compiled" in seen:
        row["compiled_vs_ceiling"] = ratios(seen["compiled"], seen["ceiling"])
    if precision == "bf16" and (peak := peak_bf16()) is not None:
        row["mfu"] = round(row["images_per_second"] * contestants.flops_of_a_step(network, strategy, size, weights) / peak, 4)
    return row


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--networks", nargs="+", default=["resnet50", "efficientnet_b0"])
    parser.add_argument("--strategies", nargs="+", default=["full", "partial", "linear_probe"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[96])
    parser.add_argument("--precisions", nargs="+", default=["auto"], help="auto, fp32, bf16")
    parser.add_argument("--against", nargs="*", default=list(AGAINST), choices=AGAINST)
    parser.add_argument("--images", type=int, default=contestants.Setting.images, help="an epoch")
    parser.add_argument("--batch", type=int, default=contestants.Setting.batch)
    parser.add_argument("--workers", type=int, default=contestants.Setting.workers, help="DataLoader workers of the others")
    parser.add_argument("--compile", action="store_true", help="also the ceiling under torch.compile")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    if args.images % args.batch:
        parser.error(f"--images {args.images} must be a multiple of --batch {args.batch}: the ceiling takes whole batches only")
    columns = ["of_ceiling", *(f"vs_{k if k != 'plain' else 'plain_loop'}" for k in args.against), "vs_full", "reused_vs_not"]
    columns += ["compiled_vs_ceiling"] if args.compile else []
    print(f"{'network':16s} {'strategy':12s}   px  precision  images/s  " + "  ".join(f"{c:18s}" for c in columns), flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in args.networks:
            torch.save(timm.create_model(timm_name(network)).state_dict(), Path(folder, f"{network}.pth"))
        for network, size in ((n, s) for n in args.networks for s in args.sizes):
            for wanted in args.precisions:
                precision = wanted if wanted != "auto" else fastest_precision([network], size, folder)[0]
                for strategy in args.strategies:
                    row = measure(network, strategy, size, precision, folder, args)
                    rows.append(row)
                    shown = [f"{r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" if (r := row.get(c)) else "" for c in columns]
                    print(
                        f"{network:16s} {strategy:12s} {size:4d}  {precision:9s} {row['images_per_second']:9.1f}  "
                        + "  ".join(f"{s:18s}" for s in shown)
                        + (f"  {'flops ' + ', '.join(f'{k} {v:g}' for k, v in row['flops'].items())}" if "flops" in row else "")
                        + (f"  MFU {row['mfu']:.3f}" if "mfu" in row else ""),
                        flush=True,
                    )
    if args.json:
        key = next((r for r in rows if (r["network"], r["strategy"], r["size"]) == ("resnet50", "full", 96)), rows[0])
        print(json.dumps({**{k: v for k, v in key.items() if isinstance(v, dict)}, "rows": rows}))


if __name__ == "__main__":
    main()
