"""The worked example of docs/networks.md: it runs as printed there, and takes the steps that the page describes."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from study.networks.cutting import replaying

PAGE = Path(__file__).parent.parent / "docs" / "networks.md"


def example() -> str:
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    return source


def run(source: str) -> list[str]:
    """Run the example and return the lines that it prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(source, str(PAGE), "exec"), {"__name__": "example"})  # our own page
    return said.getvalue().splitlines()


def test_it_prints_what_stands_beside_each_line() -> None:
    source = example()
    expected = re.findall(r"^print\(.*\)  # (.*)$", source, re.M)
    assert len(expected) == source.count("print(") > 0
    assert run(source) == expected


def test_the_attempts_are_those_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[set[str]] = []
    build = replaying.build_halves

    def recording(*args: Any) -> Any:
        tried.append({path for path, _, _ in args[-1]})
        return build(*args)

    monkeypatch.setattr(replaying, "build_halves", recording)
    run(example())
    inputs, everything = {"last"}, {"last", "stem", "block"}
    assert tried[:2] == [inputs, everything]  # the first attempt fails, the second succeeds
    assert tried[2:] == [inputs, {"last", "block"}, {"last", "stem"}, {"last", "stem"}]  # what is not needed is left out
