"""The answers at a glance as HTML, for the page's first screen, a notebook and a tracker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.page.theme import colour
from analysis.words.answer import Answer, Standing
from analysis.words.panel import summary

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


def _card(answer: Answer) -> dict[str, Any]:
    rows = list(answer.strategies[:MOST])
    if used := [r for r in answer.strategies[MOST:] if r.used]:
        rows[-1] = used[0]
    ends = [v for r in rows for v in ((r.low, r.high) if r.interval else (r.mean, r.mean))]
    start, end = _axis(ends)

    def at(value: float) -> float:
        return round(100 * (value - start) / (end - start), 2)

    return {
        "answer": answer,
        "rows": [_row(r, at) for r in rows],
        "more": len(answer.strategies) - len(rows),
        "ticks": [{"at": at(v), "text": f"{100 * v:.0f}"} for v in _ticks(start, end)] if rows else [],
        "described": "; ".join(f"{r.name} {_points(r)}" for r in rows),
    }


def _row(r: Standing, at: Any) -> dict[str, Any]:
    return {
        "name": r.name,
        "aside": r.aside,
        "used": r.used,
        "line": r.line,
        "colour": colour(r.strategy),
        "at": at(r.mean),
        "left": at(r.low) if r.interval else 0,
        "width": round(at(r.high) - at(r.low), 2) if r.interval else None,
        "mean": f"{100 * r.mean:.1f}",
        "interval": f"{100 * r.low:.0f} to {100 * r.high:.0f}" if r.interval else "",
    }


def _points(r: Standing) -> str:
    return f"{100 * r.mean:.1f}{f' ({100 * r.low:.0f} to {100 * r.high:.0f})' if r.interval else ''}"


def _axis(ends: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: multiples of 10 points around the smallest and the largest value, within 0 and 100."""
    if not ends:
        return 0.0, 1.0
    low, high = int(10 * min(ends)), -int(-10 * max(ends) // 1)
    return max(low, 0) / 10, min(max(high, low + 1), 10) / 10


def _ticks(start: float, end: float) -> list[float]:
    """Return at most six round values from the axis' start to its end, both included."""
    steps = round(10 * (end - start))
    each = next(s for s in (1, 2, 5, 10) if steps / s <= 5)
    inner = [start + k * each / 10 for k in range(steps // each + 1)]
    return inner if abs(inner[-1] - end) < 1e-9 else [*inner[:-1], end]
