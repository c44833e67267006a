"""P1-P5: the shipped files, checked statically (no container engine, Kubernetes or Slurm is needed)."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import FILES, PACKAGES, foreign

ROOT = Path(__file__).parent.parent


DOCKER = ROOT / "docker"
LOCKS = ["requirements.lock", "requirements.run.lock", "requirements.mlflow.lock", "uv.lock.txt"]


def pins(name: str) -> dict[str, str]:
    """Return the version of each package in a lock."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(k): v for k, v in found}


def test_P1_dockerfile_is_rootless_pinned_and_hashed() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    users = re.findall(r"^USER (.+)$", text, re.M)
    assert users == ["1000", "1000"] and "latest" not in text and not re.search(r"^ADD ", text, re.M)
    assert re.search(r"^ARG BASE$", text, re.M) and not re.search(r"\bpip install", text), "docker/install.sh installs, by hash"
    assert not re.search(r"(?i)(password|token|secret)\s*=", text)


def test_defects_3_4_11_the_image_owns_what_it_writes_and_finds_its_code_anywhere() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^ENV .*\bHOME=/tmp\b", text, re.M) and re.search(r"^ENV .*\bPYTHONPATH=/app\b", text, re.M)
    owned = set(re.search(r"chown study:study (.+)$", text, re.M)[1].split())  # type: ignore[index]
    for name, service in yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"].items():
        targets = {v.partition(":")[2] for v in service["volumes"]}
        assert name == "postgres" or targets <= owned, f"{name}: Docker gives {targets - owned} to root"
        assert not any("home" in t for t in service["tmpfs"]), "a tmpfs belongs to root"


def test_defect_10_images_hold_no_test_tools_and_only_the_study_holds_torch() -> None:
    script = (DOCKER / "install.sh").read_text()
    assert script.count("pip install") == 2 and "--compile-bytecode" in script and script.count("--require-hashes") == 3
    assert set(re.findall(r"^RUN sh install\.sh (\S+)", (DOCKER / "Dockerfile").read_text(), re.M)) == {
        "requirements.run.lock",
        "requirements.mlflow.lock",
    }
    every, run, mlflow = (pins(n) for n in LOCKS[:3])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {canonicalize_name(Requirement(r).name) for group in project["optional-dependencies"].values() for r in group}
    extras -= {canonicalize_name(Requirement(r).name) for r in project["dependencies"]} | {
        "pyyaml",
        "jsonschema",
    }  # mlflow[auth]; ray needs both
    assert len(extras) > 20 and not extras & set(run)
    assert not [p for p in mlflow if p in ("torch", "ray", "triton") or p.startswith(("nvidia-", "cuda-"))] and "psycopg2-binary" in mlflow
    assert run.items() <= every.items() and mlflow.items() <= every.items(), "other versions than those that are tested: make lock"
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"--output-file {name}" in makefile for name in LOCKS) and "--compile-bytecode" in makefile


def test_the_cpu_image_leaves_out_cuda_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(["sh", str(DOCKER / "without_cuda.sh"), str(ROOT / "requirements.run.lock")], cwd=tmp_path, check=True)
    whole, rest = (ROOT / "requirements.run.lock").read_text(), (tmp_path / "rest.lock").read_text()
    torch = dict(line.split("==") for line in (tmp_path / "torch.txt").read_text().split())
    run = pins("requirements.run.lock")
    assert torch == {"torch": run["torch"], "torchvision": run["torchvision"]}
    blocks = {re.match(r"[^=\s\[]+", b)[0]: b for b in re.split(r"\n(?=\S)", whole.strip())}  # type: ignore[index]
    kept = {re.match(r"[^=\s\[]+", b)[0]: b for b in re.split(r"\n(?=\S)", rest.strip())}  # type: ignore[index]
    gone = {n for n in blocks if n not in kept}
    assert all(kept[n] == blocks[n] for n in kept), "a hash was lost"
    assert {"torch", "torchvision", "triton"} < gone and all(n.startswith(("torch", "triton", "nvidia-", "cuda-")) for n in gone)
    (tmp_path / "other.lock").write_text("numpy==2.4.0 \\\n    --hash=sha256:00\n")
    assert subprocess.run(["sh", str(DOCKER / "without_cuda.sh"), "other.lock"], cwd=tmp_path, capture_output=True).returncode == 1


