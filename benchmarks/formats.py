"""Training speed by precision and memory format. No answer holds for every network, so a study measures its own.

    python -m benchmarks.formats --json

The result is the speed of a training step on one batch in memory, in images per second, best of `--repetitions` (other programs can
only slow it down).
"""

import json
import time

import timm
import torch

from benchmarks import arguments
from study.inference.device import Device
from study.networks.weights import timm_name

NETWORKS = ("resnet50", "efficientnet_b0", "efficientnet_lite0", "mobilenetv2_100", "convnext_atto", "regnety_002")
FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


def rate(network: str, size: int, precision: str, layout: torch.memory_format, batch: int, repetitions: int) -> float:
    where = Device.best(precision)
    model = timm.create_model(timm_name(network), num_classes=7).train()
    model = model.to(where.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.randn(batch, 3, size, size, device=where.device).contiguous(memory_format=layout)

    def step() -> float:
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with where.autocast():
            loss = model(images).float().logsumexp(1).mean()
        loss.backward()
        optimizer.step()
        float(loss.detach())
        return time.perf_counter() - began

    step()
    return batch / min(step() for _ in range(repetitions))


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=4)
    args = parser.parse_args()
    ways = [(p, f) for p in ("fp32", "bf16") for f in FORMATS]
    print(f"images a second, {args.size} px, batch {args.batch}, {torch.get_num_threads()} thread(s)")
    print(f"{'network':20s}" + "".join(f"{f'{p} {f}':>20s}" for p, f in ways), flush=True)
    rows = []
    for network in args.networks:
        rates = {f"{p} {f}": round(rate(network, args.size, p, FORMATS[f], args.batch, args.repetitions), 1) for p, f in ways}
        rows.append({"network": network, **rates})
        print(f"{network:20s}" + "".join(f"{v:20.1f}" for v in rates.values()), flush=True)
    if args.json:
        print(json.dumps({"size": args.size, "threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
