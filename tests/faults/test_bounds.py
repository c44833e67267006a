"""Tables of strangers: a few kilobytes that would become the whole memory are refused by name, whatever they are written in."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.datasets import tables
from study.datasets.manifest import rows_of
from study.errors import DataError
from study.storage import parquet
from study.storage.parquet import Bounds
from tests.test_architecture import ROOT

SMALL = Bounds(rows=50, columns=8, values=120, bytes=4000)


def write(path: Path, columns: dict[str, list[str]]) -> None:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(str(r).replace("'", '"') + "\n" for r in rows))
    else:
        by = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(by.join(line) + "\n" for line in [[*columns], *(list(r.values()) for r in rows)]))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]), st.integers(1, 80), st.integers(1, 4), st.integers(1, 60))
def test_a_table_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: int, width: int, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"t{suffix}"
    write(path, {f"c{k}": [f"{n % 3}" * length for n in range(rows)] for k in range(width)})
    header = suffix in (".csv", ".tsv")
    beyond = (
        rows + header > SMALL.rows
        or (rows + header) * width > SMALL.values
        or (suffix == ".parquet" and rows * width * length > SMALL.bytes)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BOUNDS", SMALL)
        patch.setattr("study.datasets.manifest.BOUNDS", SMALL)
        if beyond:
            with pytest.raises(DataError, match=f"t{suffix} .*(more than the|longer than)"):
                rows_of(path)
        else:
            names, found = rows_of(path)
            assert names == [f"c{k}" for k in range(width)] and [r[1]["c0"] for r in found] == [f"{n % 3}" * length for n in range(rows)]


BOMBS = {
    "rows.parquet": (
        "pq.write_table(pa.table({'image': pa.array(['a.png']).take(pa.array(np.zeros(30_000_000, 'i4'))), 'label': "
        "pa.array(['x']).take(pa.array(np.zeros(30_000_000, 'i4')))}), path)"
    ),
    "text.parquet": (
        "pq.write_table(pa.table({'image': pa.array(['a' * 100_000]).take(pa.array(np.zeros(20_000, 'i4'))), 'label': ['x'] * "
        "20_000}), path, compression='zstd')"
    ),
    "lists.parquet": (
        "pq.write_table(pa.table({'image': ['a.png'], 'label': ['x'], 'more': pa.ListArray.from_arrays([0, 100_000_000], "
        "pa.array(np.zeros(100_000_000, 'i1')))}), path, compression='zstd')"
    ),
    "columns.parquet": "pq.write_table(pa.table({f'c{k}': [1] for k in range(20_000)}), path)",
    "rows.csv": "open(path, 'w').write('image,label\\n' + 'a,b\\n' * 6_000_000)",
    "fields.csv": "open(path, 'w').write('image,label\\n' + ',' * 60_000_000)",
    "rows.jsonl": "open(path, 'w').write('{}\\n' * 6_000_000)",
    "line.jsonl": "open(path, 'w').write('{\"image\": \"' + 'a' * 20_000_000 + '\"}')",
}  # fmt: skip
READS = """
import resource, sys
from study.datasets.manifest import rows_of
from study.errors import DataError
import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    rows_of(__import__("pathlib").Path(sys.argv[1]))
except DataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


SLOW = ("rows.parquet", "rows.csv", "rows.jsonl", "columns.parquet")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in BOMBS])
def test_a_bomb_is_refused_with_little_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    made = textwrap.dedent(f"import numpy as np, pyarrow as pa, pyarrow.parquet as pq\npath = {str(path)!r}\n{BOMBS[name]}")
    subprocess.run([sys.executable, "-c", made], check=True, timeout=120)
    done = subprocess.run([sys.executable, "-c", READS, str(path)], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    said, megabytes = done.stdout.splitlines()
    assert str(path) in said and ("more than the" in said or "longer than" in said)
    most = 2500 if name.startswith(("rows.", "text.")) else 500  # these are counted as they are read
    assert int(megabytes) < most


def test_what_was_measured_is_read_with_bounds(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(60)), "b": ["x"] * 60}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    assert parquet.read(data).num_rows == 60 and parquet.read(data, columns=["a"]).column_names == ["a"]
    for bounds in (Bounds(rows=59), Bounds(values=119), Bounds(columns=1), Bounds(bytes=50)):
        with pytest.raises(ValueError, match="more than the"):
            parquet.read(data, bounds)
    assert parquet.read(data, Bounds(values=60), columns=["a"]).num_rows == 60
