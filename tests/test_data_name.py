"""A data set's name is taken apart in one place: it reads back as it was written, and no other file joins or cuts one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from study.errors import ConfigError
from study.question.cell import Cell, grid
from study.question.name_parts import OPTIONS
from study.question.naming import DataName
from study.question.studies import QUICKSTART, narrow
from study.question.study_config import foreign_tasks

ROOT = Path(__file__).parent.parent
HERE = ("study/question/naming.py", "study/question/name_parts.py")
PIECES = st.sampled_from(
    ["a", "leaves", "/", "?", "@", ":", "=", "&", ".", " ", "~", "%26", "ü", "official", "label=", "?label=", "session", "0", "01"]
)
SEEN = {"tiles": ("1x3", "2x2"), "ordered": ("a,b", "mild,moderate,severe")}
"""Options whose values have a form."""
PLACES = st.lists(PIECES, min_size=1, max_size=8).map("".join)


@st.composite
def names(draw: st.DrawFn) -> DataName:
    """Draw any name that can be made."""
    kind = draw(st.sampled_from(["", *OPTIONS]))
    free = sorted(set(OPTIONS.get(kind, ())) - SEEN.keys() - {"pool"}) or [""]
    seen = st.sampled_from(sorted(SEEN)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(SEEN[name])))
    options = draw(st.lists(st.tuples(st.sampled_from(free), PLACES) | seen, max_size=3)) if kind else []
    try:
        return DataName(
            kind=kind,
            where=draw(PLACES),
            asked="&".join(f"{name}={value}" for name, value in options),
            protocol=draw(st.sampled_from(["official", "session", "ferplus_votes"])),
            fold=(fold := draw(st.none() | st.integers(0, 12))),
            shift=0 if fold is None else draw(st.integers(0, 3)),
        )
    except ConfigError:
        assume(False)
        raise


@given(names())
def test_every_name_reads_back_from_each_of_its_texts(name: DataName) -> None:
    assert DataName.parse(name.text) == DataName.parse(name.full) == DataName.of(name.dataset, name.splits) == name
    assert DataName.parse(name.key) == name.whole and name.on_fold(3).whole == name.whole
    assert name.full == f"{name.dataset}@{name.splits}" and name.key.startswith(f"{name.dataset}@")


@given(st.lists(PIECES | st.sampled_from(["folder:", "table:", "hf:", "tabel:"]), max_size=9).map("".join))
@example("folder:/a@official@official")
@example("table:x.csv?label=a&group=b@official:0")
@example("deepweeds@official:01")
def test_a_text_is_a_name_or_is_refused_with_one(text: str) -> None:
    try:
        name = DataName.parse(text)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1 and re.search(r"[Ww]rite ", str(error)), error
        return
    assert name.text in (text, text.removesuffix("@official")) and DataName.parse(name.text) == name


def right(message: str) -> str:
    """Return what a refusal says to write."""
    found = re.search(r"[Ww]rite (\S+?)[.,;]?(?: |$)", message)
    assert found, message
    return found[1]


@pytest.mark.parametrize(
    ("text", "part", "form"),
    [
        ("", "names no data set", "digits"),
        ("@session", "no data set before its @", "digits@session"),
        ("deepweeds@", "no split protocol behind its @", "deepweeds"),
        ("deepweeds@official:x", "the fold must be a whole number, not 'x'", "deepweeds@official:0"),
        ("deepweeds@official:01", "not '01'", "deepweeds@official:1"),
        ("deepweeds@session:-1", "not '-1'", "deepweeds@session:0"),
        ("deepweeds@a b", "'a b' cannot be the name of a split protocol", "deepweeds@a"),
        ("deepweeds@official:" + "9" * 9999, "must be a whole number", "deepweeds@official:999999999"),
        ("deepweeds:2", "a fold stands behind its split protocol", "deepweeds@official:2"),
        ("tabel:x.csv", "'tabel' is no kind of data", "table:x.csv"),
        ("Folder:/x/y", "'Folder' is no kind of data", "folder:/x/y"),
        ("table:a.csv?label=x&lable=y", "no option 'lable'", "table:a.csv?label=x&group=y"),
        ("table:a.csv?label=", "label is empty", "table:a.csv?label=NAME"),
        ("folder:/x@official:02", "not '02'", "folder:/x@official:2"),
    ],
)
def test_a_refusal_says_which_part_and_what_to_write(text: str, part: str, form: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DataName.parse(text)
    assert part in str(refused.value)
    assert right(str(refused.value)) == form and DataName.parse(form).text == form


@pytest.mark.parametrize(
    ("text", "part", "form"),
    [
        ("table:ROOT/a.csv?lable=x", "no option 'lable'", "table:ROOT/a.csv?label=x"),
        ("table:ROOT/a.csv?species", "'species' is not NAME=VALUE", "table:ROOT/a.csv?label=species"),
        ("table:ROOT/a.csv?", "behind the ? is no option", "table:ROOT/a.csv"),
        ("table:ROOT/a.csv@own:0", "'own:0' is no split protocol of your own images", "table:ROOT/a.csv@official:0"),
        ("folder:ROOT@session", "'session' is no split protocol of your own images", "folder:ROOT"),
        ("table:ROOT/b@home.csv", "", ""),
        ("hf:beans", "", ""),
    ],
)
def test_a_path_that_ends_like_options_or_splits_is_told_from_one_that_does(text: str, part: str, form: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    name = DataName.parse(text.replace("ROOT", str(tmp_path)))
    if not part:
        return name.check_path()
    with pytest.raises(ConfigError, match=re.escape(part)) as refused:
        name.check_path()
    assert right(str(refused.value)) == form.replace("ROOT", str(tmp_path))
    place = tmp_path / "as it says"
    place.mkdir()
    for there in (DataName(kind="folder", where=str(place)), DataName(kind="table", where=str(tmp_path / "a.csv"), asked="label=b")):
        there.check_path()


def test_a_cell_is_made_of_a_name_and_gives_it_back() -> None:
    for text in (
        "deepweeds@session:2",
        "table:/a@b/c.csv@official:1",
        "folder:/a@b",
        "table:/x/a.csv?image=f%26g&label=h",
        "folder:/a@official@official",
    ):
        (cell,) = grid([text], ["resnet18"], ["full"])
        assert cell.data.text == text and (cell.dataset, cell.splits) == (cell.data.dataset, cell.data.splits)
    assert cell.data.dataset == "folder:/a@official" and foreign_tasks(narrow(QUICKSTART, datasets=[text])) == (text,)
    assert DataName.parse("table:/x/a.csv?image=f%26g&label=h").options == {"image": "f&g", "label": "h"}
    with pytest.raises(ConfigError, match="dataset must be a text, not 5"):
        Cell(dataset=5, backbone="resnet18", strategy="full")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be a list of names, each a text"):
        grid([Path("photos")], ["resnet18"], ["full"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="no kind of data"):
        Cell(dataset="tabel:x.csv", backbone="resnet18", strategy="full")


# ---- no other file joins or cuts a name -------------------------------------------------------------------------

CUTS = {"partition", "rpartition", "split", "rsplit", "removeprefix", "removesuffix", "startswith", "endswith"}
KINDS = tuple(f"{kind}:" for kind in OPTIONS)
WORDS = re.compile(r"\b(splits|protocol|split_protocol|dataset)\b")


def by_hand(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every line that joins or cuts a data set's name, as source."""
    for node in ast.walk(tree):
        said = ""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CUTS and node.args:
            texts = [c.value for c in ast.walk(node.args[0]) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
            of_splits = ":" in texts and WORDS.search(ast.unparse(node.func.value))
            said = ast.unparse(node) if "@" in texts or of_splits or any(t in KINDS for t in texts) else ""
        elif isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else None for v in node.values]
            between = {p for before, p, after in zip(parts, parts[1:], parts[2:], strict=False) if before is after is None}
            splits = ":" in between and WORDS.search(ast.unparse(node))
            said = ast.unparse(node) if "@" in between or splits or (len(parts) == 2 and parts[0] in KINDS) else ""
        elif isinstance(node, ast.Compare) and any(isinstance(c, ast.Constant) and c.value == "official" for c in node.comparators):
            said = ast.unparse(node) if re.search(r"splits?(_protocol)?$", ast.unparse(node.left)) else ""
        if said:
            yield node.lineno, said


@pytest.mark.parametrize(
    "line",
    [
        'name, _, splits = dataset.partition("@")',
        'key = f"{cell.dataset}@{cell.split_protocol}"',
        'x = f"see {name}@{splits} there"',
        'protocol = cell.splits.partition(":")[0]',
        'splits = f"{protocol}:{fold}"',
        'own = name.startswith(("folder:", "table:"))',
        'path = name.removeprefix("table:")',
        'name = f"folder:{path}"',
        'usual = q.splits == "official"',
    ],
)
def test_what_is_done_by_hand_is_seen(line: str) -> None:
    assert len(list(by_hand(ast.parse(line)))) == 1


def test_no_file_joins_or_cuts_the_name_of_a_data_set() -> None:
    files = [
        p for top in ("study", "analysis", "cluster") for p in sorted((ROOT / top).rglob("*.py")) if str(p.relative_to(ROOT)) not in HERE
    ]
    assert len(files) > 250
    found = [f"{p.relative_to(ROOT)}:{line}: {said}" for p in files for line, said in by_hand(ast.parse(p.read_text()))]
    assert not found, "take the property of study.question.naming.DataName that says it: " + "; ".join(found)
