"""Tables that benchmarks write into pages of docs, between two marks. The text around the marks is kept."""

import re
from pathlib import Path


def write_between_marks(page: Path, maker: str, text: str) -> None:
    """Write `text` between `<!-- made by MAKER -->` and `<!-- end -->`."""
    marks = re.compile(rf"(<!-- made by {re.escape(maker)} -->\n).*?(\n?<!-- end -->)", re.S)
    page.write_text(marks.sub(lambda m: f"{m[1]}{text}\n<!-- end -->", page.read_text()))
