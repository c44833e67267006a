"""Labels that were filled in, joined to their study: written beside the draw, and an amendment of the study says so with its day."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.data.question import Question
from study.errors import ConfigError, DataError
from study.label.filled import read_labels
from study.results import Results


def join_labels(results: Results, path: Path) -> None:
    """Join a filled table, or correct labels that were joined; equal pictures of other draws get the same labels.

    Raises ConfigError where nothing was drawn, DataError with the lines of a table that is not filled in as it should be.
    """
    ledger, draws = results.frames.ledger, results.frames.labelled
    if not draws:
        command = f"python -m study.label {shlex.quote(results.folder)} FOLDER"
        raise ConfigError(f"no picture was drawn for {results.folder} yet. Draw some with {command}.")
    classes = {g.question: list(g.classes) for g in results.findings.gathered}
    asked = {name: None for d in draws for name in classes.get(Question.of(d), [])}
    place, found = read_labels(path, draws, [*asked])
    draw, now = draws[place], time.time()
    given = {i["sha256"]: found[i["image"]] for i in draw["images"] if i["image"] in found}
    if draw["filled"]:
        other = sum(given.get(i["sha256"], i["label"]) != i["label"] for i in draw["images"])
        if not other:
            raise DataError(
                f"{path}: its pictures were labelled and joined before, with these labels. To correct one, change it there and join the "
                "table again."
            )
        joined, what = {**draw, "corrected": [*draw.get("corrected", []), now]}, f"labels corrected: {other} of {len(draw['images'])}"
    else:
        joined, what = {**draw, "filled": now}, f"labels: {len(found)} of {draw['pictures']:,}"
    fresh = [joined if k == place else d for k, d in enumerate(draws)]
    ledger.write_labelled([_with(given, d) if Question.of(d) == Question.of(draw) else d for d in fresh])
    ledger.amend(f"{what} pictures of {draw['folder']}, {Question.of(draw).name}")


def _with(given: Mapping[str, str], draw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the draw with these labels, by the pictures' digests. One that is still to be joined keeps its pictures without a label."""
    mends = {i["image"]: given[i["sha256"]] for i in draw["images"] if i["sha256"] in given and (draw["filled"] or i["label"] is not None)}
    return {**draw, "images": [{**i, "label": mends.get(i["image"], i["label"])} for i in draw["images"]]}
