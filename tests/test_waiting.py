"""OpenMP's threads sleep while they wait. OpenMP reads how only once, when torch is loaded, so every entry must set it before."""

import ast
import os
import subprocess
import sys

import pytest

from tests.test_architecture import FILES, LAYERS, ROOT

SCRIPT = """
import importlib, importlib.abc, os, sys

class Torch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":  # it would be loaded now
            print(repr((module, os.environ.get("OMP_WAIT_POLICY"))), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Torch())
for module in sys.argv[1:]:
    if not (child := os.fork()):
        if module:
            importlib.import_module(module)  # as python -m does: the packages above it first
        import torch
    os.waitpid(child, 0)
"""
ENTRIES = (
    *sorted(LAYERS[-2] | LAYERS[-1]), "study", "study.results", "study.use.predictor", "study.search.on_ray.workers", "analysis.report",
    "analysis.compare",
    *(m for m in FILES if m.startswith("benchmarks.")),
)  # fmt: skip


def policies(*modules: str, **env: str) -> dict[str, str | None]:
    """Return by module the value of the variable when torch is loaded, by it or after it."""
    clean = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | env
    done = subprocess.run([sys.executable, "-c", SCRIPT, *modules], capture_output=True, text=True, check=True, cwd=ROOT, env=clean)
    return dict(ast.literal_eval(line) for line in done.stdout.splitlines() if line.startswith("("))


def test_every_way_in_says_it_before_torch_is_loaded() -> None:
    found = policies("", *ENTRIES)
    assert found.pop("") is None, "nobody else says it"
    assert found == dict.fromkeys(ENTRIES, "PASSIVE")


def test_who_set_it_is_asked_no_more() -> None:
    assert policies("study.trial", OMP_WAIT_POLICY="ACTIVE") == {"study.trial": "ACTIVE"}


def test_workers_of_a_cluster_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train loads torch before it loads anything of ours."""
    import ray

    from study.errors import EnvironmentProblem
    from study.search.on_ray.cluster import cluster

    told: dict[str, str] = {}

    def start(*, runtime_env: dict[str, dict[str, str]], **_: object) -> None:
        told.update(runtime_env["env_vars"])
        raise ConnectionError("told")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with pytest.raises(EnvironmentProblem), cluster(None):
        pass
    assert told["OMP_WAIT_POLICY"] == "PASSIVE"