def test_what_is_imported_is_named_and_pinned() -> None:
    """Not left to come with something else. A registered model carries its own copy of study/inference, and imports it by bare names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = [*project["dependencies"], *(r for group in project["optional-dependencies"].values() for r in group)]
    named, known = {canonicalize_name(Requirement(r).name) for r in every}, packages_distributions()
    ours = {*PACKAGES, *(p.stem for p in (ROOT / "study" / "inference").glob("*.py"))}
    shipped = [p for m, p in FILES.items() if not m.startswith("benchmarks")]
    used = {n for p in shipped for n in foreign(p)} - ours - sys.stdlib_module_names - {"grpc"}  # Ray's
    unnamed = {n for n in used if not {canonicalize_name(d) for d in known.get(n, [n])} & named}
    assert len(used) > 20 and not unnamed, f"{unnamed}: add them to pyproject.toml, then make lock"
    assert named <= pins("requirements.lock").keys()


def test_P2_compose_binds_loopback_drops_privileges_and_keeps_secrets_in_files() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"], name
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", []))
        assert not any("PASSWORD" in k and not k.endswith("_FILE") for k in service.get("environment", {}))
        for other in service.get("depends_on", {}).values():
            assert other["condition"] == "service_healthy"
    environment = compose["services"]["mlflow"]["environment"]
    assert "mlflow:5000" in environment["MLFLOW_HOSTS"] and environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_defects_5_8_9_12_compose_waits_stops_cleanly_and_knows_its_commit() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    mlflow, study, postgres = services["mlflow"], services["study"], services["postgres"]
    assert mlflow["healthcheck"]["start_period"] == "300s" and mlflow["healthcheck"]["retries"] >= 30
    assert "start_period" in postgres["healthcheck"] and "--workers 1" in (DOCKER / "mlflow.sh").read_text()
    assert study["init"] and mlflow["init"] and study["stop_grace_period"] == "120s"
    assert "init" not in postgres and "KILL" not in postgres["cap_add"], "root without CAP_KILL cannot pass a signal on to postgres"
    assert study["build"]["args"]["COMMIT"] == "${COMMIT:-unknown}"
    asked = set(re.findall(r"\$\{(\w+)", text)) - {"COMMIT"}  # the example would keep a commit that has passed
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(), re.M))
    assert asked == set(example)


def test_defect_7_setup_makes_settings_and_a_password_that_only_containers_read(tmp_path: Path) -> None:
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets", ".env"))
    setup = [tmp_path / "docker" / "setup.sh", "python:3.11@sha256:aa", "postgres:17@sha256:bb"]
    subprocess.run(setup, check=True, capture_output=True)
    env = (tmp_path / "docker" / ".env").read_text()
    assert "\nBASE=python:3.11@sha256:aa\nPOSTGRES_IMAGE=postgres:17@sha256:bb\n" in env and "\nTORCH=cpu\n" in env
    secret = tmp_path / "docker" / "secrets" / "postgres_password"
    password = secret.read_text()
    assert len(password) == 32 and secret.stat().st_mode & 0o777 == 0o444 and secret.parent.stat().st_mode & 0o777 == 0o700
    subprocess.run([*setup, "cuda"], check=True, capture_output=True)
    assert secret.read_text() == password, "the database was made with the first one"
    assert "\nTORCH=cuda\n" in (tmp_path / "docker" / ".env").read_text()
    for wrong in (setup[:2], [*setup, "gpu"]):
        assert subprocess.run(wrong, capture_output=True).returncode == 2
    ignored = (ROOT / ".gitignore").read_text().split() + (ROOT / ".dockerignore").read_text().split()
    assert ignored.count("docker/secrets") + ignored.count("/docker/secrets/") == 2


def test_defect_6_no_password_among_the_arguments(tmp_path: Path) -> None:
    (tmp_path / "mlflow").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nstat -c %a "$PGPASSFILE"\ncat "$PGPASSFILE"\n')
    (tmp_path / "mlflow").chmod(0o755)
    (tmp_path / "secret").write_text("a@b/c:d%e\\f")
    script = (DOCKER / "mlflow.sh").read_text().replace("/tmp/pgpass", str(tmp_path / "pgpass"))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "POSTGRES_PASSWORD_FILE": str(tmp_path / "secret")}
    out = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[-2:] == ["600", "*:*:*:*:a@b/c\\:d%e\\\\f"]
    assert "postgresql+psycopg2://mlflow@postgres/mlflow" in out and not any("a@b" in line for line in out[:-1])
    gone = subprocess.run(["sh", "-c", script], env=env | {"POSTGRES_PASSWORD_FILE": "/none"}, capture_output=True, text=True)
    assert gone.returncode == 4 and gone.stderr.count("\n") == 1 and "docker/setup.sh" in gone.stderr


# Fields of a RayJob and of what it holds, KubeRay 1.6: whatever else stands in the file is a misspelling that an API server would drop.
RAY_FIELDS = {
    "job": "activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint entrypointNumCpus entrypointNumGpus "
    "entrypointResources "
    "jobId managedBy metadata rayClusterSpec runtimeEnvYAML shutdownAfterJobFinishes submissionMode submitterConfig "
    "submitterPodTemplate suspend "
    "ttlSecondsAfterFinished",
    "cluster": "authOptions autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec headServiceAnnotations "
    "managedBy "
    "rayVersion suspend workerGroupSpecs",
    "head": "enableIngress headService labels rayStartParams resources serviceType template",
    "worker": (
        "groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts rayStartParams replicas resources "
        "scaleStrategy suspend template"
    ),
}


def kuberay() -> tuple[dict[str, Any], dict[str, Any]]:
    job, policy = yaml.safe_load_all((ROOT / "cluster" / "kuberay.yaml").read_text())
    return job, policy


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    workers = {g["groupName"]: g["template"] for g in cluster["workerGroupSpecs"]}
    return {"submitter": job["spec"]["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"], **workers}


def test_P3_kubernetes_manifests_have_no_field_that_is_not_known() -> None:
    import kubernetes_validate

    version = kubernetes_validate.latest_version()
    job, policy = kuberay()
    needs = list(yaml.safe_load_all((ROOT / "cluster" / "kuberay_needs.yaml").read_text()))
    for other in (policy, *needs):
        kubernetes_validate.validate(other, version, strict=True)
    cluster = job["spec"]["rayClusterSpec"]
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"} and (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    parts = [
        ("job", job["spec"]),
        ("cluster", cluster),
        ("head", cluster["headGroupSpec"]),
        *(("worker", g) for g in cluster["workerGroupSpecs"]),
    ]
    for kind, part in parts:
        assert set(part) <= set(RAY_FIELDS[kind].split()), f"{kind}: {set(part) - set(RAY_FIELDS[kind].split())}"
    assert all(isinstance(v, str) for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]) for v in g["rayStartParams"].values())
    assert cluster["authOptions"] == {"mode": "token"}
    for name, template in pods(job).items():
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}, version, strict=True)


OPEN = "x-kubernetes-preserve-unknown-fields"


def strict(schema: Any) -> Any:
    """Return a CRD's schema that refuses what it does not name, where an API server would drop it silently."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: strict(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not schema.get(OPEN):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    return made


