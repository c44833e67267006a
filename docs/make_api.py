"""Writer of docs/api.md from the docstrings, fields and comments of the public interface: `python docs/make_api.py`.

Everything is read from the source by `ast` and `tokenize`, not from objects in memory. So the page is the same on every Python version,
and it can show the comment beside a field, which has its unit.
"""

import ast
import importlib
import inspect
import io
import itertools
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
WRITERS = ("write_", "append_", "add_", "begin", "open_test")  # of the ledger: the sweep's business, not a reader's
SECTIONS = {
    "Ask a question": ("study", ["Study", "Protocol", "Cell", "grid", "own_dataset", "Recipe", "TrialConfig"]),
    "Ranges": ("study", ["Log", "Uniform", "Integer", "Steps", "Choice"]),
    "Run it, read it, use it": ("study", ["run_study", "load_study", "Results", "Predictor"]),
    "Tables": ("analysis.load", ["load", "Frames"]),
    "Write a strategy": ("study.strategies.base", ["Strategy", "Phase"]),
    "What a network is made of": ("study.strategies.slots", ["Slot", "Kind"]),
    "Write a measurement": ("study.measure.base", ["Finished", "Measurement"]),
    "Records": ("study.records", ["Record", "Ask", "EpochRecord", "TrialResult", "ClassScores", "Outcome", "Stage", "Origin"]),
    "The ledger": ("study.tracking.ledger", ["Ledger"]),
    "Errors": ("study.errors", ["StudyError", "ConfigError", "DataError", "EnvironmentProblem"]),
}
SIGNS = re.compile(r"(?<!\w)\*(?=\*|/)|<")  # of Markdown and HTML, to be escaped
HEAD = """# Python interface

Written by `python docs/make_api.py` from the source; a test compares. Change a docstring or the comment beside a field, then run it again.
A field marked *since N* came later: at its default (where *before* stands: at that value) it changes no id ([changes](changes.md)). \
Files and environment variables are in
[files.md](files.md).
"""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One documented name, or one member of a class, with its `signature` as it is called and its fields as `rows`."""

    name: str
    signature: str = ""
    doc: str
    rows: tuple[tuple[str, str, str, str, str], ...] = ()  # name, type, default, range, comment
    members: tuple["Item", ...] = ()


def items() -> Iterator[tuple[str, str, Item]]:
    """Yield (section, module, item) of every public name, in the order of the page."""
    for section, (module, names) in SECTIONS.items():
        for name in names:
            yield section, module, read_item(getattr(importlib.import_module(module), name), name, module)


def read_item(value: Any, name: str, module: str) -> Item:
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return Item(name=name, signature=source_of(module, name)[0], doc=source_of(module, name)[1])
    source = textwrap.dedent(inspect.getsource(value))
    node = ast.parse(source).body[0]
    doc = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    if isinstance(node, ast.FunctionDef):
        return Item(name=name, signature=signature_of(node), doc=doc)
    assert isinstance(node, ast.ClassDef)
    members = tuple(Item(name=f.name, signature=shown(f, name), doc=ast.get_docstring(f) or "") for f in node.body if is_public(f, value))
    init = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
    signature = signature_of(init, name).partition(" -> ")[0] if init else ""
    return Item(name=name, signature=signature, doc=doc, rows=tuple(fields_of(node, source, value)), members=members)


def source_of(module: str, name: str) -> tuple[str, str]:
    """Return the source of an alias such as `Kind = Literal[...]`, and the string below it."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for k, node in enumerate(body):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            below = body[k + 1]
            assert isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant), f"{module}.{name} has no docstring below it"
            return ast.unparse(node).replace("'", '"'), inspect.cleandoc(str(below.value.value))
    raise LookupError(f"{module} assigns no {name}")


def is_public(node: ast.stmt, owner: type) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    writes = owner.__name__ == "Ledger" and node.name.startswith(WRITERS)
    return node.name == "__call__" or not (node.name.startswith("_") or writes)


def shown(node: ast.FunctionDef, owner: str) -> str:
    """Return how a member is used: a property without brackets, with its type behind a colon, and a class method after its class."""
    marks = {ast.unparse(d).rpartition(".")[2] for d in node.decorator_list}
    if marks & {"property", "cached_property"}:
        return f"{node.name}: {type_of(node.returns)}"
    prefix = f"{owner}." if "classmethod" in marks else ""
    return signature_of(node, owner.lower() if node.name == "__call__" else prefix + node.name)


