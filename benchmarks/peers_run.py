r"""One peer, trained as its own documentation says, on folders of images. The peers' interpreter runs it, not ours.

    PEERS/bin/python benchmarks/peers_run.py fastai --images FOLDER --network tf_efficientnetv2_b0 --weights FILE --size 64 \
        --seconds 1000 --out DIR

It writes DIR/test.csv (file, p(CLASS) of every class) and DIR/told.json (its choices). `--seconds` are processor seconds of this
process and its children. A peer without a budget of its own gets as many epochs as fit into them, by the measured cost of one epoch.
"""

import argparse
import csv
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def spent() -> float:
    """Return the processor seconds so far, with those of children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def classes_of(images: Path) -> list[str]:
    return sorted(p.name for p in (images / "train").iterdir())


def files_of(images: Path, split: str) -> list[Path]:
    return sorted((images / split).glob("*/*"))


def write(out: Path, files: list[Path], probabilities: Any, classes: list[str], told: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / "test.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", *(f"p({c})" for c in classes)])
        rows.writerows([f"{f.parent.name}/{f.name}", *map(float, p)] for f, p in zip(files, probabilities, strict=True))
    (out / "told.json").write_text(json.dumps(told))


def epochs_that_fit(left: float, epoch: float) -> int:
    return max(1, math.floor(left / epoch))


def fastai_s(args: argparse.Namespace) -> None:
    """Train with `vision_learner`, `lr_find`, `fine_tune`: one epoch of the head, then everything, at the rate that it suggests."""
    from fastai.callback.schedule import Learner  # noqa: F401  # gives learners lr_find and fine_tune
    from fastai.metrics import F1Score, accuracy
    from fastai.torch_core import set_seed
    from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms, vision_learner

    set_seed(args.seed)
    data = ImageDataLoaders.from_folder(
        args.images,
        train="train",
        valid="val",
        item_tfms=Resize(args.size),
        batch_tfms=aug_transforms(),
        bs=32,
        num_workers=0,
        seed=args.seed,
    )

    def learner() -> Any:
        given = {"pretrained_cfg_overlay": {"file": str(args.weights)}}
        return vision_learner(data, args.network, metrics=[accuracy, F1Score(average="macro")], path=args.out, **given)

    tried = learner()
    rate = float(tried.lr_find(show_plot=False).valley)
    tried = learner()
    tried.unfreeze()
    before = spent()
    tried.fit_one_cycle(1, 1e-6)  # what an epoch costs; thrown away
    epochs = epochs_that_fit(args.seconds - spent(), 1.03 * (spent() - before)) - 1
    learn = learner()
    learn.fine_tune(max(epochs, 1), rate)
    files = files_of(args.images, "test")
    probabilities, _ = learn.get_preds(dl=data.test_dl(files))
    told = {"learning rate (lr_find)": rate, "epochs": f"1 of the head, {max(epochs, 1)} of all"}
    write(args.out, files, probabilities.tolist(), list(data.vocab), told)


def autogluon_s(args: argparse.Namespace) -> None:
    """Train MultiModalPredictor with its defaults except network, metric and time limit, which is in wall seconds: `--wall`."""
    import pandas as pd
    import timm
    import torch
    from autogluon.multimodal import MultiModalPredictor
    from safetensors.torch import load_file

    place = args.out / "network"
    place.mkdir(parents=True, exist_ok=True)
    model = timm.create_model(args.network)
    torch.save(load_file(args.weights), place / "whole.bin")
    headless = timm.create_model(args.network, num_classes=0)
    headless.load_state_dict({k: v for k, v in load_file(args.weights).items() if k in headless.state_dict()})
    torch.save(headless.state_dict(), place / "pytorch_model.bin")
    shape = {k: model.pretrained_cfg[k] for k in ("mean", "std", "interpolation", "crop_pct")} | {"input_size": [3, args.size, args.size]}
    (place / "config.json").write_text(
        json.dumps({"architecture": args.network, "num_features": headless.num_features, "pretrained_cfg": shape})
    )

    def frame(split: str) -> Any:
        files = files_of(args.images, split)
        return pd.DataFrame({"image": map(str, files), "label": [f.parent.name for f in files]})

    predictor = MultiModalPredictor(label="label", eval_metric="f1_macro", path=str(args.out / "predictor"), verbosity=2)
    predictor.fit(
        frame("train"),
        tuning_data=frame("val"),
        time_limit=args.wall,
        seed=args.seed,
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": str(place),
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
        },
    )
    test = frame("test").drop(columns="label")
    found = predictor.predict_proba(test)
    told = {k: str(v) for k, v in predictor.fit_summary().items()} if hasattr(predictor, "fit_summary") else {}
    write(args.out, files_of(args.images, "test"), found.to_numpy().tolist(), list(found.columns), told)


def timm_s(args: argparse.Namespace) -> None:
    """Train with train.py: AdamW at 1e-3, a tenth of the epochs as warm-up, the rest at its defaults.

    The checkpoint of the best validation accuracy is kept.
    """
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    def train(epochs: int, name: str) -> None:
        command = [sys.executable, str(args.train), "--data-dir", str(args.images), "--train-split", "train", "--val-split", "val"]
        command += ["--model", args.network, "--pretrained", "--pretrained-path", str(args.weights), "--num-classes", str(len(classes))]
        command += ["--img-size", str(args.size), "--batch-size", "32", "--opt", "adamw", "--lr", "1e-3", "--weight-decay", "0.05"]
        command += ["--epochs", str(epochs), "--warmup-epochs", str(epochs // 10), "--sched", "cosine"]
        command += ["--device", "cpu", "--workers", "1"]
        command += ["--no-prefetcher", "--seed", str(args.seed), "--output", str(args.out), "--experiment", name, "--log-interval", "1000"]
        subprocess.run(command, check=True, stdout=sys.stderr)

    classes = classes_of(args.images)
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    began = spent()
    train(1, "one")
    start_and_one = spent() - began
    began = spent()
    train(3, "three")
    epoch = (spent() - began - start_and_one) / 2  # what an epoch costs; both runs are thrown away
    epochs = epochs_that_fit(args.seconds - spent() - start_and_one, epoch)
    train(epochs, "whole")
    best = str(args.out / "whole" / "model_best.pth.tar")
    model = timm.create_model(args.network, num_classes=len(classes), checkpoint_path=best).eval()
    transform = create_transform(**resolve_data_config({"input_size": (3, args.size, args.size)}, model=model))
    files = files_of(args.images, "test")
    with torch.no_grad():
        rows = torch.stack([transform(Image.open(f).convert("RGB")) for f in files])
        probabilities = torch.cat([model(part).softmax(-1) for part in rows.split(32)])
    write(args.out, files, probabilities.tolist(), classes, {"epochs": epochs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", choices=("fastai", "autogluon", "timm"))
    parser.add_argument("--images", type=Path, required=True, help="train/, val/, test/ with a folder a class")
    parser.add_argument("--network", required=True)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, required=True, help="processor seconds")
    parser.add_argument("--wall", type=float, required=True, help="seconds by the clock, for a peer that goes by it")
    parser.add_argument("--train", type=Path, help="timm's train.py")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    began = time.perf_counter()
    {"fastai": fastai_s, "autogluon": autogluon_s, "timm": timm_s}[args.peer](args)
    told = json.loads((args.out / "told.json").read_text()) | {"cpu_seconds": spent(), "seconds": time.perf_counter() - began}
    (args.out / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
