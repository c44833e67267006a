"""`python -m cluster.preflight --address HOST:6379 --results URL [--data ROOT] [--weights FOLDER]`:
a line a check, before a study spends hours.

Every node must have the same code, packages, results, data and weights as this one, a cache it can write and room on its disk; the
dashboard, which runs code for whoever reaches it, must ask for a token. A sweep with --address makes the same checks when it starts.
`--nodes N` waits until so many nodes are there.
"""

import argparse
import contextlib
import os
import sys
import time
import urllib.error
import urllib.request

from study.bounds import check_options
from study.console.arguments import Parser, add_places
from study.console.command import command
from study.datasets import CATALOG
from study.errors import EnvironmentProblem
from study.question.naming import DataName
from study.search.on_ray.cluster import Connected, cluster
from study.search.on_ray.nodes import LEAST_FREE_GB, alive, ask, problems, wanted
from study.search.on_ray.slices import in_words
from study.storage.folder import Folder
from study.storage.places import find_places


def dashboard_is_open(address: str) -> bool:
    """Return True where anybody who reaches the dashboard may run code. One that cannot be reached from here is not open to here."""
    request = urllib.request.Request(f"http://{address}/api/jobs/")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in (401, 403)
    except OSError:
        return False


def wait_for(nodes: int, seconds: float) -> None:
    """Wait until `nodes` nodes are alive. Raises EnvironmentProblem when they are not in time."""
    end, before = time.monotonic() + seconds, -1
    while (there := len(alive())) < nodes:
        if there != before:
            print(f"waiting: {there} of {nodes} nodes are there", flush=True)
        if time.monotonic() > end:
            raise EnvironmentProblem(f"{there} of {nodes} nodes joined within {seconds:.0f} s. Look at the others' own output.")
        before = there
        time.sleep(1)


def look(connected: Connected, results: str, data: str | None, weights: str | None) -> list[str]:
    """Print one line per node and return what is wrong, one line each. Raises EnvironmentProblem where a node does not answer."""
    places = find_places(results, data, weights)
    own = [name for name in CATALOG if places.data and os.path.isdir(os.path.join(places.data, name))]
    needed, missing = wanted(Folder(places.folder), places, map(DataName.of, own)), []
    for option, path in (("--data", places.data), ("--weights", places.weights)):
        if path and not os.path.exists(path):
            missing.append(f"{option} {path} is not here either. Correct it.")
    nodes = alive()
    found = ask(needed, nodes)
    for address, node in found.items():
        shared = "seen" if node["seen"] is True else "NOT SEEN"
        if address != "here":
            print(
                f"node {node['host']} ({address}): study {node['code']}, python {node['python']}, {node['free_gb']:.0f} GB free, "
                f"results {shared}{', ' + in_words(node['gpus']) if node['gpus'] else ''}"
            )
    total = {kind: sum(node.get(kind, 0) for node in connected.nodes) for kind in ("CPU", "GPU")}
    print(f"cluster: {total['CPU']:g} CPUs, {total['GPU']:g} GPUs on {len(nodes)} node(s)")
    out = missing + problems(needed, found)
    for address, node in found.items():
        if address != "here" and node["free_gb"] < LEAST_FREE_GB:
            out.append(f"node {node['host']} has {node['free_gb']:.1f} GB free; {LEAST_FREE_GB:.0f} GB are advised.")
    if connected.dashboard and dashboard_is_open(connected.dashboard):
        out.append(
            f"the dashboard at {connected.dashboard} asks nobody for a token and runs code. Start every node with RAY_AUTH_MODE=token."
        )
    return out


def parser() -> Parser:
    p = Parser(prog="python -m cluster.preflight", description=__doc__)
    p.add_argument("--address", help="default: RAY_ADDRESS, else a cluster on this machine")
    p.add_argument("--results", default="results", help="folder or URL that all nodes must see (default: results)")
    add_places(p)
    p.add_argument("--nodes", type=int, default=1, help="wait for so many (default: 1)")
    p.add_argument("--wait", type=float, default=300.0, metavar="SECONDS", help="how long, for the head and for them (default: 300)")
    p.add_argument("--only-wait", action="store_true", help="look at nothing else. The sweep will")
    return p


@command(parser, "stopped")
def main(args: argparse.Namespace) -> int:
    check_options(nodes=args.nodes, wait=args.wait)
    with contextlib.ExitStack() as stack:
        connected = connect(stack, args.address, args.wait if args.nodes > 1 or args.only_wait else 0)
        wait_for(args.nodes, args.wait)
        found = [] if args.only_wait else look(connected, args.results, args.data, args.weights)
    for line in found:
        print(f"problem: {line}")
    return EnvironmentProblem.exit_code if found else 0


def connect(stack: contextlib.ExitStack, address: str | None, seconds: float) -> Connected:
    """Connect to the cluster, once its head answers: it may still be starting. Raises EnvironmentProblem when it does not in time."""
    end, told = time.monotonic() + seconds, ""
    while True:
        try:
            return stack.enter_context(cluster(address))
        except EnvironmentProblem as error:
            if time.monotonic() > end:
                raise
            if str(error) != told:
                told = str(error)
                print(f"waiting up to {seconds:.0f} s: {told}", flush=True)
            time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
