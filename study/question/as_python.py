"""A study as the Python file that makes it: to read, to edit, to run again."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from study.canonical import default_of
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.space import Choice, Domain

TO_EDIT = ("trials", "random_trials", "searches", "confirm_seeds", "margin")
"""Fields that are always written, since users change them first."""
TO_EDIT_TOO = ("max_epochs", "image_size", "batch_size")
"""Fields of the protocol that are always written."""


def as_source(study: Study, heading: str) -> str:
    """Return a file that `python -m study.sweep FILE` runs and that gives an equal study; `heading` is its docstring.

    Fields at their default are left out, except those that users change first.
    """
    fields = [f"    name={_shown(study.name)},", f"    cells={_cells(study)},", f"    protocol={_made(study.protocol, 8)},"]
    for f in dataclasses.fields(study):
        value = getattr(study, f.name)
        if f.name not in ("name", "cells", "protocol", "published") and (value != default_of(f) or f.name in TO_EDIT):
            fields.append(f"    {f.name}={_shown(value)},")
    names = ["Cell"] if "Cell(" in fields[1] else ["grid"]
    names += ["Protocol", "Study", *sorted({type(d).__name__ for d in study.space.values()})]
    quoted = heading.replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{quoted}\n"""\n\nfrom study import {", ".join(sorted(names))}\n\nMINE = Study(\n' + "\n".join(fields) + "\n)\n"


def _cells(study: Study) -> str:
    named = [c.data.text for c in study.cells]
    datasets, backbones = list(dict.fromkeys(named)), list(dict.fromkeys(c.backbone for c in study.cells))
    strategies, fractions = (
        list(dict.fromkeys(c.strategy for c in study.cells)),
        tuple(dict.fromkeys(c.train_fraction for c in study.cells)),
    )
    budgets, sizes = (tuple(dict.fromkeys(getattr(c, name) for c in study.cells)) for name in ("budget", "image_size"))
    if grid(datasets, backbones, strategies, fractions, budgets, sizes) == study.cells:
        given = {"train_fractions": (fractions, (1.0,)), "budgets": (budgets, (1,)), "image_sizes": (sizes, (0,))}
        more = "".join(f", {name}={_shown(own)}" for name, (own, usual) in given.items() if own != usual)
        return f"grid({_shown(datasets)}, {_shown(backbones)}, {_shown(strategies)}{more})"
    return "(\n" + "".join(f"        {_call(cell)},\n" for cell in study.cells) + "    )"


def _call(value: Cell | Protocol) -> str:
    return f"{type(value).__name__}({', '.join(_arguments(value))})"


def _made(value: Protocol, indent: int) -> str:
    inside = "".join(f"{' ' * indent}{a},\n" for a in _arguments(value, TO_EDIT_TOO))
    return f"{type(value).__name__}(\n{inside}{' ' * (indent - 4)})"


def _arguments(value: Cell | Protocol, always: Sequence[str] = ()) -> Sequence[str]:
    own = [(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return [f"{f.name}={_shown(v)}" for f, v in own if v != default_of(f) or f.name in always]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_shown(k)}: {_shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Domain):
        if isinstance(value, Choice):
            return f"Choice({', '.join(map(_shown, value.options))})"
        own = [(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return f"{type(value).__name__}({', '.join(_shown(v) for f, v in own if v != default_of(f))})"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(_shown, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return 'float("inf")' if value == math.inf else repr(value)
