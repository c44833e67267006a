"""The answers at a glance as HTML, for the page's first screen, a notebook and a tracker."""

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.page.theme import colour
from analysis.words.answer import Answer, Standing
from analysis.words.panel import summary
from study.scoring.metric import DEFAULT

HERE = Path(__file__).parent
MOST = 8  # strategies in a card; the page has all of them below


def environment() -> Environment:
    """Return the template environment. It escapes every text, and a name that is missing is an error."""
    return Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(HERE), trim_blocks=True, lstrip_blocks=True)


def cards(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the values of `sections/cards.html`: `answers` and the `summary` over several data sets."""
    return {"answers": [_card(a) for a in answers], "summary": summary(answers)}


def cards_html(answers: Sequence[Answer]) -> str:
    """Return the cards with their own style sheet, as a notebook shows them."""
    style = (HERE / "card.css").read_text(encoding="utf-8")
    return f"<style>{style}</style>{environment().get_template('sections/cards.html').render(cards(answers))}"


def answer_page(title: str, answers: Sequence[Answer]) -> str:
    """Return the cards as a page of their own: without a script and of a few kilobytes, as a tracker shows it among a run's files."""
    body = f'<body style="margin: 1rem auto; max-width: 64rem; padding: 0 1rem">{cards_html(answers)}</body>'
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    return f'<!doctype html><html lang="en"><head>{head}</head>{body}</html>'


def _card(answer: Answer) -> dict[str, Any]:
    rows = list(answer.strategies[:MOST])
    if used := [r for r in answer.strategies[MOST:] if r.used]:
        rows[-1] = used[0]
    metric = rows[0].metric if rows else DEFAULT
    ends = [v / 100 for r in rows for v in (r.shown[1:] if r.interval else (r.shown[0],) * 2)]
    start, end = _axis(ends) if metric.low == 0 and metric.high == 1 else _wide_axis(ends)

    def at(value: float) -> float:
        return round(100 * (value / 100 - start) / (end - start), 2)

    return {
        "answer": answer,
        "rows": [_row(r, at) for r in rows],
        "more": len(answer.strategies) - len(rows),
        "ticks": [{"at": at(100 * v), "text": f"{100 * v:.4g}"} for v in _ticks(start, end)] if rows else [],
        "axis": f"{metric.words} on test images, {metric.unit}",
        "overlap": answer.mark == "decided" and len(bars := [r for r in rows if r.interval]) > 1 and _overlap(bars[0], bars[1]),
        "described": "; ".join(f"{r.name} {_points(r)}" for r in rows),
    }


def _row(r: Standing, at: Any) -> dict[str, Any]:
    score, low, high = r.shown
    return {
        "name": r.name,
        "aside": r.aside,
        "used": r.used,
        "line": r.line,
        "colour": colour(r.strategy),
        "at": at(score),
        "left": at(low) if r.interval else 0,
        "width": round(at(high) - at(low), 2) if r.interval else None,
        "mean": f"{score:.1f}",
        "interval": f"{low:.0f} to {high:.0f}" if r.interval else "",
    }


def _overlap(a: Standing, b: Standing) -> bool:
    return a.low < b.high and b.low < a.high


def _points(r: Standing) -> str:
    score, low, high = r.shown
    return f"{score:.1f}{f' ({low:.0f} to {high:.0f})' if r.interval else ''}"


def _axis(ends: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: multiples of 10 points around the smallest and the largest value, within 0 and 100."""
    if not ends:
        return 0.0, 1.0
    low, high = int(10 * min(ends)), -int(-10 * max(ends) // 1)
    return max(low, 0) / 10, min(max(high, low + 1), 10) / 10


def _wide_axis(ends: Sequence[float]) -> tuple[float, float]:
    """The same of a metric that does not lie within 0 and 100: from 0, or from below the smallest, to a round number above the largest."""
    high = max(max(ends, default=0.0), 1e-6)
    step = 10.0 ** math.floor(math.log10(high))
    return min(math.floor(min(ends, default=0.0) / step) * step, 0.0), math.ceil(high / step) * step


def _ticks(start: float, end: float) -> list[float]:
    """Return at most six round values from the axis' start to its end, both included."""
    if end - start > 1 or round(10 * (end - start), 6) % 1:
        return [start + k * (end - start) / 5 for k in range(6)]
    steps = round(10 * (end - start))
    each = next(s for s in (1, 2, 5, 10) if steps / s <= 5)
    inner = [start + k * each / 10 for k in range(steps // each + 1)]
    return inner if abs(inner[-1] - end) < 1e-9 else [*inner[:-1], end]
