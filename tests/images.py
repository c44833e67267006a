"""The images of docker/Dockerfile, with bases from Debian's own packages, since a test has no registry of images to pull from."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.hosts import ROOT

MADE_OF = ("docker", "requirements.run.lock", "requirements.mlflow.lock", "uv.lock.txt")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
POSTGRES = """#!/bin/sh
# What the official image's entrypoint does: a first start makes the database, with the password that the file holds.
set -e
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" && chown postgres "$PGDATA" /run/postgresql
    exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl -w start >/dev/null
    psql -d postgres -U "$POSTGRES_USER" -c "CREATE DATABASE \\"$POSTGRES_DB\\"" >/dev/null
    pg_ctl -w stop >/dev/null
fi
exec postgres -c listen_addresses='*'
"""


def unbuilt() -> str | None:
    """Return why the images need not be built (nothing that they are made of differs from origin's), or None where they must be."""
    if os.environ.get("STUDY_BUILD_IMAGES"):
        return None
    head = subprocess.run(["git", "rev-parse", "--verify", "--quiet", "origin/HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode:
        return "this checkout has no origin/HEAD to tell whether docker/ or a lock differs; STUDY_BUILD_IMAGES=1 builds the images"
    same = subprocess.run(["git", "diff", "--quiet", head.stdout.strip(), "--", *MADE_OF], cwd=ROOT).returncode == 0
    return "docker/ and its locks are those of origin/HEAD; STUDY_BUILD_IMAGES=1 builds the images all the same" if same else None


def bases(address: str, folder: Path) -> dict[str, str]:
    """Build two base images in a daemon, and return them as settings of docker/.env: Python 3.11 with pip, and Postgres."""
    sources = Path("/etc/apt/sources.list.d/debian.sources").read_text()
    mirror = next(line.split()[1] for line in sources.splitlines() if line.startswith("URIs: "))
    python, postgres = folder / "python", folder / "postgres"
    _run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(python), mirror)
    shutil.copy("/etc/resolv.conf", python / "etc/resolv.conf")
    _run("cp", "-a", str(python), str(postgres))
    _packages(python, "python3", "python3-pip")
    _run("chroot", str(python), "sh", "-c", "rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s /usr/bin/python3 /usr/local/bin/python")
    shutil.copy(f"/{CERTIFICATES}", python / CERTIFICATES)  # of a machine whose registry has an authority of its own
    _packages(postgres, "postgresql-15", "gosu")
    (postgres / "entrypoint").write_text(POSTGRES)
    (postgres / "entrypoint").chmod(0o755)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    data = "/var/lib/postgresql/data"
    _image(address, python, "localhost/python:3.11-slim", f"ENV PATH={path}", f"ENV SSL_CERT_FILE=/{CERTIFICATES}")
    _image(
        address, postgres, "localhost/postgres:15",
        f"ENV PATH=/usr/lib/postgresql/15/bin:{path}", f"ENV PGDATA={data}", f"VOLUME {data}", 'ENTRYPOINT ["/entrypoint"]',
    )  # fmt: skip
    return {"BASE": "localhost/python:3.11-slim", "POSTGRES_IMAGE": "localhost/postgres:15"}


def build(address: str, base: str, target: str, tag: str, **arguments: str) -> int:
    """Build a target of docker/Dockerfile and return its size in bytes."""
    given = [w for k, v in {"BASE": base, **arguments}.items() for w in ("--build-arg", f"{k}={v}")]
    options = ("--network", "host", *given, "--target", target, "-t", tag, "-f", "docker/Dockerfile")
    _run("docker", "-H", address, "build", *options, str(ROOT))
    return int(_run("docker", "-H", address, "image", "inspect", "-f", "{{.Size}}", tag))


def _packages(root: Path, *names: str) -> None:
    apt = f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {' '.join(names)} && apt-get clean"
    _run("chroot", str(root), "sh", "-c", f"export DEBIAN_FRONTEND=noninteractive; {apt} && rm -rf /var/lib/apt/lists/*")


def _image(address: str, root: Path, name: str, *changes: str) -> None:
    given = " ".join(f"-c '{c}'" for c in changes)
    _run("sh", "-c", f"tar -C {root} -c . | docker -H {address} import {given} - {name}")
    shutil.rmtree(root)


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)[:300]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()