def test_the_job_is_what_a_clusters_own_definition_of_a_rayjob_says() -> None:
    """It takes any version of KubeRay: the file that `kubectl get crd rayjobs.ray.io -o yaml` prints."""
    if not (path := os.environ.get("STUDY_RAYJOB_CRD")):
        pytest.skip("needs KubeRay's definition of a RayJob in STUDY_RAYJOB_CRD: kubectl get crd rayjobs.ray.io -o yaml > FILE")
    (version,) = [v for v in yaml.safe_load(Path(path).read_text())["spec"]["versions"] if v["name"] == "v1"]
    whole = strict(version["schema"]["openAPIV3Schema"])
    check, (job, _) = jsonschema.Draft4Validator(whole), kuberay()
    wrong = [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in check.iter_errors(job)]
    assert wrong == []
    places: dict[str, Callable[[dict[str, Any]], Any]] = {
        "job": lambda spec: spec,
        "submitter": lambda spec: spec["submitterPodTemplate"]["spec"],
        "cluster": lambda spec: spec["rayClusterSpec"],
        "worker": lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0],
        "container": lambda spec: spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0],
    }
    for name, at in places.items():
        planted, _ = kuberay()
        at(planted["spec"])["misspelt"] = 1
        assert any("misspelt" in e.message for e in check.iter_errors(planted)), name


