"""Settings for running a study: its folders, its machines and its trackers. Nothing here changes a result."""

import importlib.util
import math
import os
import re
import time
import urllib.parse
from dataclasses import dataclass
from typing import Literal

from study.bounds import check_options
from study.console.text import redact, shown
from study.errors import ConfigError
from study.storage import outputs

TRACKING = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
"""Schemes with which an MLflow address may begin."""


OFF = "off"  # in the place of an address
PORT = re.compile(r"[\w.-]+:\d{1,5}(/.*)?")
"""A server's address without its scheme."""

MLFLOWS = ("experiments", "runs")
"""Tables by which an MLflow database is recognised."""


def check_tracking(uri: str | None, option: str = "--mlflow") -> None:
    """Raise ConfigError, before anything is trained, for an address that cannot be an MLflow server, that keeps nothing, or that is a
    database of another program."""
    if not uri or uri == "databricks":
        return
    scheme, separated, rest = uri.partition("://")
    kind, given = scheme.partition("+")[0].lower(), shown(redact(uri))
    if not separated:
        path = uri.removeprefix("sqlite:")
        meant = f"http://{given}" if PORT.fullmatch(uri) else f"sqlite:///{shown(path)}" + "/mlflow.db" * (not uri.endswith(".db"))
        raise ConfigError(f"{option} {given} is no address of MLflow. Did you mean {meant}?")
    if kind not in TRACKING:
        raise ConfigError(
            f"{option} {scheme}://... is no address of MLflow. Give one that begins with {'://, '.join(TRACKING)}://, or off."
        )
    if kind == "sqlite" and scheme != kind:
        raise ConfigError(f"{option} {given}: SQLite is named with sqlite:///, as sqlite:///mlflow.db.")
    if kind in ("http", "https") and not _is_server(uri):
        raise ConfigError(f"{option} {given} is no server's address. Give one as http://HOST:PORT, without blanks and without a query.")
    if kind == "sqlite" and (not rest.startswith("/") or rest.partition("?")[0] in ("/", "/:memory:") or "mode=memory" in rest):
        raise ConfigError(f"{option} {given} keeps nothing: it names no file. Give one, as sqlite:///mlflow.db.")
    outputs.check_database(uri, "MLflow's", MLFLOWS, option, damaged=True)


def _is_server(uri: str) -> bool:
    """Return True for http(s)://HOST[:PORT][/PATH], a port within its bounds."""
    try:
        parts = urllib.parse.urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0 and not parts.query and uri == "".join(uri.split()) and "+" not in parts.scheme
    except ValueError:
        return False


def check_receiver(uri: str | None) -> None:
    """Raise ConfigError for an address that nothing can be sent to: `check_tracking`'s, off, and one that names a study."""
    if uri == OFF:
        raise ConfigError(f"--mlflow {OFF} is for a study that is not sent. To send it, give a server's address, or leave --mlflow out.")
    check_tracking(uri)
    if uri and (study := server_and_study(uri)[1]):
        raise ConfigError(f"--mlflow {shown(redact(uri))} names a study, and a study is sent under its folder's name. Leave #{study} out.")


def check_address(address: str) -> None:
    """Raise ConfigError for a text that is no address of a Ray cluster, before the study begins.

    Ray's own words "auto" and "local" pass, and so do addresses of its client (ray://).
    """
    if not address or address in ("auto", "local") or address.startswith("ray://"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or address != "".join(address.split()) or not host or not port.isdecimal() or not 0 < int(port[:9]) < 65_536:
        named = "RAY_ADDRESS" if address == os.environ.get("RAY_ADDRESS") else "--address"
        raise ConfigError(f"{named} {shown(address)} is not HOST:PORT (the head's; 6379 unless it was started with another).")


TRACKERS = {"tensorboard": "tensorboardX"}
"""Trackers beside MLflow that an address names as KIND:FOLDER, and the package that each needs."""


def check_track(address: str | None) -> None:
    """Raise ConfigError for an address that names no tracker, or one whose package is missing, before anything is trained."""
    if address is None:
        return
    kind, _, place = address.partition(":")
    if kind not in TRACKERS or not place or "://" in address:
        raise ConfigError(f"--track {shown(redact(address))} is no tracker. Give KIND:FOLDER, a folder of this machine: tensorboard:runs.")
    if importlib.util.find_spec(TRACKERS[kind]) is None:
        raise ConfigError(f"--track {kind} needs {TRACKERS[kind]}: pip install {TRACKERS[kind]}.")


@dataclass(frozen=True, kw_only=True)
class Options:
    results: str = "results"  # folder or URL for everything a study leaves
    data: str | None = None  # folder that holds fer2013/, deepweeds/
    weights: str | None = None  # folder of pretrained weights
    local: bool = False  # in this process, without Ray
    ray: bool = False  # on Ray; with neither, whatever is expected to end first (study/conduct/runners.py)
    address: str | None = None  # a Ray cluster; else RAY_ADDRESS, else one started on this machine
    cpus_per_worker: float = 1.0
    gpus_per_trial: float | Literal["auto"] | None = None  # None: 1 where there are GPUs; "auto": as the trials' measured memory allows
    concurrent: int | None = None  # most trials at once; None: as many as fit
    mlflow: str | None = None  # server's URI; None: SQLite under the results folder; "off": none
    track: str | None = None  # a tracker beside it: tensorboard:FOLDER
    images: bool = True  # small copies of images on the report; False for private ones
    ends_at: float = math.inf  # unix time by which all should have ended: --hours of mine
    aside: float = 0.0  # hours that are kept for the last stage, however long the stages before it took
    command: str = ""  # how it was asked for: a fact that stands on the report
    arguments: tuple[tuple[str, ...], ...] | None = (
        None  # of a sweep, as data (study/console/typed.py): what its report advises is made of them
    )

    def __post_init__(self) -> None:
        """Raise ConfigError for a number out of bounds or an invalid MLflow address."""
        check_options(cpus_per_worker=self.cpus_per_worker, concurrent=self.concurrent)
        if self.gpus_per_trial != "auto":
            check_options(gpus_per_trial=self.gpus_per_trial)
            if self.gpus_per_trial is not None and self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
                raise ConfigError(f"--gpus-per-trial must be a whole number above 1, not {self.gpus_per_trial!r}: only one GPU is shared.")
        check_address(self.named_cluster)
        if self.mlflow != OFF:
            check_receiver(self.mlflow)
        check_track(self.track)

    @property
    def named_cluster(self) -> str:
        """Return the address of the Ray cluster that the user named; an empty text for this machine."""
        return "" if self.local else self.address or os.environ.get("RAY_ADDRESS", "")

    def left(self) -> float:
        """Return the hours left for a stage that can do with less; never less than the hours set aside for it."""
        return max((self.ends_at - time.time()) / 3600, self.aside)


def server_and_study(source: str) -> tuple[str, str | None]:
    """Return (URI, the study's name behind the last #). A # within a folder's name names no study: no study's name has a slash."""
    uri, mark, name = source.rpartition("#")
    if mark and source.startswith(("http://", "https://")):  # an address has no folders behind its #
        uri, _, name = source.partition("#")
        return uri, name or None
    return (uri, name or None) if mark and "/" not in name else (source, None)
