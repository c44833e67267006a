"""The same images, network, weights, pixels and processor seconds for us and for fastai, AutoGluon MultiModal and timm's train.py.

    python -m benchmarks.peers deepweeds --data DATA --weights WEIGHTS --peers PEERS/bin/python --train train.py --work FOLDER --hours 0.2
    python -m benchmarks.peers folder:PATH ... --seed 1 --work FOLDER1

The data set is given as folders, in its own splits. Ours is `study.sweep mine` within `--hours`, and the network that it delivers. Each
peer gets the processor seconds that ours used. Ours chooses its pixels, up to the network's own size, at which the peers train
(`--size`).

The result is the test macro-F1 of each delivered network, with its interval over test images, and ours minus theirs, paired by image.
Parts that are in FOLDER already are not made again.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from analysis.statistics import resampling as st
from analysis.statistics.intervals import difference_interval, images_estimate, share_interval
from study.datasets import open_dataset
from study.datasets.spec import TEST, TRAIN, VAL
from study.metrics import counts
from study.question.naming import DataName
from study.scoring import DEFAULT

PEERS = ("fastai", "autogluon", "timm")
RESAMPLES = 2000


def make_images(dataset: str, data: str | None, folder: Path) -> None:
    """Write train/, val/ and test/ with a folder per class."""
    name = DataName.parse(dataset)
    table = open_dataset(name.dataset, splits=name.splits, root=Path(data) if data else None)
    for k in range(len(table.ids)):
        split = {TRAIN: "train", VAL: "val", TEST: "test"}[int(table.split[k])]
        place = folder / split / table.classes[table.labels[k]].replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(table.decode(k)).save(place / f"{k:05d}.png")


def timed(command: list[str], log: Path) -> dict[str, float]:
    """Run the command in the folder of its log, and return its processor seconds and wall seconds. Raises CalledProcessError."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("w") as file:
        env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": used, "seconds": time.perf_counter() - began}


def ours(images: Path, work: Path, args: argparse.Namespace) -> None:
    (work / "ours").mkdir(parents=True, exist_ok=True)
    results = work / "ours" / "results"
    sweep = ["study.sweep", "mine", "--datasets", f"folder:{images}", "--hours", f"{args.hours:g}", "--backbones", args.network]
    sweep += ["--weights", str(Path(args.weights).resolve()), "--results", str(results), "--mlflow", "off", "--set", f"seed={args.seed}"]
    used = timed([sys.executable, "-m", *sweep], work / "ours" / "sweep.log")
    table = work / "ours" / "predictions.csv"
    predict = ["study.predict", str(results / "mine"), str(images / "test"), "--csv", str(table)]
    more = timed([sys.executable, "-m", *predict], work / "ours" / "predict.log")
    with table.open() as file:
        rows = [{("file" if k == "image" else k): v for k, v in row.items()} for row in csv.DictReader(file)]
    kept = [name for name in rows[0] if name == "file" or name.startswith("p(")]
    with (work / "ours" / "test.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, kept, extrasaction="ignore")
        out.writeheader()
        out.writerows(rows)
    (work / "ours" / "told.json").write_text(json.dumps({k: used[k] + more[k] for k in used}))


def answers(table: Path, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (predicted, true), each [N], in the order of the files' names."""
    with table.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"].split("/")[-2:])
    said = [int(np.argmax([float(row[f"p({c})"]) for c in classes])) for row in rows]
    return np.array(said), np.array([classes.index(row["file"].split("/")[-2]) for row in rows])


def resampled(said: np.ndarray, true: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
    weights, score = st.shared_weights(len(true), None, RESAMPLES), st.METRICS[DEFAULT.name]
    return float(score(counts(said, true, classes))), score(counts(said, true, classes, weights))


def table(work: Path, images: Path) -> str:
    classes = sorted(p.name for p in (images / "test").iterdir())
    lines = ["| | test macro-F1 | ours minus theirs | CPU seconds | seconds | what it chose |", "| --- | --- | --- | --- | --- | --- |"]
    said, true = answers(work / "ours" / "test.csv", classes)
    own, own_again = resampled(said, true, len(classes))
    units = st.image_units(len(true), None)
    for name in ("ours", *(p for p in PEERS if (work / p / "told.json").exists())):
        told = json.loads((work / name / "told.json").read_text())
        score, again = resampled(*answers(work / name / "test.csv", classes), len(classes))
        low, high = share_interval(images_estimate(score, again, units))
        apart = ""
        if name != "ours":
            least, most = difference_interval(images_estimate(own - score, own_again - again, units))
            apart = f"{100 * (own - score):+.1f} [{100 * least:+.1f}, {100 * most:+.1f}]"
        chose = "; ".join(f"{k}: {v}" for k, v in told.items() if k not in ("cpu_seconds", "seconds"))
        lines.append(
            f"| {name} | {100 * score:.1f} [{100 * low:.1f}, {100 * high:.1f}] | {apart} | {told['cpu_seconds']:.0f} | "
            f"{told['seconds']:.0f} | {chose} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="as --datasets of a study takes it: deepweeds, folder:PATH")
    parser.add_argument("--data", help="folder that holds deepweeds/, fer2013/")
    parser.add_argument("--weights", required=True, help="folder of the network's weights")
    parser.add_argument("--network", default="tf_efficientnetv2_b0")
    parser.add_argument("--peers", required=True, help="interpreter that has fastai and AutoGluon MultiModal")
    parser.add_argument("--train", required=True, help="train.py of the timm that we use")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224, help="pixels that the peers train at")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=0.2)
    args = parser.parse_args()
    work = args.work.resolve()
    images = work / "images"
    if not images.exists():
        make_images(args.dataset, args.data, images)
    if not (work / "ours" / "told.json").exists():
        ours(images, work, args)
    given = json.loads((work / "ours" / "told.json").read_text())
    weights = next(p for p in Path(args.weights).resolve().glob("*.safetensors") if args.network in p.name)
    for peer in PEERS:
        if not (work / peer / "told.json").exists():
            python = sys.executable if peer == "timm" else args.peers  # the timm that AutoGluon asks for cannot train without a GPU
            command = [
                python,
                str(Path(__file__).resolve().with_name("peers_run.py")),
                peer,
                "--images",
                str(images),
                "--network",
                args.network,
            ]
            command += ["--weights", str(weights), "--size", str(args.size), "--seconds", str(given["cpu_seconds"])]
            command += ["--wall", str(given["seconds"]), "--train", str(Path(args.train).resolve()), "--out", str(work / peer)]
            command += ["--seed", str(args.seed)]
            try:
                timed(command, work / f"{peer}.log")
            except subprocess.CalledProcessError as error:
                print(f"{peer}: ended with {error.returncode}; see {work / f'{peer}.log'}", file=sys.stderr)
    print(table(work, images))


if __name__ == "__main__":
    main()
