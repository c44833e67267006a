"""Shell scripts of a cluster, called wrongly: one line that says what they take, and the exit code of wrong usage."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WRONG = [
    *("hosts.sh", "hosts.sh start", "hosts.sh join", "hosts.sh join n1", "hosts.sh stop", "hosts.sh begin n1", "hosts.sh -h"),
    *("slurm.sh", "slurm.sh paper"),
]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_one_line_and_2(words: str) -> None:
    script, *arguments = words.split()
    env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    done = subprocess.run(["bash", f"cluster/{script}", *arguments], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{script}: ") and ("HEAD" in line or "sbatch" in line)
