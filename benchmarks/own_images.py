"""The journey of docs/own-images.md, timed: photographs as users have them, from the data doctor to a CSV of predictions and an export.

    python -m benchmarks.own_images --data DATA/deepweeds --work FOLDER --hours 0.5 [--only-images] [-- OPTIONS OF THE SWEEP]

The photographs are DeepWeeds', put in disorder: a folder per field day, odd suffixes, TIFFs, one of 16 bits, copies, a copy with
another label, a torn file, a row without a label, one without a file, files that are no images, and labels in a table with semicolons
and a byte order mark.
"""

import argparse
import csv
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

SPECIES = ("Chinee apple", "Lantana", "Parkinsonia", "Rubber vine")
EACH, NEW = 40, 24  # photographs of each with a label; others without
SUFFIXES = {0: ".tif", 1: ".TIFF", 2: ".JPG", 3: ".jpeg", 4: ".png"}  # of every sixteen


def make(source: Path, work: Path) -> None:
    """Write WORK/weeds (photos/, labels.csv) and WORK/new_photos, in place of what is there."""
    rng = np.random.default_rng(3)
    weeds, new = work / "weeds", work / "new_photos"
    for folder in (weeds, new):
        shutil.rmtree(folder, ignore_errors=True)
    of: dict[str, list[str]] = {s: [] for s in SPECIES}
    for row in csv.DictReader((source / "labels" / "labels.csv").open()):
        if row["Species"] in of and (source / "images" / row["Filename"]).exists():
            of[row["Species"]].append(row["Filename"])
    chosen = sorted((file, s) for s in SPECIES for file in rng.choice(sorted(of[s]), EACH, replace=False).tolist())
    rows: list[list[str]] = []

    def listed(path: Path, species: str) -> None:
        rows.append([path.relative_to(weeds / "photos").as_posix(), species, path.parent.name])

    for k, (file, species) in enumerate(chosen):
        path = weeds / "photos" / file[:4] / file[:8] / (file[:-4] + SUFFIXES.get(k % 16, ".jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".tif", ".tiff", ".png"):
            Image.open(source / "images" / file).save(path)
        else:
            shutil.copy(source / "images" / file, path)
        listed(path, species)
    for k in (3, 40, 77, 110, 150):
        first = weeds / "photos" / rows[k][0]
        listed(Path(shutil.copy(first, first.with_name(f"{first.stem} (copy){first.suffix}"))), rows[k][1])
    first = weeds / "photos" / rows[10][0]
    listed(Path(shutil.copy(first, first.with_name(f"IMG_0010{first.suffix}"))), next(s for s in SPECIES[1:] if s != rows[10][1]))
    rest = [file for s in SPECIES for file in sorted(of[s]) if (file, s) not in set(chosen)]
    lantana = next(file for file in rest if file in of["Lantana"])
    scan = first.parent.parent / "scan16.tif"
    Image.fromarray(np.asarray(Image.open(source / "images" / lantana).convert("L")).astype(np.uint16) * 257).save(scan)
    listed(scan, "Lantana")
    torn = next(weeds / "photos" / row[0] for row in rows[25:] if row[0].endswith(".jpg"))
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 3])
    for name in ("notes.txt", "Thumbs.db", ".DS_Store"):
        (scan.parent / name).write_bytes(b"no image")
    rows += [[f"{scan.parent.name}/lost.jpg", "Lantana", ""], [rows[0][0], "", ""]]
    with (weeds / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file_:
        csv.writer(file_, delimiter=";").writerows([["Photo", "Species", "Day"], *rows])
    (new / "today").mkdir(parents=True)
    for file in rng.choice([f for f in rest if f != lantana], NEW, replace=False).tolist():
        shutil.copy(source / "images" / file, new / "today" / file)
    shutil.copy(torn, new / "torn.jpg")


def commands(work: Path, hours: float, more: list[str]) -> list[list[str]]:
    """Return the commands that follow `git clone`, `make install` and `source .venv/bin/activate`."""
    table, new, study = f"table:{work / 'weeds' / 'labels.csv'}", str(work / "new_photos"), str(work / "results" / "mine")
    sweep = ["--datasets", table, "--hours", f"{hours:g}", "--results", str(work / "results"), *more]
    return [
        ["study.datasets", "check", table, "--csv", str(work / "look.csv"), "--html", str(work / "check.html")],
        ["study.sweep", "mine", *sweep],
        ["study.predict", study, new, "--csv", str(work / "predictions.csv")],
        ["study.export", study, "--format", "timm,onnx", "--to", str(work / "exported"), "--check", new],
    ]


def main() -> int:
    own, more = (sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else (sys.argv[1:], [])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_images", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of DeepWeeds: images/, labels/labels.csv")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--only-images", action="store_true", help="make the photographs and stop")
    args = parser.parse_args(own)
    work = args.work.resolve()
    make(args.data, work)
    for command in [] if args.only_images else commands(work, args.hours, more):
        print(f"\n$ python -m {shlex.join(command)}", flush=True)
        start = time.monotonic()
        ended = subprocess.run([sys.executable, "-m", *command])
        print(f"# {time.monotonic() - start:.0f} s, load {os.getloadavg()[0]:.0f}, exit code {ended.returncode}", flush=True)
        if ended.returncode:
            return ended.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
