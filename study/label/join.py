"""Labels that were filled in, joined to their study: written beside the draw, and an amendment of the study says so with its day."""

import time
from pathlib import Path

from analysis.data.question import Question
from study.errors import ConfigError
from study.label.filled import read_labels
from study.results import Results


def join_labels(results: Results, path: Path) -> None:
    """Raises ConfigError where nothing was drawn, DataError with the lines of a table that is not filled in as it should be."""
    ledger, draws = results.frames.ledger, results.frames.labelled
    if not draws:
        raise ConfigError(f"no picture was drawn for {results.folder} yet. Draw some with python -m study.label {results.folder} FOLDER.")
    classes = {g.question: list(g.classes) for g in results.findings.gathered}
    asked = {name: None for d in draws for name in classes.get(Question.of(d), [])}
    place, found = read_labels(path, draws, [*asked])
    draw = draws[place]
    images = [{**i, "label": found[i["image"]] if i["label"] is None else i["label"]} for i in draw["images"]]
    filled = {**draw, "images": images, "filled": time.time()}
    ledger.write_labelled([*draws[:place], filled, *draws[place + 1 :]])
    ledger.amend(f"labels: {len(found)} of {draw['pictures']:,} pictures of {draw['folder']}, {Question.of(draw).name}")
