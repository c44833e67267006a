"""The way back from MLflow: a study's ledger folder, rebuilt byte for byte from a server alone.

A server is not trusted. Names are matched before they become paths, and sizes are bounded. All of it happens in a process of its own
(`python -m study.tracking fetch`), which is ended when time is up.
"""

import functools
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from study import early
from study.console.progress import warn
from study.console.text import redact, shown
from study.errors import ConfigError, DataError, EnvironmentProblem
from study.question.study_config import NAME, check_name
from study.records import TRIAL_ID
from study.storage import lock
from study.storage.folder import Folder
from study.tracking import fetched
from study.tracking.client import KEY, SQLITE, connect, deleted_there
from study.tracking.explain import explain
from study.tracking.follower import child_environment
from study.tracking.ledger import STUDY_FILES, TRIAL_FILE, Ledger
from study.tracking.moved import Moved, moved
from study.tracking.reader import DAMAGES, damaged, parse

if TYPE_CHECKING:
    from mlflow.entities import Experiment

LARGEST_FILE = 256 * 1024**2  # bytes, of a study or a trial
LARGEST_MEMORY = 8 * 1024**3  # bytes of address space beside what is taken: an answer without end must not take the machine along
RUNS_A_PAGE = 200
ENDED = ("FINISHED", "FAILED")  # what a trial's run is once all of its files are there
ANEW = "Send all anew: remove mlflow.json from the study's own folder, then sync"
SHOWN = 3  # trials that are named
DEADLINE_S = 600.0  # for all of it; STUDY_MLFLOW_DEADLINE sets another


def read(uri: str, study: str | None, cache: Path, deadline: float | None = None, *, overwrite: bool = False) -> Ledger:
    """Return the ledger of `study`, rebuilt under `cache` within `deadline` seconds. A server with one study needs no name.

    `overwrite`: as of `fetch`. Raises ConfigError when the server holds no such study, EnvironmentProblem when it does not answer, not in
    time, or not as a server of ours would.
    """
    seconds = deadline or _deadline()
    command = [sys.executable, "-m", "study.tracking", "fetch", str(cache), "--alone", *(["--overwrite"] if overwrite else [])]
    command += ["--study", study] if study else []
    try:
        done = subprocess.run(command, env=child_environment(uri), capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(
            f"{redact(uri)} did not give the study within {seconds:g} s. Look after it, or allow more seconds with STUDY_MLFLOW_DEADLINE."
        ) from None
    if done.returncode == 0:
        for line in done.stderr.splitlines():
            if line.startswith("warning: "):
                print(shown(line), file=sys.stderr)
        return Ledger(cache, done.stdout.strip().splitlines()[-1], origin=redact(uri))
    said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    kind = {e.exit_code: e for e in (ConfigError, DataError)}.get(done.returncode, EnvironmentProblem)
    raise kind(shown(said.removeprefix("error: "))[:1000])


def fetch(uri: str, study: str | None, cache: Path, *, overwrite: bool = False) -> Ledger:
    """Rebuild the ledger within this process, which must not be needed afterwards: its memory is limited, and only the caller can stop
    it.

    Files that are there already and differ from what was fetched are kept and ConfigError is raised, unless `overwrite`.
    """
    if Folder(os.fspath(cache)).exists("study.json"):
        own = cache.absolute()
        raise ConfigError(f"{own} is a study's own folder, and a study is fetched into the one that holds it: {own.parent}.")
    if study is not None:
        check_name(study)
    with _limited_to(psutil.Process().memory_info().vms + LARGEST_MEMORY, "RLIMIT_AS"):
        try:
            check_there(uri)
            client = connect(uri)
            experiment, ledger = _fetch(client, uri, study, cache, overwrite)
            if gone := deleted_there(client, uri, ledger.study_name, experiment):
                warn(f"{gone}. They are left out")
            return ledger
        except (ConfigError, EnvironmentProblem):
            raise
        except MemoryError:
            raise EnvironmentProblem(f"{redact(uri)} answers with more than memory holds. Is it MLflow?") from None
        except Exception as error:
            raise EnvironmentProblem(explain(error, uri)) from error


def check_there(uri: str) -> None:
    """Raise ConfigError for an SQLite file that does not exist, since reading would make it."""
    if uri.startswith(SQLITE) and not os.path.exists(path := uri.removeprefix(SQLITE).partition("?")[0]):
        raise ConfigError(f"{shown(redact(uri))}: there is no file {shown(path)}. A path of three slashes starts at {os.getcwd()}.")


def _fetch(client: Any, uri: str, study: str | None, cache: Path, overwrite: bool) -> "tuple[Experiment, Ledger]":
    found = _studies(client, uri, study)
    if len(found) != 1:
        raise ConfigError(which_one(uri, study, sorted(_studies(client, uri, None))))
    ((name, (experiment, root)),) = found.items()
    ledger = Ledger(cache, name)
    lost = set[str]()
    everything = functools.partial(_everything, client, uri, name, experiment.experiment_id, root, lost)
    if not ledger.folder.exists("study.json"):
        there = ledger.folder.names("")  # a folder that holds something else, or what is left of a fetch
        fetched.write(ledger.folder, everything(), fetched.check(ledger.folder, everything(), overwrite=overwrite) if there else {})
        if not ledger.folder.exists("study.json"):
            raise EnvironmentProblem(
                f"{redact(uri)} has the runs of {name} and not its files: what lay in the folder of its artifacts is gone. Restore "
                f"that folder, or send them anew: python -m study.tracking sync RESULTS/{name} --mlflow {redact(uri)}"
            )
    else:
        with lock.held(ledger.folder):
            known = fetched.check(ledger.folder, everything(), overwrite=overwrite)
            fetched.write(ledger.folder, everything(), known)
    if lost:
        warn(f"{redact(uri)}: the records of {len(lost)} finished trials are not whole there ({_some(lost)}). {ANEW}. They are left out")
    return experiment, ledger


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:SHOWN]) + " and others" * (len(names) > SHOWN)


