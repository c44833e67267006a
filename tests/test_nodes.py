"""Requirements on every node of a cluster, and the message where a node lacks one. tests/test_hosts.py has real hosts."""

import contextlib
import copy
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from study.conduct import runners
from study.conduct.workplace import Workplace
from study.errors import ConfigError, EnvironmentProblem
from study.question.cell import grid
from study.question.naming import DataName
from study.question.study_config import Study
from study.search.on_ray import cluster, node_report, nodes
from study.storage.folder import Folder
from study.storage.options import Options
from study.storage.places import Places
from study.tracking.ledger import Ledger

pytestmark = pytest.mark.timeout(120)


def found(results: Path, *folders: Path, cache: Path | None = None) -> tuple[nodes.Wanted, dict[str, Any]]:
    """Return what this process sees, as though a node had answered."""
    wanted = nodes.Wanted(results=Folder(results), folders=tuple(map(str, folders)), cache=str(cache) if cache else None)
    asked = {"results": str(results), "name": "m", "mark": "yes", "folders": list(wanted.folders), "cache": wanted.cache}
    wanted.results.write("m", b"yes")
    return wanted, node_report.look({**asked, "packages": ["numpy"]}, "n2")


def test_a_node_like_this_one_has_no_problem(tmp_path: Path) -> None:
    wanted, here = found(tmp_path, tmp_path, cache=tmp_path / "cache")
    assert (tmp_path / "m-n2").read_bytes() == b"yes" and here["seen"] is here["wrote"] is True
    assert nodes.problems(wanted, {"here": here, "10.0.0.2": copy.deepcopy(here)}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": None}, "cannot import study: it needs this checkout"),
        ({"code": "other"}, "has other code of study (other, here "),
        ({"versions": {"numpy": "1.0"}}, "has other versions: numpy 1.0 (here "),
        ({"python": "3.9"}, "has other versions: Python 3.9 (here "),
        ({"seen": False, "wrote": False}, "is not the same folder on node n2 (10.0.0.2) as here. Choose --results on storage"),
        ({"wrote": False}, "is not the same folder on node n2 (10.0.0.2) as here (it can only read it)"),
        ({"seen": "ImportError: s3fs", "wrote": False}, "(ImportError: s3fs). Choose --results"),
        ({"cache": "/c: Read-only file system"}, "cannot write its cache (/c: Read-only file system). Set STUDY_CACHE"),
    ],
)
def test_what_differs_is_a_line_with_the_node_and_the_way_out(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    wanted, here = found(tmp_path)
    (line,) = nodes.problems(wanted, {"here": here, "10.0.0.2": {**here, "host": "n2", **changes}})
    assert said in line and "node n2 (10.0.0.2)" in line and "\n" not in line, line


def test_folders_are_compared_by_their_names_and_the_sizes_at_the_top(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "train" / "0").mkdir(parents=True)
    (data / "labels.csv").write_text("a")
    before = node_report.contents(str(data))
    (data / "train" / "0" / "1.png").touch()
    more = node_report.contents(str(data))
    (data / "labels.csv").write_text("ab")
    assert len({before, more, node_report.contents(str(data)), node_report.contents(str(tmp_path / "none"))}) == 4
    wanted, here = found(tmp_path, data)
    for held, said in ((None, f"has no {data}, which is here"), ("other", f"holds other files in {data}")):
        (line,) = nodes.problems(wanted, {"here": here, "10.0.0.2": {**here, "folders": {str(data): held}}})
        assert said in line


def test_the_code_is_compared_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    import sys

    import study

    own = node_report.code()
    copied = tmp_path / "study"
    shutil.copytree(Path(study.__file__).parent, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.delitem(sys.modules, "study")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert node_report.code() == own
    with open(copied / "training" / "loop.py", "a") as file:
        file.write("\n")
    assert node_report.code() not in (own, None)


def test_only_what_a_study_reads_is_compared(tmp_path: Path) -> None:
    (tmp_path / "data" / "fer2013").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    places = Places(folder=str(tmp_path), data=str(tmp_path / "data"), weights=str(tmp_path / "mine"))
    asked = nodes.wanted(Folder(tmp_path), places, map(DataName.of, ["fer2013", "digits", f"folder:{tmp_path}/mine"]))
    assert asked.folders == (f"{tmp_path}/data/fer2013", f"{tmp_path}/mine")


@pytest.mark.parametrize("splits", ["", "@official", "@official:3"])
@pytest.mark.parametrize("place", ["mine", "a@b", "x@official/leaves", "two words", "what!"])
@pytest.mark.parametrize(
    ("kind", "options", "asked"),
    [
        ("folder", "", [""]),
        ("table", "", ["/labels.csv", "/images", "/photos"]),
        ("table", "?label=species", ["/labels.csv", "/images", "/photos"]),
        ("table", "?images=pixels&label=species", ["/labels.csv", "/pixels"]),
        ("table", "?images={root}/pixels", ["/labels.csv", "/pixels"]),
        ("table", "?names=classes.csv&images=../{name}/pixels", ["/labels.csv", "/../{name}/pixels", "/classes.csv"]),
        ("hf", "", [""]),
        ("hf", "?label=kind", [""]),
    ],
)
def test_nodes_are_asked_for_all_that_ones_own_images_are_read_from(
    kind: str, options: str, asked: list[str], place: str, splits: str, tmp_path: Path
) -> None:
    root = tmp_path / place
    for folder in ("images", "photos", "pixels", "unrelated"):
        (root / folder).mkdir(parents=True)
    for file in ("labels.csv", "classes.csv"):
        (root / file).write_text("file,species")
    name = f"{kind}:{root}{'/labels.csv' if kind == 'table' else ''}{options.format(root=root, name=root.name)}{splits}"
    wanted = nodes.wanted(Folder(tmp_path), Places(folder=str(tmp_path)), [DataName.parse(name)])
    assert set(wanted.folders) == {f"{root}{path.format(name=root.name)}" for path in asked}
    assert nodes.wanted(Folder(tmp_path), Places(folder=str(tmp_path), foreign=(name,)), []).folders == wanted.folders


def test_a_worker_that_does_not_see_its_trial_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from study.search.on_ray import workers

    monkeypatch.setattr("study.run.run_trial", lambda *a, **k: pytest.fail("it trained"))
    ending = workers.ending({"places": {"folder": str(tmp_path / "trials" / ("0" * 16))}}, lambda record: False)
    assert "does not see" in ending["problem"] and "--results" in ending["problem"] and not (tmp_path / "trials").exists()


# ---- a wrong address ---------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[str]:
    """Yield a port that takes connections and says nothing: no head of Ray's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_wrong_address_is_said(listener: str) -> None:
    for address, said in (("127.0.0.1:1", "nothing answers at 127.0.0.1:1: start the head there"), (listener, "is no Ray head")):
        with pytest.raises(EnvironmentProblem, match=said), cluster.cluster(address):
            pass
    with pytest.raises(EnvironmentProblem, match="nothing answers at ray://127.0.0.1:1: .* or correct --address"):
        with cluster.cluster("ray://127.0.0.1:1"):
            pass
    with pytest.raises(ConfigError, match="--address head is not HOST:PORT"), cluster.cluster("head"):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "ray://127.0.0.1:x"])
def test_what_named_a_wrong_address_is_what_to_correct(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(EnvironmentProblem, match=f"nothing answers at {address}: .* or correct RAY_ADDRESS"), cluster.cluster(None):
        pass


@pytest.mark.parametrize(("mode", "said"), [(None, True), ("", True), ("disabled", True), ("token", False), ("TOKEN", False)])
def test_a_cluster_that_is_not_reached_asks_for_what_sends_a_token(
    mode: str | None, said: bool, listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was seen on Ray 2.60: a shell that has the token sends none to a head that was started elsewhere, unless it is told to."""
    import ray

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setattr(cluster, "_require_ray_at", lambda address, option: None)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("Failed to connect to Ray cluster")))
    with pytest.raises(EnvironmentProblem, match="auth_token") as error, cluster.cluster(listener):
        pass
    assert ("RAY_AUTH_MODE=token, without which none is sent" in str(error.value)) is said