def test_K1_the_submitter_reaches_the_dashboard() -> None:
    job, _ = kuberay()
    assert job["spec"]["submissionMode"] == "K8sJobMode"
    assert "dashboard-host" not in job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"], "KubeRay's own is 0.0.0.0"


def test_K2_the_policy_lets_in_submitter_and_operator_to_the_dashboard_alone() -> None:
    job, policy = kuberay()
    nodes, dashboard = policy["spec"]["ingress"]
    assert nodes == {"from": [{"podSelector": policy["spec"]["podSelector"]}]}
    assert dashboard["ports"] == [{"port": 8265, "protocol": "TCP"}]
    submitter, operator = dashboard["from"]
    labels = submitter["podSelector"]["matchLabels"]
    assert labels == {"ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": job["metadata"]["name"]}
    assert set(operator) == {"namespaceSelector", "podSelector"}, "two selectors of one entry: both must hold"


def test_K3_K4_weights_volumes_and_the_server_are_named_and_shipped() -> None:
    job, _ = kuberay()
    needs = list(yaml.safe_load_all((ROOT / "cluster" / "kuberay_needs.yaml").read_text()))
    claims = {n["metadata"]["name"]: n["spec"]["accessModes"] for n in needs if n["kind"] == "PersistentVolumeClaim"}
    assert claims["study-results"] == ["ReadWriteMany"]
    server = re.search(r"--mlflow http://(\w+):", job["spec"]["entrypoint"])
    assert server and server[1] in {n["metadata"]["name"] for n in needs if n["kind"] == "Service"}
    for name in ("head", "gpu"):
        spec = pods(job)[name]["spec"]
        asked = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        assert asked == set(claims), name
        assert {"name": "STUDY_WEIGHTS", "value": "/weights"} in spec["containers"][0]["env"], name
        assert {m["name"] for m in spec["containers"][0]["volumeMounts"]} == {v["name"] for v in spec["volumes"]}, name
    login = pods(job)["head"]["spec"]["containers"][0]["envFrom"]
    assert login == [{"secretRef": {"name": "study-mlflow", "optional": True}}]


def test_K5_K6_replicas_retries_and_ends_are_chosen() -> None:
    spec = kuberay()[0]["spec"]
    assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    assert spec["backoffLimit"] == 1 and spec["ttlSecondsAfterFinished"] >= 600 and spec["activeDeadlineSeconds"] > 0


def test_K7_the_head_outlives_the_sweeps_own_end() -> None:
    head = pods(kuberay()[0])["head"]["spec"]
    env = {e["name"]: e["value"] for e in head["containers"][0]["env"]}
    assert env["RAY_JOB_STOP_SIGNAL"] == "SIGINT" and head["terminationGracePeriodSeconds"] > int(env["RAY_JOB_STOP_WAIT_TIME_S"])


def test_K8_K9_every_pod_passes_the_restricted_standard_and_has_bounds() -> None:
    for name, template in pods(kuberay()[0]).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"] and "/tmp" in {m["mountPath"] for m in container["volumeMounts"]}, name
        assert all("sizeLimit" in v["emptyDir"] for v in spec["volumes"] if "emptyDir" in v), name
        assert name != "gpu" or spec["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize("name", LOCKS)
def test_P4_every_locked_package_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in b for b in blocks if b and not b.startswith("#"))
    assert "://" not in text and "index-url" not in text
    if name in ("requirements.lock", "requirements.run.lock"):
        floors = {"ray": (2, 56), "mlflow": (3, 13), "torch": (2, 10), "pillow": (12, 3)}
        for package, floor in floors.items():
            version = re.search(rf"^{package}==(\d+)\.(\d+)", text, re.M)
            assert version and (int(version[1]), int(version[2])) >= floor


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(r) for group in (project["dependencies"], *project["optional-dependencies"].values()) for r in group]
    found = pins("requirements.lock")
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
