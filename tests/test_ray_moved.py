"""Recent changes of Ray beneath a sweep: another Python for workers, notice before a node goes, slices of GPUs."""

import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from study.errors import EnvironmentProblem
from study.inference.device import Device
from study.search.on_ray import node_report, notice
from study.search.on_ray.python_of_workers import ANOTHER, check_python
from study.search.on_ray.slices import in_words, slice_problems

# ---- another Python -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [{}, {"env_vars": {"A": "b"}}, {"env_vars": {}, "working_dir": "/x"}])
@pytest.mark.parametrize(
    ("name", "value"), [*((name, "uv run --python 3.12 python") for name in ANOTHER), ("pip", ["ray"]), ("conda", {"a": 1})]
)
def test_another_python_for_workers_is_refused_by_name(name: str, value: object, beside: dict[str, Any]) -> None:
    with pytest.raises(
        EnvironmentProblem, match=f"another Python than this one: Ray was told {name}=.*RAY_ENABLE_UV_RUN_RUNTIME_ENV=0"
    ) as error:
        check_python({**beside, name: value}, job=False)
    assert "\n" not in str(error.value)
    check_python({**beside, name: value}, job=True)
    check_python({**beside, name: None}, job=False)
    check_python(beside, job=False)


SEEN = """
import sys, psutil
if sys.argv[1] == "ours":
    import study.search.on_ray
import ray
from ray._private import worker
class Uv:
    def cmdline(self): return ["/usr/bin/uv", "run", "--python", "3.12", "-m", "study.sweep"]
psutil.Process.parents = lambda self: [Uv()]
print(sorted(worker._maybe_modify_runtime_env({"env_vars": {}}, False)))
"""


@pytest.mark.parametrize(("who", "env", "parts"), [
    ("ours", {}, "['env_vars']"),
    ("ray alone", {}, "['env_vars', 'py_executable', 'working_dir']"),
    ("ours", {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1"}, "['env_vars', 'py_executable', 'working_dir']"),
])  # fmt: skip
def test_the_hook_of_uv_run_is_off_beneath_a_sweep(who: str, env: dict[str, str], parts: str) -> None:
    """Ray alone has it on. Where somebody switches it on, the sweep is refused (above)."""
    full = {k: v for k, v in os.environ.items() if k != "RAY_ENABLE_UV_RUN_RUNTIME_ENV"} | env
    done = subprocess.run([sys.executable, "-c", SEEN, who], capture_output=True, text=True, env=full, timeout=120)
    assert done.stdout.strip() == parts, done.stdout + done.stderr


# ---- notice before a node goes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("whole", "draining", "said"), [
    (False, {}, False), (False, {"other": 0}, False), (False, {"own": 0}, True), (False, {"own": 99, "other": 1}, True),
    (True, {}, False), (True, {"other": 0}, True), (True, {"own": 1}, True), (True, None, False), (False, None, False),
])  # fmt: skip
def test_a_node_on_notice_is_known_and_no_answer_is_none(
    whole: bool, draining: dict[str, int] | None, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    class Context:
        def get_node_id(self) -> str:
            return "own"

    asked: list[int] = []

    def ask() -> dict[str, int]:
        asked.append(1)
        if draining is None:
            raise AttributeError("get_draining_nodes")
        return draining

    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr(notice, "_draining", ask)
    leaving = notice.leaving(whole)
    assert [leaving() for _ in range(50)] == [said] * 50 and len(asked) == 1, "the head is not asked after every epoch"


# ---- slices of GPUs ---------------------------------------------------------------------------------------------

LISTED = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1a)
  MIG 3g.40gb     Device  0: (UUID: MIG-a)
  MIG 1g.10gb     Device  1: (UUID: MIG-b)
  MIG 1g.10gb+me  Device  2: (UUID: MIG-c)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2b)
"""


@pytest.mark.parametrize(("listed", "visible", "said"), [
    (LISTED, "", "NVIDIA H100 80GB HBM3 (3 MIG slices: 1 x 3g.40gb, 1 x 1g.10gb, 1 x 1g.10gb+me), NVIDIA H100 80GB HBM3"),
    (LISTED, "MIG-b", "NVIDIA H100 80GB HBM3 (3 MIG slices: 1 x 3g.40gb, 1 x 1g.10gb, 1 x 1g.10gb+me), NVIDIA H100 80GB HBM3"),
    ("GPU 0: NVIDIA H200 (UUID: GPU-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)\n", "0,1", "2 x NVIDIA H200"),
    (None, "MIG-a,MIG-b", "a GPU (2 MIG slices: 2 x named by CUDA_VISIBLE_DEVICES)"),
    (None, "0", ""), (None, "", ""), (None, "GPU-1a", ""),
])  # fmt: skip
def test_slices_are_named(listed: str | None, visible: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if listed is not None:
        (program := tmp_path / "nvidia-smi").write_text(
            f"#!/bin/sh\n[ \"$1\" = -L ] && while read -r l; do :; done; printf '%s' '{listed}'\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert in_words(node_report.gpus()) == said


@pytest.mark.parametrize(("slices", "whole", "counted", "workers"), itertools.product((0, 1, 2, 7), (0, 1, 3), (0, 1, 2, 7, 8), (1, 2)))
def test_slices_that_ray_does_not_count_and_groups_of_them_are_problems(slices: int, whole: int, counted: int, workers: int) -> None:
    gpus = [{"name": "NVIDIA H100", "slices": ["1g.10gb"] * slices}] * bool(slices) + [{"name": "NVIDIA H100", "slices": []}] * whole
    found = slice_problems("node n2", gpus, counted, workers)
    assert any(f"--num-gpus={slices}" in line for line in found) is bool(slices and counted != slices)
    assert any("NCCL" in line for line in found) is bool(slices and workers > 1)
    assert all(line.startswith("node n2 ") and "\n" not in line for line in found)


@pytest.mark.parametrize(("name", "visible", "said"), [
    ("NVIDIA H200", "0", "NVIDIA H200"), ("NVIDIA H200", "MIG-1a", "NVIDIA H200 MIG slice"),
    ("NVIDIA H100 MIG 1g.10gb", "MIG-1a", "NVIDIA H100 MIG 1g.10gb"),
])  # fmt: skip
def test_a_record_says_that_it_was_a_slice(name: str, visible: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from study.records import on_gpu
    from study.training.epoch_facts import device_name

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    where = Device(device=torch.device("cuda", 0), precision="fp32")
    assert device_name(where) == said and on_gpu(said)
