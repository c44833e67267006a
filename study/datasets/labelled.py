"""Images of the classes a network was pretrained on, to measure what fine-tuning made it forget: ImageNet's 1,000, or some of them.

They are a folder with one folder per class, named by WordNet id (n01440764), or a CSV with the columns filename and class_index whose
images lie beside it or in images/. No network is trained on them.
"""

from pathlib import Path

import numpy as np

from study.datasets.imagefiles import check_headers, decode_file, fingerprint, identity, no_image, refuse
from study.datasets.spec import ImageTable
from study.datasets.tables import bare_name, read_columns, whole
from study.errors import DataError

CLASSES = 1000


def read_labelled(path: Path) -> ImageTable:
    """Return all images in split 0, with labels numbered as ImageNet's 1,000 classes. Raises DataError."""
    if path.is_dir():
        found = _from_folders(path)
    elif path.is_file():
        found = _from_table(path)
    else:
        raise DataError(f"{path} does not exist. Give a folder of WordNet ids, or a CSV with the columns filename and class_index.")
    files = [file for file, _ in found]
    size, bad = check_headers(files)
    if bad:
        raise refuse([(str(files[k]), reason) for k, reason in bad], str(path))
    return ImageTable(
        name=f"labelled:{path}",
        classes=tuple(str(k) for k in range(CLASSES)),
        ids=tuple(map(str, files)),
        labels=np.array([label for _, label in found], np.int64),
        split=np.zeros(len(files), np.int8),
        form=f"{len(files)} images of {len({label for _, label in found})} of ImageNet's classes",
        fingerprint=fingerprint(["labelled", *map(identity, files)]),
        decode=lambda k: decode_file(files[k], 3),
        policy="mild",
        channels=3,
        native_size=size,
    )


def _from_table(path: Path) -> list[tuple[Path, int]]:
    rows, _ = read_columns(path, ("filename", "class_index"))
    out = []
    for line, row in rows:
        name = bare_name(row["filename"], path, line, "filename")
        places = [folder / name for folder in (path.parent, path.parent / "images") if (folder / name).is_file()]
        if not places:
            raise DataError(f"{path}:{line}: {name} lies neither beside the file nor in images/. Put it there, or remove the row.")
        out.append((places[0], whole(row["class_index"], CLASSES - 1, path, line, "class_index")))
    return out


def _from_folders(path: Path) -> list[tuple[Path, int]]:
    from timm.data import ImageNetInfo

    index = {wnid: k for k, wnid in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    folders = [p for p in sorted(path.iterdir()) if p.is_dir() and p.name in index]
    out = [(file, index[p.name]) for p in folders for file in sorted(p.iterdir()) if no_image(file.name) is None]
    if not out:
        raise DataError(f"{path} holds no folder named by a WordNet id (n01440764) with images in it. Name them so, or give a CSV.")
    return out
