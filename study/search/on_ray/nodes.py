"""Checks of a cluster's nodes: each needs the same code, packages, results, data and weights as this machine, and a writable cache.

They run when a sweep starts and for every node that joins later: a trial on an unfit node fails for good, or leaves its files behind
there.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.environment import PACKAGES
from study.errors import EnvironmentProblem, StudyError
from study.question.naming import DataName
from study.search.on_ray import node_report
from study.search.on_ray.slices import slice_problems
from study.storage.folder import Folder
from study.storage.places import Places

LOOK_S = 180  # a node that is asked for the first time starts a worker, which takes long on a busy machine
LEAST_FREE_GB = 10.0

cloudpickle.register_pickle_by_value(node_report)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The needs of a study on every node. Places are paths that mean the same there."""

    results: Folder
    folders: tuple[str, ...] = ()  # data and weights
    cache: str | None = None
    workers: int = 1  # of a trial


def wanted(results: Folder, places: Places, datasets: Iterable[DataName], workers: int = 1) -> Wanted:
    """Return the needs. `datasets`: those of a study, or one's own images; generated or installed data have no folder."""
    read = [path for name in (*datasets, *map(DataName.parse, places.foreign)) for path in name.files(places.data or "")]
    own = [f for f in (*read, places.weights, places.labelled) if f and os.path.isabs(f) and os.path.exists(f)]
    return Wanted(results=results, folders=tuple(dict.fromkeys(own)), cache=places.cache, workers=workers)


def alive() -> dict[str, str]:
    """Return address by id of every living node."""
    return {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]}


def ask(wanted: Wanted, nodes: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return each node's report, by its address, and this process's under "here". Raises EnvironmentProblem where one does not answer."""
    name, mark = f".shared-{os.getpid()}-{os.urandom(4).hex()}", os.urandom(16).hex()
    asked: dict[str, Any] = {"name": name, "mark": mark, "results": wanted.results.location, "folders": list(wanted.folders)}
    asked |= {"cache": wanted.cache, "packages": list(PACKAGES)}
    wanted.results.write(name, mark.encode())
    try:
        task = ray.remote(num_cpus=0, max_retries=1)(node_report.look)
        pending = {
            node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(asked, node) for node in nodes
        }
        counted = {n["NodeID"]: float(n["Resources"].get("GPU", 0)) for n in ray.nodes()}
        found = {}
        for node, answer in pending.items():
            try:
                found[nodes[node]] = ray.get(answer, timeout=LOOK_S)
            except (ray.exceptions.RayError, ImportError) as error:
                raise EnvironmentProblem(
                    f"node {nodes[node]} of the cluster does not answer ({first_line(error)}). Look at it with `ray status`, mend "
                    "or end it."
                ) from None
            found[nodes[node]]["counted"] = counted.get(node, 0.0)
            if found[nodes[node]]["wrote"] is True:  # it says so: whether it wrote here is seen here
                found[nodes[node]]["wrote"] = wanted.results.read(f"{name}-{node}") == mark.encode()
        return {"here": node_report.look(asked, "here"), **found}
    finally:
        with contextlib.suppress(StudyError):
            for left in (name, *(f"{name}-{node}" for node in (*nodes, "here"))):
                wanted.results.remove(left)


def problems(wanted: Wanted, found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the faults that would make trials fail or leave their files behind, one line each that names the node and the way out."""
    here, out = found["here"], []
    for address, node in found.items():
        if address == "here":
            continue
        who = f"node {node['host']} ({address})"
        if node["code"] is None:
            out.append(f"{who} cannot import study: it needs this checkout at the same path, or the package in the Python that runs Ray.")
        elif node["code"] != here["code"]:
            out.append(f"{who} has other code of study ({node['code']}, here {here['code']}). Bring both to one commit.")
        other = [f"{p} {v} (here {here['versions'][p]})" for p, v in node["versions"].items() if v != here["versions"][p]]
        other += [f"Python {node['python']} (here {here['python']})"] * (node["python"] != here["python"])
        if other:
            out.append(f"{who} has other versions: {', '.join(other)}. Install requirements.lock on both.")
        if node["seen"] is not True or not node["wrote"]:
            why = f" ({node['seen']})" if isinstance(node["seen"], str) else " (it can only read it)" if node["seen"] else ""
            out.append(
                f"{wanted.results.location} is not the same folder on {who} as here{why}. Choose --results on storage that every "
                "node shares."
            )
        for path, held in node["folders"].items():
            if held is None:
                out.append(f"{who} has no {path}, which is here. Copy or mount it there under the same path.")
            elif held != here["folders"][path]:
                out.append(f"{who} holds other files in {path} than are here. Copy them anew.")
        out += slice_problems(who, node.get("gpus", ()), node.get("counted", 0.0), wanted.workers)
        if node["cache"]:
            out.append(f"{who} cannot write its cache ({node['cache']}). Set STUDY_CACHE to a folder it can.")
    return out


def check(wanted: Wanted, nodes: dict[str, str]) -> None:
    """Raise EnvironmentProblem, in one line, unless every one of these nodes is fit."""
    found = problems(wanted, ask(wanted, nodes))
    if found:
        more = f" (and {len(found) - 3} more; python -m cluster.preflight lists them)" if len(found) > 3 else ""
        raise EnvironmentProblem(" ".join(found[:3]) + more)


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
