"""`python -m cluster.preflight --address ADDRESS --results URL`: one line a check, before a study spends hours.

Every node must have the same versions, see the results, have room on its disk, and show nobody its dashboard.
"""

import argparse
import contextlib
import os
import shutil
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from study.errors import StudyError
from study.facts import PACKAGES, tell
from study.files import Folder
from study.search.on_ray.cluster import cluster

LEAST_FREE_GB = 10.0


def look(results: str, marker: str) -> dict[str, Any]:
    """Runs on a node."""
    import importlib.metadata
    import platform

    folder = Folder(results)
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
        "sees": folder.read(marker) is not None,
        "free_gb": shutil.disk_usage("/tmp").free / 1e9,  # noqa: S108  where Ray spills
        "cuda": __import__("torch").cuda.device_count(),
    }


def problems(nodes: list[dict[str, Any]]) -> list[str]:
    """What would make a study fail or lie, one line each."""
    out = []
    first = nodes[0]
    for node in nodes:
        if not node["sees"]:
            out.append(f"{node['host']} does not see the results folder; use a shared folder or a URL such as s3://")
        if node["free_gb"] < LEAST_FREE_GB:
            out.append(f"{node['host']} has {node['free_gb']:.1f} GB free; {LEAST_FREE_GB:.0f} GB are advised")
        differing = [f"{p} {v} (first node {first['versions'][p]})" for p, v in node["versions"].items() if v != first["versions"][p]]
        if differing or node["python"] != first["python"]:
            out.append(f"{node['host']} has other versions: {', '.join(differing) or 'python ' + node['python']}")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.preflight", description=__doc__)
    parser.add_argument("--address", help="default: RAY_ADDRESS, else a cluster on this machine")
    parser.add_argument("--results", default="results")
    args = parser.parse_args(argv)
    results = args.results if "://" in args.results else os.path.abspath(args.results)
    marker = f".preflight-{uuid.uuid4().hex}"
    try:
        Folder(results).write(marker, b"here")
        with cluster(args.address) as resources:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            task = ray.remote(num_cpus=0)(look)
            alive = [n["NodeID"] for n in ray.nodes() if n["Alive"]]
            nodes = ray.get(
                [task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)).remote(results, marker) for n in alive],
                timeout=120,
            )
            authenticated = os.environ.get("RAY_AUTH_MODE") == "token" or args.address is None
    except StudyError as error:
        return tell(error)
    finally:
        with contextlib.suppress(StudyError):  # what refused the marker refuses its removal too, and has been told
            Folder(results).remove(marker)
    for node in nodes:
        print(
            f"node {node['host']}: python {node['python']}, {node['cuda']} GPU(s), {node['free_gb']:.0f} GB free, results {'seen' if node['sees'] else 'NOT SEEN'}"
        )
    print(
        f"cluster: {sum(n.get('CPU', 0) for n in resources):g} CPUs, {sum(n.get('GPU', 0) for n in resources):g} GPUs on {len(nodes)} node(s)"
    )
    found = problems(nodes)
    if not authenticated:
        found.append("RAY_AUTH_MODE is not token: whoever reaches the dashboard can run code; start every node with RAY_AUTH_MODE=token")
    for line in found:
        print(f"problem: {line}")
    return 4 if found else 0


if __name__ == "__main__":
    sys.exit(main())
