"""What some tests need of the machine. Missing on a developer's machine it is a skip with a reason; where CI=true it is a failure, or
the test would be lost in silence."""

import os

import pytest


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and under CI nothing may be skipped for that (.ci/run installs it)")
    pytest.skip(f"needs {what}")
