"""Slurm on a test's own hosts: slurmctld on one, slurmd on the others, with made-up GPUs. Nothing of it is outside the test's folder."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.hosts import LIMIT_S, ROOT, Hosts, hosts, until
from tests.need import missing

TOOLS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
CONF = """
ClusterName=test
SlurmctldHost=ctl({address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
MessageTimeout=60
KillWait=30
FirstJobId={first}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=NO State=UP
"""


class Slurm:
    def __init__(self, machines: Hosts, nodes: tuple[str, ...]) -> None:
        self.machines, self.nodes, self.folder = machines, nodes, machines.folder / "slurm"
        self.first = os.getpid() % 600_000 * 100 + 1  # a job's folder is /tmp/ray-JOB, on the disk that test sessions share
        for name in ("state", *(f"spool.{n}" for n in nodes), "home"):
            (self.folder / name).mkdir(parents=True)
        # CPUs of Slurm's are no more than numbers here
        lines = "\n".join(f"NodeName={n} NodeAddr={machines.addresses[n]} CPUs=4 RealMemory=8000 Gres=gpu:2" for n in nodes)
        conf = self.folder / "slurm.conf"
        conf.write_text(CONF.format(address=machines.addresses["ctl"], folder=self.folder, nodes=lines, first=self.first))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for k in range(2):
            (self.folder / f"gpu{k}").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "RAY_", "TUNE_"))},
            "SLURM_CONF": str(conf),
            "HOME": str(self.folder / "home"),
            "VIRTUAL_ENV": sys.prefix,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        own = [f"--{name}={self.folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        self._run("ctl", "munged", "--force", f"--key-file={key}", *own)
        self._run("ctl", "slurmctld", "-f", str(conf))
        for name in nodes:
            self._run(name, "slurmd", "-f", str(conf), "-N", name)
        until("Slurm's nodes are idle", lambda: self._run("ctl", "sinfo", "-h", "-t", "idle", "-o", "%D") == str(len(nodes)))

    def _run(self, name: str, *command: str) -> str:
        done = self.machines.run(name, *command, env=self.env)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *arguments: str, **env: str) -> str:
        """Run `sbatch` from the checkout on the first node, and return the job's number."""
        done = self.machines.run(self.nodes[0], "sbatch", "--parsable", *arguments, env={**self.env, **env}, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Return its state and exit code as Slurm prints them: "COMPLETED 0:0"."""
        said = dict(w.split("=", 1) for w in self._run("ctl", "scontrol", "show", "job", job).split() if "=" in w)
        return f"{said['JobState']} {said['ExitCode']}"

    def ended(self, job: str, seconds: float = LIMIT_S) -> str:
        """Return its state and exit code, once its nodes are free."""
        until(f"job {job} has ended", lambda: not self.state(job).startswith(("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")), seconds)
        return self.state(job)

    def signal(self, job: str) -> None:
        """Send TERM to the batch script alone, as --signal=B:TERM does before the limit."""
        self._run("ctl", "scancel", "--batch", "--signal=TERM", job)

    def squeue(self, *arguments: str) -> str:
        return self._run("ctl", "squeue", *arguments)


@contextlib.contextmanager
def slurm(*nodes: str) -> Iterator[Slurm]:
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None and not Path(f"/usr/sbin/{tool}").exists():
            missing(f"{tool} (Debian: apt-get install {package})")
    with hosts("ctl", *nodes) as machines:
        made = Slurm(machines, nodes)
        yield made
    for job in range(made.first, made.first + 100):  # of jobs that their test did not see to their end
        shutil.rmtree(f"/tmp/ray-{job}", ignore_errors=True)


def processes_of(machines: Hosts, name: str) -> list[str]:
    """Return the command lines of all processes on a host."""
    return machines.run(name, "ps", "-wweo", "args").stdout.splitlines()[1:]


RAY = """#!/usr/bin/env bash
# Stands in for `ray start --block`: a head keeps its port until it is ended, and an agent outlives it, as Ray's may.
# FAILS: how many starts on a host give up first; a head that does had its port open for a while, as Ray's has.
echo "$*" >> "{log}/$SLURM_JOB_ID.$(hostname)"
hostname >> "{log}/../order.$SLURM_JOB_ID"
port=$(grep -o -- ' --port=[0-9]*' <<< "$*" | cut -d= -f2)
if [ "$(wc -l < "{log}/$SLURM_JOB_ID.$(hostname)")" -le "${FAILS:-0}" ]; then
  [ -z "$port" ] || {python} -c "import socket, time; s = socket.create_server(('', $port)); time.sleep(3)"
  echo "timed out during startup"; exit 1
fi
setsid bash -c 'exec -a ray::Agent sleep 1000' > "$(grep -o -- '--temp-dir=[^ ]*' <<< "$*" | cut -d= -f2)/agent.out" 2>&1 < /dev/null &
echo "Ray runtime started."
touch "{log}/$SLURM_JOB_ID.$(hostname).up"
[ -z "$port" ] || exec {python} -c "import socket, time; s = socket.create_server(('', $port)); time.sleep(1000)" stand-in-head
exec {python} -c "import time; time.sleep(1000)" stand-in-node
"""
PYTHON = r"""#!/usr/bin/env bash
# Stands in for the project's python: a sweep that says what it was given and lasts SWEEP_S seconds.
case "$*" in
  "-m cluster.preflight"*)
    [[ "$*" =~ --nodes\ ([0-9]+) ]]
    until [ "$(ls {log} | grep -c "^$SLURM_JOB_ID[.].*up")" -ge "${BASH_REMATCH[1]}" ]; do sleep 0.2; done ;;
  "-m study.sweep"*)
    [ -n "${DEAF:-}" ] && trap '' TERM || trap 'echo stopped; exit 143' TERM
    echo "sweep ${*:3}; address $RAY_ADDRESS; token $(wc -c < "$RAY_AUTH_TOKEN_PATH")"
    for ((i = 0; i < ${SWEEP_S:-1} * 5; i++)); do sleep 0.2; done
    exit "${SWEEP_CODE:-0}" ;;
  *) exec {python} "$@" ;;
esac
"""


def stand_in(folder: Path) -> Path:
    """Return an environment whose ray and python cost nothing: the script is tested, and Slurm itself is real."""
    (folder / "bin").mkdir(parents=True)
    (folder / "log").mkdir()
    for name, text in (("ray", RAY), ("python", PYTHON)):
        path = folder / "bin" / name
        path.write_text(text.replace("{log}", f"{folder}/log").replace("{python}", sys.executable))
        path.chmod(0o755)
    return folder
