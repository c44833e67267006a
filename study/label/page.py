"""The page on which a draw is labelled: one self-contained file, a key a class, and the filled table as a download. Nothing leaves it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from jinja2 import Environment, StrictUndefined

from study.datasets.imagefiles import decode_file
from study.datasets.thumbnails import jpeg
from study.label.filled import COLUMNS, NOTHING
from study.records import dumps
from study.storage import outputs

NAME = "pictures to label"
SIDE = 480  # pixels, of the longer side
KEYS = "1234567890abcdefghijklmnopqrstuvwxyz"
"""The key of each class, as far as they go; the rest are chosen with the mouse."""

PAGE = (Path(__file__).parent / "page.html").read_text()


def replaceable(draws: Sequence[Mapping[str, Any]]) -> outputs.Kind:
    """Return the kind of a page whose labels were joined: a browser keeps what was chosen on another, and only its page can save that."""
    keys = [f' {draw["at"]}"' for draw in draws if draw["filled"]]

    def is_ours(file: BinaryIO) -> bool:
        head = file.read(outputs.HEAD).decode("utf-8", "replace")
        return outputs.stamp(NAME) in head and any(key in head for key in keys)

    return outputs.Kind("page of pictures whose labels were joined", is_ours)


def render(draw: Mapping[str, Any], files: Mapping[str, Path], classes: Sequence[str], title: str, channels: int) -> bytes:
    """`files`: where each picture lies, by its name; `title`: of the study. Neither what the networks say nor a probability is on it."""
    left = [i for i in draw["images"] if i["label"] is None]
    data = {
        "key": f"{title} {draw['at']}",  # under which the browser keeps what was chosen
        "columns": COLUMNS,
        "classes": list(classes),
        "keys": list(KEYS[: len(classes)]),
        "nothing": NOTHING,
        "images": [{"image": i["image"], "probability": i["probability"], "source": _source(files[i["image"]], channels)} for i in left],
    }
    script = dumps(data).replace("<", "\\u003c")  # no text in it ends the element
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    page = environment.from_string(PAGE).render(stamp=outputs.stamp(NAME), title=title, folder=draw["folder"], data=script)
    return page.encode("utf-8", "backslashreplace")


def _source(path: Path, channels: int) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(decode_file(path, channels), SIDE)).decode()