def _studies(client: Any, uri: str, only: str | None) -> "dict[str, tuple[Experiment, Any]]":
    """Return for each study on the server, or for `only` this one: (its experiment, its own run)."""
    found = {}
    for experiment in _pages(uri, lambda token: client.search_experiments(page_token=token)):
        name = experiment.tags.get(KEY) or experiment.name  # a person may have renamed it
        if NAME.fullmatch(name) and only in (None, name):
            for run in client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{name}:'", max_results=1):
                found[name] = (experiment, run)
    return found


def which_one(uri: str, study: str | None, there: Sequence[str]) -> str:
    """Return the error's text where the address does not mean exactly one study: it names those that are there."""
    where = redact(uri)
    if not there:
        return f"{where} holds no study. Send one there first: python -m study.tracking sync RESULTS/STUDY --mlflow {where}"
    said = f"no study {shown(study)}" if study else f"{len(there)} studies"
    return f"{where} holds {said}. Name one of {', '.join(there)} with --study, or as {where}#{there[0]}."


def _everything(client: Any, uri: str, name: str, experiment_id: str, root: Any, lost: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the study on the server, by its name within the study's folder, those of one trial in memory at a time.

    Trials that ended and whose records are not whole there are left out and added to `lost`. Raises EnvironmentProblem for such a file of
    the study.
    """
    place = (moved(uri, name) or Moved("-", "-")).place
    for file, data in _files(uri, root, place, lambda f: f in STUDY_FILES):
        if file.endswith(".json"):
            with damaged(f"{redact(uri)}: {file} of {name}", f"{ANEW}."):
                parse(data)
        yield file, data
    query = f"tags.`{KEY}` LIKE '{name}:%'"
    for run in _pages(uri, lambda token: client.search_runs([experiment_id], query, max_results=RUNS_A_PAGE, page_token=token)):
        trial = run.data.tags.get("trial")
        if trial is None:
            continue
        if not TRIAL_ID.fullmatch(trial):
            raise EnvironmentProblem(
                f"{redact(uri)} names a trial {shown(trial)[:60]!r}: no trial of ours. The server is not to be trusted."
            )
        files = dict(_files(uri, run, place, lambda f: TRIAL_FILE.fullmatch(f) is not None))
        if run.info.status in ENDED and not _is_whole(files):
            lost.add(trial)
            continue
        for file, data in files.items():
            yield f"trials/{trial}/{file}", data


def _is_whole(files: Mapping[str, bytes]) -> bool:
    """Return True where the files of a trial that ended hold its question, its result, and each of its epochs."""
    try:
        parse(files["config.json"])
        return files.get("epochs.jsonl", b"").count(b"\n") >= parse(files["result.json"])["epochs"]
    except DAMAGES:
        return False


def _pages(uri: str, ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield the entries of a paged answer. Raises EnvironmentProblem where the server repeats itself."""
    token, seen = None, set[str]()
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
        if token in seen:
            raise EnvironmentProblem(f"{redact(uri)} repeats a page of its answer for ever. Update or restart it.")
        seen.add(token)


def _files(uri: str, run: Any, place: Callable[[str], str], ours: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of a run's files that are ours. Raises EnvironmentProblem for one larger than any of ours can be."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store = get_artifact_repository(place(run.info.artifact_uri), tracking_uri=uri)
    there = store.list_artifacts()
    if any(f.is_dir and f.path == "measured" for f in there):
        there += store.list_artifacts("measured")
    for file in there:
        if not file.is_dir and ours(file.path):
            if (file.file_size or 0) > LARGEST_FILE:
                raise _too_large(file.path, run)
            yield file.path, _download(store, run, file.path)


def _download(store: Any, run: Any, file: str) -> bytes:
    """Return a file's bytes, at most LARGEST_FILE of them, no matter which size was announced."""
    with early.temporary() as folder, _limited_to(LARGEST_FILE, "RLIMIT_FSIZE"):
        try:
            return Path(store.download_artifacts(file, folder)).read_bytes()
        except Exception:
            if any(p.is_file() and p.stat().st_size >= LARGEST_FILE for p in Path(folder).rglob("*")):
                raise _too_large(file, run) from None
            raise


def _too_large(file: str, run: Any) -> EnvironmentProblem:
    trial = run.data.tags.get("trial")
    whose = f"trial {shown(trial)[:60]}" if trial else "the study"
    return EnvironmentProblem(f"{file} of {whose} is larger than {LARGEST_FILE // 1024**2} MB on the server: no file of ours is. Refused.")


@contextmanager
def _limited_to(size: int, what: str) -> Iterator[None]:
    """Hold this process within a limit of the system; nothing changes where the system has none, or a tighter one holds."""
    kind = getattr(resource, what)
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft > size:
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def _deadline() -> float:
    text = os.environ.get("STUDY_MLFLOW_DEADLINE", str(DEADLINE_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"STUDY_MLFLOW_DEADLINE must be a number of seconds, not {text!r}.")
    return seconds
