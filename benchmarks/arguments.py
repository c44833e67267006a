"""Arguments that several benchmarks take, in the same words everywhere."""

import argparse
import os
from pathlib import Path
from typing import Any

SHARED: dict[str, dict[str, Any]] = {
    "--data": {"default": os.environ.get("STUDY_DATA"), "help": "folder that holds fer2013/ and deepweeds/"},
    "--weights": {"default": os.environ.get("STUDY_WEIGHTS"), "help": "folder of pretrained weights"},
    "--backbone": {"default": "efficientnet_lite0"},
    "--more": {"nargs": "*", "default": [], "metavar": "FOLDER", "help": "folders of images, one a class, besides --datasets"},
    "--out": {"type": Path, "required": True, "help": "file of finished trainings, filled up where it was left"},
    "--json": {"action": "store_true", "help": "one object on the last line"},
}


def parser(doc: str | None, *shared: str) -> argparse.ArgumentParser:
    """Return a parser that says the first line of a benchmark's `doc`, with these of the shared options."""
    made = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    for option in shared:
        made.add_argument(option, **SHARED[option])
    return made


def datasets(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the names of the data sets of --datasets and --more."""
    return (*args.datasets, *(f"folder:{Path(folder).resolve()}" for folder in args.more))