def test_another_ray_on_the_head_is_named_with_both_versions(listener: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    told = "Version mismatch: The cluster was started with:\n    Ray: 2.61.0\nThis process was started with:\n    Ray: 2.60.0\n"
    monkeypatch.setattr(cluster, "_require_ray_at", lambda address, option: None)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(RuntimeError(told)))
    with pytest.raises(EnvironmentProblem, match=r"is not the Ray here.*Ray: 2.61.0 .*Ray: 2.60.0. Install"), cluster.cluster(listener):
        pass


def test_what_ray_raises_meanwhile_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    class Context:
        dashboard_url = ""
        gcs_address = "127.0.0.1:1"
        runtime_env: ClassVar[dict] = {}

    monkeypatch.setattr(ray, "init", lambda **_: Context())
    monkeypatch.setattr(ray, "nodes", lambda: [])
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    with (
        pytest.raises(EnvironmentProblem, match="^Ray at this machine broke off: System error: gone. Run the same command again.$"),
        cluster.cluster(None),
    ):
        raise ray.exceptions.RaySystemError("gone\nTraceback ...")


@pytest.mark.parametrize(("code", "is_open"), [(200, True), (401, False), (403, False)])
def test_the_dashboard_is_asked_not_a_variable(code: int, is_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.preflight import dashboard_is_open

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            self.send_response(code)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("RAY_AUTH_MODE", "token" if is_open else "disabled")
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert dashboard_is_open(f"127.0.0.1:{server.server_port}") is is_open
    finally:
        server.shutdown()
        server.server_close()
    assert dashboard_is_open("127.0.0.1:1") is False


def test_a_wait_for_a_head_says_for_what_at_once_and_only_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cluster import preflight

    tries: list[str | None] = []

    @contextlib.contextmanager
    def starting(address: str | None) -> Iterator[str]:
        tries.append(address)
        if len(tries) < 3:
            raise EnvironmentProblem("nothing answers at h:6379: start the head there.")
        yield "connected"

    monkeypatch.setattr(preflight, "cluster", starting)
    monkeypatch.setattr(preflight.time, "sleep", lambda seconds: None)
    with contextlib.ExitStack() as stack:
        assert preflight.connect(stack, "h:6379", 60) == "connected"
    assert capsys.readouterr().out == "waiting up to 60 s: nothing answers at h:6379: start the head there.\n"


def test_only_a_sweep_advises_to_go_without_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preflight has no --local, so the way out of the sweep alone is said by the sweep alone."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(EnvironmentProblem) as error, cluster.cluster(None):
        pass
    assert "--local" not in str(error.value)
    ledger = Ledger(tmp_path, "s")
    ledger.begin(Study(name="s", cells=grid(["digits"], ["resnet18"], ["full"])), {})
    with pytest.raises(EnvironmentProblem, match=r"nothing answers .* or correct RAY_ADDRESS\. Or use --local\.$"):
        runners._on_ray(Workplace.of(ledger), Options(results=str(tmp_path))).__enter__()
