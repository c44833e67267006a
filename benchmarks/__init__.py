"""What is measured, one file a question; `python -m benchmarks.NAME` prints a table, `--json` adds one JSON line."""
