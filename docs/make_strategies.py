"""Writer of the table of strategies in docs/strategy.md from their own fields: `python docs/make_strategies.py`. A test compares."""

import re
from pathlib import Path
from typing import Any

from study.space import Choice, Domain, Integer, Log, domains
from study.strategies import STRATEGIES

PAGE = Path(__file__).resolve().parent / "strategy.md"
MARKS = re.compile(r"(<!-- made by python docs/make_strategies.py -->\n).*?(<!-- end -->)", re.S)


def table() -> str:
    rows = ["| name | what moves | searched (default) | source |", "| --- | --- | --- | --- |"]
    for name, cls in STRATEGIES.items():
        defaults = cls()
        ranges = "; ".join(shown(field, domain, getattr(defaults, field)) for field, domain in domains(cls).items())
        rows.append(f"| `{name}` | {cls.title} | {ranges} | {cls.source} |")
    return "\n".join(rows) + "\n"


def shown(field: str, domain: Domain, default: Any) -> str:
    if isinstance(domain, Choice):
        return f"`{field}` {' or '.join(map(str, domain.options))} ({default})"
    kind = " log" if isinstance(domain, Log) else " whole" if isinstance(domain, Integer) else ""
    return f"`{field}` {domain.low:g} to {domain.high:g}{kind} ({default:g})"


def page() -> str:
    return MARKS.sub(lambda m: m[1] + table() + m[2], PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
