"""Requirements of some tests on the machine. A missing one is a skip with a reason, and a failure where CI=true.

Without that failure the test would be lost silently.
"""

import os

import pytest


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and under CI nothing may be skipped for that (.ci/run installs it)")
    pytest.skip(f"needs {what}")