def signature_of(node: ast.FunctionDef, name: str | None = None) -> str:
    a = node.args
    positional = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(positional) - len(a.defaults)) + list(a.defaults)
    parts = [parameter(arg, default) for arg, default in zip(positional, defaults, strict=True) if arg.arg not in ("self", "cls")]
    parts += [f"*{parameter(a.vararg, None)}"] if a.vararg else ["*"] if a.kwonlyargs else []
    parts += [parameter(arg, default) for arg, default in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    parts += [f"**{parameter(a.kwarg, None)}"] if a.kwarg else []
    answer = f" -> {type_of(node.returns)}" if node.returns else ""
    head = node.name if name is None else name
    line = f"{head}({', '.join(parts)}){answer}"
    return line if len(line) <= 110 else f"{head}(\n" + "".join(f"    {p},\n" for p in parts) + f"){answer}"


def parameter(arg: ast.arg, default: ast.expr | None) -> str:
    kind = f": {type_of(arg.annotation)}" if arg.annotation else ""
    return arg.arg + kind + ((" = " if kind else "=") + text_of(default) if default else "")


def text_of(node: ast.expr | None) -> str:
    return ast.unparse(node).replace("'", '"') if node else ""


def type_of(node: ast.expr | None) -> str:
    """Return the text of an annotation, without quotes around it."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else text_of(node)


def fields_of(node: ast.ClassDef, source: str, owner: type) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the fields of a dataclass, class variables, and the values of an enumeration."""
    from study.space import domains, offered

    comments = comments_of(source)
    ranges, asked = (domains(owner), offered(owner)) if hasattr(owner, "__dataclass_fields__") else ({}, {})
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            name, kind = line.target.id, line.annotation
        elif isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            name, kind = line.targets[0].id, None
        else:
            continue
        if name.startswith("_"):
            continue
        if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "Annotated" and isinstance(kind.slice, ast.Tuple):
            kind = kind.slice.elts[0]
        default, since = default_of(line.value, source)
        comment = " ".join(comments[k] for k in range(line.lineno, (line.end_lineno or line.lineno) + 1) if k in comments)
        note = f"*since {since}*" if since else ""
        yield (
            name,
            type_of(kind),
            default,
            describe(ranges.get(name)) or describe(asked.get(name), "where asked: "),
            "; ".join(filter(None, [comment, note])),
        )


def default_of(value: ast.expr | None, source: str) -> tuple[str, str]:
    """Return the default as it is written, and the version of the fields that brought it, with the former meaning where that differs."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "added"):
        keywords = {str(k.arg): ast.unparse(k.value) for k in value.keywords}
        made = keywords.get("default_factory") or keywords.get("factory")
        came = keywords.get("since", "") + (f", before: {keywords['before']}" if "before" in keywords else "")
        return (f"{made}()" if made else text_of(value.args[0])), came
    return ((ast.get_source_segment(source, value) or "") if value else ""), ""


def describe(domain: Any, before: str = "") -> str:
    """Return a range in words."""
    if domain is None:
        return ""
    kind = type(domain).__name__.lower()
    return before + (f"{kind}: {', '.join(map(str, domain.options))}" if kind == "choice" else f"{kind} {domain.low:g} to {domain.high:g}")


def comments_of(source: str) -> dict[int, str]:
    """Return the comment at the end of each line by line number, without those for linters."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}
    return {k: v for k, v in found.items() if not v.startswith(("type:", "noqa", "fmt:"))}


def strategies() -> str:
    """Return the searched fields of every strategy, under the names that `Study.space` takes."""
    from study.strategies import STRATEGIES

    rows = []
    for name, cls in STRATEGIES.items():
        inherited = [read_item(own, name, own.__module__).rows for own in cls.__mro__ if own is cls or own in STRATEGIES.values()]
        for field, *rest in itertools.chain(*inherited):
            if field not in ("name", "title", "source", "start"):
                rows.append((f"{name}.{field}", *rest))
    return "### Strategies' own fields\n\n`Study.space` sets other ranges under these names.\n\n" + table(rows)


def table(rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table without the columns that are empty in every row."""
    titles = ("name", "type", "default" if any(row[1] for row in rows) else "value", "range", "what it is")
    used = [k for k in range(5) if any(row[k] for row in rows)]
    lines = [[titles[k] for k in used], ["---"] * len(used)]
    lines += [[prose(row[k]) if k > 2 else code(row[k]) for k in used] for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Return Markdown that shows what a docstring says: outside code, angle brackets and asterisks are escaped."""
    lines = []
    for line in text.split("\n"):
        parts = line.split("`")
        escaped = [p if k % 2 else SIGNS.sub(lambda m: {"<": "&lt;"}.get(m[0], "\\*"), p) for k, p in enumerate(parts)]
        lines.append(line if line.startswith("    ") else "`".join(escaped))
    return "\n".join(lines)


def entry(module: str, item: Item) -> str:
    out = [f"### {item.name}\n", f"`from {module} import {item.name}`\n"]
    if item.signature:
        out.append(f"```python\n{item.signature}\n```\n")
    if item.doc:
        out.append(prose(item.doc) + "\n")
    if item.rows:
        out.append(table(list(item.rows)))
    for member in item.members:
        head = f"- `{member.signature}`" if "\n" not in member.signature else "- `" + re.sub(r",?\s*\n\s*", " ", member.signature) + "`"
        out.append(textwrap.indent(f"{head}\n\n{prose(member.doc)}\n", "  ").replace("  - ", "- ", 1))
    return "\n".join(out)


def make_page() -> str:
    out, open_section = [HEAD], ""
    for section, module, item in items():
        if section != open_section:
            out.append(f"## {section}\n")
            open_section = section
        out.append(entry(module, item))
        if item.name == "Strategy":
            out.append(strategies())
    return "\n".join(out)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # this checkout, whatever is installed
    PAGE.write_text(make_page())
