"""Benchmarks, one file per question. `python -m benchmarks.NAME` prints a table, and `--json` adds one JSON line."""

import study  # noqa: F401  before torch, which many of them load first: how its threads wait is then as in a study
