"""The download of data: a resumable, checked one for DeepWeeds, and directions for FER2013, whose licence needs a log-in."""

import hashlib
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from study.datasets.archives import extract
from study.errors import ConfigError, DataError, EnvironmentProblem, nearest

DEEPWEEDS_ID = "1xnK3B6K6KekDI55vwJ0vnc2IGoDga9cj"  # Google Drive, named by the authors' README
DEEPWEEDS_SHA256 = {
    "0961f63c01b997bfab1559ad09e99c0e8130617fd96a8b92fdc09940e01b0ce8",  # 491,516,047 bytes, current
    "d616b33efe097909bdac9623abc5705b59ad11f6796a26a956c1aa5de652f1ba",  # 935,276,050 bytes, older
}
LABELS_URL = "https://raw.githubusercontent.com/AlexOlsen/DeepWeeds/master/labels/"
LABELS_SHA256 = "6fb95b89fd9d384f94e185a5cab6c5da7c987649399c90618ecc60acfb0112eb"
BLOCK = 1 << 20

FER2013 = """FER2013 must be downloaded by hand: Kaggle asks you to log in and accept the challenge's rules. Any one of these will do:
  {out}/fer2013/fer2013.csv             columns emotion,pixels,Usage    md5 f8428a1edbd21e88f42c73edd2a14f95
  {out}/fer2013/icml_face_data.csv      the same, other column order     md5 b114b9e04e6949e5fe8b6a98b3892b1d
  {out}/fer2013/train.csv               28,709 rows, no official split   md5 3f0dfb3d3fd99c811a1299cb947e3131
  {out}/fer2013/train/<class>/*.jpg and {out}/fer2013/test/<class>/*.jpg (kaggle.com/datasets/msambare/fer2013)
from kaggle.com/competitions/challenges-in-representation-learning-facial-expression-recognition-challenge/data
(.gz, .bz2 and .xz are read as they are). FER+ votes (fer2013new.csv of github.com/microsoft/FERPlus) go beside the CSV, \
for fer2013@ferplus.
Then: python -m study.datasets check fer2013 --data {out}"""


def fetch(name: str, out: Path) -> int:
    """Fetch a data set, or print how to get it; return the exit code.

    Raises ConfigError for a name that needs no fetching, EnvironmentProblem when the download fails, DataError on a wrong checksum.
    """
    if name == "fer2013":
        print(FER2013.format(out=out))
        return 0
    if name != "deepweeds":
        raise ConfigError(
            f"{name!r} cannot be fetched. Choose from {nearest(name, ['deepweeds', 'fer2013'])} (miniatures and digits need no download)."
        )
    folder = out / "deepweeds"
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for file in ("labels.csv", *(f"{s}_subset{k}.csv" for k in range(5) for s in ("train", "val", "test"))):
        download(LABELS_URL + file, folder / "labels" / file, {LABELS_SHA256} if file == "labels.csv" else set())
    if not (folder / "images").is_dir():
        url = f"https://drive.usercontent.google.com/download?id={DEEPWEEDS_ID}&export=download&confirm=t"
        archive = download(url, folder / "images.zip", DEEPWEEDS_SHA256)
        temporary = folder / "images.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        extract(archive, temporary)
        inner = temporary / "images"
        (inner if inner.is_dir() else temporary).rename(folder / "images")
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"DeepWeeds lies in {folder}. Run with --data {out}")
    return 0


def download(url: str, target: Path, checksums: set[str]) -> Path:
    """Download a file, resuming a partial one, and rename it only where it has one of `checksums` (empty: unchecked)."""
    if target.is_file() and (not checksums or sha256(target) in checksums):
        return target
    partial = target.with_name(target.name + ".part")
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            if have and not resumed:
                have = 0
            length = answer.headers.get("Content-Length")
            if re.match("text/html", answer.headers.get("Content-Type", "")):
                raise EnvironmentProblem(f"{url} answered with a page instead of the file. Open it in a browser and save it as {target}.")
            with (
                Progress(TextColumn(target.name), BarColumn(), DownloadColumn(), TransferSpeedColumn()) as bar,
                open(partial, "ab" if resumed else "wb") as file,
            ):
                task = bar.add_task("", total=have + int(length) if length else None, completed=have)
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.advance(task, len(block))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise EnvironmentProblem(
            f"cannot download {url} ({error}). Run the same command again to go on, or save it as {target} by hand."
        ) from None
    if checksums and (digest := sha256(partial)) not in checksums:
        partial.unlink()
        raise DataError(
            f"{url}: sha256 is {digest}, expected one of {', '.join(sorted(checksums))}. The download was damaged or the file "
            "replaced. Run again."
        )
    partial.replace(target)
    return target


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
