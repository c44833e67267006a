"""P1-P5: what ships, checked statically (no container engine, Kubernetes or Slurm is needed)."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def test_P1_dockerfile_is_rootless_pinned_and_hashed() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    users = re.findall(r"^USER (.+)$", text, re.M)
    assert users == ["1000", "1000"] and "latest" not in text and not re.search(r"^ADD ", text, re.M)
    assert re.search(r"^ARG BASE$", text, re.M) and "--require-hashes --requirement requirements.lock" in text
    assert not re.search(r"(?i)(password|token|secret)\s*=", text)


def test_P2_compose_binds_loopback_drops_privileges_and_keeps_secrets_in_files() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"], name
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", []))
        assert not any("PASSWORD" in k and not k.endswith("_FILE") for k in service.get("environment", {}))
        for other in service.get("depends_on", {}).values():
            assert other["condition"] == "service_healthy"
    command = " ".join(compose["services"]["mlflow"]["command"])
    assert "mlflow:5000" in command and "--allowed-hosts" in command
    assert compose["services"]["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_P3_kubernetes_manifests() -> None:
    import kubernetes_validate

    job, policy = yaml.safe_load_all((ROOT / "cluster" / "kuberay.yaml").read_text())
    kubernetes_validate.validate(policy, kubernetes_validate.latest_version(), strict=True)
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"]["mode"] == "token" and spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    for template in [spec["headGroupSpec"]["template"], *(g["template"] for g in spec["workerGroupSpecs"])]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        assert template["spec"]["securityContext"]["runAsNonRoot"] and template["spec"]["automountServiceAccountToken"] is False
        for container in template["spec"]["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("name", ["requirements.lock", "uv.lock.txt"])
def test_P4_every_locked_package_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in b for b in blocks if b and not b.startswith("#"))
    assert "://" not in text and "index-url" not in text
    if name == "requirements.lock":
        floors = {"ray": (2, 56), "mlflow": (3, 13), "torch": (2, 10), "pillow": (12, 3)}
        for package, floor in floors.items():
            version = re.search(rf"^{package}==(\d+)\.(\d+)", text, re.M)
            assert version and (int(version[1]), int(version[2])) >= floor


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(r) for group in (project["dependencies"], *project["optional-dependencies"].values()) for r in group]
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.M))
    found = {canonicalize_name(k): v for k, v in locked.items()}
    assert len(asked) > 20
    for requirement in asked:
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} asked, {version} locked: make lock"


FORBIDDEN = {
    "pickle.load", "pickle.loads", "yaml.load", "eval", "exec", "os.system", "extractall", "Markup", "marshal.loads", "shelve.open",
}  # fmt: skip
SOURCES = [p for d in ("study", "analysis", "benchmarks", "cluster") for p in sorted((ROOT / d).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_P5_no_call_that_runs_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert name not in FORBIDDEN and name.rpartition(".")[2] not in {"extractall", "Markup"}, f"{path}:{node.lineno} calls {name}"
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"
            if name == "np.load":
                assert keywords.get("allow_pickle") == "False", f"{path}:{node.lineno}"
            assert keywords.get("shell") != "True" and keywords.get("verify") != "False", f"{path}:{node.lineno}"


def test_nothing_tracked_names_a_registry_host_or_this_machine() -> None:
    import subprocess

    names = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT).stdout.split()
    if not names:
        pytest.skip("not a git checkout")
    for name in names:
        path = ROOT / name
        if path.suffix in (".png", ".parquet") or not path.is_file():
            continue
        assert path.stat().st_size < 1_000_000, f"{name} is large"
        text = path.read_text(errors="replace")
        assert str(ROOT) + "/" not in text, f"{name} names a path of this machine"
