"""A small image made in seconds from this machine's own Python, and a Docker daemon of the tests' own, to see what compose gives and
withholds.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.hosts import child

DOCKER = Path(__file__).parent.parent / "docker"
TOOLS = ("sh", "cat", "id", "sed", "sleep")


def missing() -> str | None:
    """Return why no daemon can be started here, or None where one can."""
    if os.geteuid() != 0:
        return "needs root, to start a Docker daemon"
    absent = [p for p in ("dockerd", "docker", "docker-compose", "iptables") if not shutil.which(p)]
    return f"{', '.join(absent)} not installed (docker.io docker-compose iptables)" if absent else None


@contextmanager
def daemon(folder: Path, network: bool = False) -> Iterator[str]:
    """Yield the address of a Docker daemon. Raises RuntimeError with the log's end when it does not start.

    The daemon has namespaces of its own, so that its bridge, rules, mounts and containers end with it, however the test ends. With
    `network` it has this machine's, for builds (`--network host`) that ask a package registry, and changes nothing there.
    """
    address = f"unix://{folder}/s.sock"
    command = f"dockerd --data-root {folder}/data --exec-root {folder}/exec -H {address} -p /run/docker.pid"
    alone = "ip link set lo up && mount --bind /dev/null /etc/resolv.conf && " if not network else ""
    only = "--bridge=none --iptables=false --ip6tables=false" if network else "--bip 10.79.0.1/24"
    # the first wait ends at TERM
    script = f"mount -t tmpfs tmpfs /run && {alone}{{ {command} {only} & }} && d=$!; trap 'kill $d' TERM; wait $d; wait $d"
    spaces = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", *([] if network else ["-n"])]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *spaces, "bash", "-c", script], stdout=log, stderr=log)
    try:
        for _ in range(240):
            if subprocess.run(["docker", "-H", address, "info"], capture_output=True).returncode == 0:
                break
            if process.poll() is not None:
                raise RuntimeError((folder / "log").read_text()[-600:])
            time.sleep(0.5)
        yield address
    finally:
        if process.poll() is None:
            os.kill(child(process), signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
        process.kill()
        process.wait()


def small_image(address: str, name: str) -> None:
    """Build an image of this machine's Python and shell, with user, owned folders and HOME as in docker/Dockerfile."""
    text = (DOCKER / "Dockerfile").read_text()
    owned = re.search(r"chown study:study (.+)$", text, re.M)
    home = re.search(r"^ENV .*\b(HOME=\S+)", text, re.M)
    assert owned
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    files = {str(Path(p).resolve()): f"/usr/bin/{n}" for n, p in (("python", str(python)), *((t, shutil.which(t) or "") for t in TOOLS))}
    library = Path(sys.base_prefix) / "lib" / python.name
    needed = [*files, *map(str, (library / "lib-dynload").glob("*.so"))]
    listed = subprocess.run(["ldd", *needed], capture_output=True, text=True).stdout
    libraries = set(re.findall(r"(/\S+) \(0x", listed))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for source, target in [*files.items(), *((p, p) for p in libraries)]:
            info = tar.gettarinfo(str(Path(source).resolve()), arcname=target.lstrip("/"))
            with Path(source).resolve().open("rb") as f:
                info.type = tarfile.REGTYPE  # the same file twice would become a link
                info.size = Path(source).resolve().stat().st_size
                tar.addfile(info, f)
        skip = re.compile(r"/(test|tests|idlelib|ensurepip|site-packages|dist-packages|__pycache__|config-.*)(/|$)")
        tar.add(library, arcname=f"usr/lib/{python.name}", filter=lambda i: None if skip.search(i.name) else i)
        passwd = b"root:x:0:0::/:/usr/bin/sh\nstudy:x:1000:1000::/tmp:/usr/bin/sh\n"
        info = tarfile.TarInfo("etc/passwd")
        info.size = len(passwd)
        tar.addfile(info, io.BytesIO(passwd))
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        tar.addfile(link)
        for folder in owned[1].split():
            info = tarfile.TarInfo(folder.lstrip("/"))
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0o755, 1000, 1000
            tar.addfile(info)
    changes = ["USER 1000", "ENV PATH=/usr/bin", *([f"ENV {home[1]}"] if home else [])]
    arguments = [a for c in changes for a in ("-c", c)]
    subprocess.run(["docker", "-H", address, "import", *arguments, "-", name], input=stream.getvalue(), check=True, capture_output=True)
