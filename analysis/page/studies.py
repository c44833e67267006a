"""One page over the studies of a results folder: each study's answer, data, cost, and a link to its own page."""

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis.data.frames import Frames
from analysis.data.spent import spent
from analysis.load import load
from analysis.page.card import environment
from analysis.verdict import findings
from analysis.words.answer import Answer, Worth
from study.errors import StudyError
from study.scoring import DEFAULT
from study.storage import outputs
from study.storage.folder import is_url
from study.tracking.ledger import studies

PAGE = outputs.page("a page of several studies")
RESAMPLES = 200  # of the test images: enough for points without decimals


def write_studies(source: str, out: str | Path, *, overwrite: bool = False) -> list[Answer]:
    """Write the page over all studies in the folder `source` to `out` and return their answers.

    A study that cannot be read is named on the page with its reason. Raises ConfigError where `out` is another file that would be lost.
    """
    outputs.check_output(out, PAGE, "--out", overwrite=overwrite)
    rows: list[dict[str, Any]] = []
    unread: list[tuple[str, str]] = []
    answers: list[Answer] = []
    for name in studies(source):
        try:
            frames = load(f"{source.rstrip('/')}/{name}")
            own = findings(frames, RESAMPLES).answers
        except StudyError as error:
            unread.append((name, str(error)))
            continue
        answers += own
        rows += [_row(frames, answer, _link(source, name, out)) for answer in own]
    rows.sort(key=lambda r: -r["at"])
    page = environment().get_template("sections/studies.html").render(rows=rows, unread=unread, source=source.rstrip("/"))
    outputs.write_output(out, page.encode("utf-8", "backslashreplace"), PAGE, "--out", overwrite=overwrite)
    return answers


def _row(frames: Frames, answer: Answer, link: str) -> dict[str, Any]:
    """Return the values of one line. `at` is the Unix time of the study's end, or now for one in progress."""
    ended = frames.facts.get("finished_at")
    whole = spent(frames)
    return {
        "study": frames.study.name,
        "link": link,
        "data": answer.dataset,
        "said": answer.said,
        "do": answer.do,
        "score": _score(answer.worth) if answer.worth else "",
        "rests_on": answer.rests_on,
        "ended": time.strftime("%Y-%m-%d", time.gmtime(ended)) if ended else "in progress",
        "cost": f"{whole[-1]['hours']:.2g} {'GPU' if whole[-1]['gpu'] else 'processor'} hours" if whole else "",
        "at": float(ended or time.time()),
    }


def _score(worth: Worth) -> str:
    """Rounded; with its metric where that is not the usual one."""
    return f"{worth.metric.shown(worth.mean):.0f}{'' if worth.metric.name == DEFAULT.name else f' {worth.metric.measured}'}"


def _link(source: str, name: str, out: str | Path) -> str:
    """Return the study's own page as seen from `out`, or "" where it has none or lies behind a URL."""
    page = Path(source) / name / "report.html"
    if is_url(source) or not page.is_file():
        return ""
    return quote(os.path.relpath(page, Path(out).resolve().parent))
