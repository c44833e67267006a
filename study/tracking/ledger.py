"""The ledger: the only state of a study, as files.

    <results>/<study>/study.json                    the question, facts fixed when it was first asked, and how it grew since
                      selection.json                the trial that represents each cell, and the rule
                      budgets.json                  what longer training brought on validation, and how long each question is confirmed
                      test_lock.json                every opening of the test set
                      delivered.json                the delivered network, by data set, and how it was chosen
                      labelled.json                 pictures that were drawn to be labelled after the verdict, and their labels
                      trials/<id>/config.json       the Ask: written before the trial starts
                                  epochs.jsonl      one EpochRecord a line, appended; behind a URL written when the trial ends,
                                  epochs/000001.json until then one a file, since object stores cannot append
                                  result.json       the TrialResult, written last: its existence means done
                                  attempts.jsonl    one line a start, by the trial's worker
                                  checkpoint/ best/ used by the trial alone (study.storage.checkpoint)
                                  measured/NAME.parquet what was measured on its network (study.measure); predictions first of all

To resume is to read it. Only the sweep's own process writes here, except for a trial's attempts, checkpoints and measurements.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from study.console.text import shown
from study.errors import ConfigError, EnvironmentProblem
from study.question.growth import Change, compare, grow
from study.question.study_config import NAME, Study
from study.records import SCHEMA, TRIAL_ID, Ask, EpochRecord, Stage, TrialResult, dumps
from study.storage.folder import Folder
from study.tracking.reader import ask_of, damaged, epoch_of, result_of, values_of

T = TypeVar("T")

DEFAULTS = "published defaults, not counted"  # the note of an opening: nothing is chosen by what they say, and no verdict rests on it
DELIVERY = "delivery, not counted"  # the note of an opening: chosen by validation alone, it enters no comparison
PICTURES = "pictures.parquet"
STUDY_FILES = (
    "study.json",
    "selection.json",
    "budgets.json",
    "test_lock.json",
    "delivered.json",
    "labelled.json",
    "data_report.json",
    PICTURES,
    "answer.html",
    "report.html",
)
NOT_AGAIN = frozenset({"test_lock.json", "delivered.json", "labelled.json"})
"""Records that nothing writes again: which runs saw the test set, what was handed over, and labels that people gave."""
TRIAL_FILE = re.compile(r"config\.json|epochs\.jsonl|result\.json|measured/[a-z_]+\.parquet")
"""The only names of a trial's files that are copied when a study is carried elsewhere."""
LEFT_BEHIND = frozenset({"epochs.jsonl", "epochs", "result.json", "attempts.jsonl", "measured", "checkpoint", "best"})
"""Names of the files that a trial writes after it was asked for."""
AT_ONCE = 200  # trials held in memory at a time while all are read


class Ledger:
    """The folder of one study."""

    def __init__(self, results: str | os.PathLike[str], study: str, *, origin: str = "") -> None:
        """`origin`: the server that this copy was fetched from, for as long as the process that reads it."""
        self.study_name, self._origin = study, origin
        if not isinstance(study, str):
            raise ConfigError(f"A study's name must be a text, not {shown(repr(study))[:60]}.")
        self.folder = Folder(results) / study
        self._known: tuple[bytes, dict[str, Any]] | None = None  # study.json, as it was read last
        # behind a URL a read is a request: what is written once is read once, and what only this process writes, never again
        self._asks: dict[str, Ask] = {}
        self._results: dict[str, TrialResult] = {}
        self._live: dict[str, list[EpochRecord]] = {}
        self._parts: dict[str, EpochRecord] = {}

    # -- the study ---------------------------------------------------------------------------------
    def study(self) -> Study | None:
        """Return the question with everything it has gained, by the name of its folder; None before it was first asked."""
        return self._study(lambda values: self._named(values["study"]))

    def facts(self) -> dict[str, Any]:
        """Return the facts fixed or found during the run: versions, machine, precision, when it started and finished, its verdicts."""
        return self._study(lambda values: values.get("facts")) or {}

    def begun(self) -> str:
        """Return when the study was first asked, to the microsecond: its copies share it, and no other study of its name has it."""
        return f"{self.facts().get('started_at', 0):.6f}"

    def begin(self, study: Study, facts: dict[str, Any], *, planned: bool = False) -> Study:
        """Write study.json once, and return the study with every cell it ever had, in the order in which they came.

        A study that exists already may have grown since: that is an amendment, recorded with its date. `planned`: the study grew by
        itself within its hours. Raises ConfigError, naming the fields in full, when the question itself would change.
        """
        known, before = self._study(dict), self.study()
        if known is None or before is None:
            study = study.begun({})
            self._write("study.json", {"study": study.as_dict(), "facts": facts})
            return study
        grown, changes = self.grown(study, before, planned=planned)
        if changes:
            amendment = {"at": time.time(), "changes": [c.text for c in changes], "test_open": bool(self.test_openings())}
            amendment |= {"planned": True} if planned else {}
            unfinished = {k: v for k, v in self.facts().items() if k not in ("finished_at", "answers", "verdicts", "picks", "scores")}
            values = {**known, "study": grown.as_dict(), "facts": unfinished, "amendments": [*self.amendments(), amendment]}
            if planned or "asked" in known:
                values["asked"] = known.get("asked", known["study"]) if planned else study.as_dict()
            self._write("study.json", values)
        elif grown.deliver != before.deliver:
            self._write("study.json", {**known, "study": grown.as_dict()})
        return grown

    def grown(self, study: Study, before: Study, *, planned: bool = False) -> tuple[Study, list[Change]]:
        """Return (`before` with the additions of `study`, the changes).

        A study that has grown by its own plan and is asked for as it was last goes on as it is. Raises ConfigError as `grow` does.
        """
        asked = self._study(lambda values: self._named(values["asked"]) if "asked" in values else None)
        if asked is not None and not compare(asked, replace(study, published=asked.published)):
            return replace(before, deliver=study.deliver), []
        return grow(before, study, self.folder.location, planned=planned)

    def amend(self, change: str) -> None:
        """Record what joined the study after its verdict and changes no part of its question; reports say so with its day."""
        values = self._study(dict)
        assert values is not None, "begin() comes first"
        amendment = {"at": time.time(), "changes": [change], "test_open": bool(self.test_openings()), "beside": True}
        self._write("study.json", {**values, "amendments": [*self.amendments(), amendment]})

    def amendments(self) -> list[dict[str, Any]]:
        """Return how the study grew: when (unix time), what changed, and whether the test set was open already."""
        return self._study(lambda values: values.get("amendments")) or []

    def add_facts(self, **facts: Any) -> None:
        values = self._study(dict)
        assert values is not None, "begin() comes first"
        values["facts"] = {**self.facts(), **facts}
        self._write("study.json", values)

    def finished(self) -> bool:
        """Return True where every stage is done and the study's final facts are written."""
        return bool(self.facts().get("finished_at"))

    # -- trials ------------------------------------------------------------------------------------
    def write_ask(self, ask: Ask) -> None:
        self._write(f"trials/{ask.trial_id}/config.json", {"schema": SCHEMA, **ask.as_dict()})

    def trial_ids(self) -> list[str]:
        """Return the names of the trials' folders."""
        return self.folder.names("trials")

    def asks(self, stage: Stage | None = None) -> list[Ask]:
        """Return the trials asked for, in that order, of one stage or of all."""
        found = self.folder.each(self.ask, self.folder.names("trials"))
        return sorted((a for a in found if a is not None and stage in (None, a.stage)), key=lambda a: a.sequence)

    def asks_beside(self, known: dict[str, Ask]) -> list[Ask]:
        """Return the trials asked for, in that order.

        An ask is written once, so those in `known` are not read again; new ones are added to it.
        """
        names = self.trial_ids()
        for ask in self.folder.each(self.ask, [n for n in names if n not in known]):
            if ask is not None:
                known[ask.trial_id] = ask
        return sorted((known[n] for n in names if n in known), key=lambda a: a.sequence)

    def ask(self, trial_id: str) -> Ask | None:
        """Return why and how one trial was asked for; None where it was not. Raises EnvironmentProblem where its other files are here and
        this one is lost."""
        name = f"trials/{trial_id}/config.json"
        if trial_id in self._asks:
            return self._asks[trial_id]
        found = self._made(name, lambda data, path: ask_of(data, trial_id, path))
        if found is not None and self.folder.remote:
            self._asks[trial_id] = found
        if found is None and TRIAL_ID.fullmatch(trial_id):  # other names are none of ours
            left = LEFT_BEHIND.intersection(self.folder.names(f"trials/{trial_id}"))
            if left:  # it is written first of all, so it was here
                raise EnvironmentProblem(f"{self.folder.shown(name)} is missing beside {', '.join(sorted(left))}; {self._way_out(name)}")
        return found

    def append_epoch(self, trial_id: str, record: EpochRecord) -> bool:
        """Append an epoch unless it is there already, since a restarted trial repeats its last ones. Returns True for a new one."""
        known = self.epochs(trial_id)
        if any(e.epoch >= record.epoch for e in known):
            return False
        data = dumps(record.as_dict()).encode()
        if self.folder.remote:
            self.folder.write(f"trials/{trial_id}/epochs/{record.epoch:06d}.json", data)
            self._live[trial_id] = [*known, record]
        else:
            self.folder.append_line(f"trials/{trial_id}/epochs.jsonl", data)
        return True

    def epochs(self, trial_id: str, *, ended: bool = False) -> list[EpochRecord]:
        """Return a trial's completed epochs, in order; `ended`: it has a result.

        Raises EnvironmentProblem, naming file and line, where one is damaged.
        """
        if trial_id in self._live:
            return list(self._live[trial_id])
        name = f"trials/{trial_id}/epochs.jsonl"
        data = self.folder.read(name) or b""
        records = []
        for number, line in enumerate(data.split(b"\n")[:-1], 1):  # a torn last line has no newline and is not read
            with damaged(f"{self.folder.shown(name)}:{number}", self._way_out(name)):
                records.append(epoch_of(line))
        if self.folder.remote and not ended:
            records += [e for e in self._loose(trial_id) if not records or e.epoch > records[-1].epoch]
        return records

    def _loose(self, trial_id: str) -> list[EpochRecord]:
        """Return the epochs that are stored one in a file; each file is read once."""
        names = [f"trials/{trial_id}/epochs/{file}" for file in self.folder.names(f"trials/{trial_id}/epochs")]
        self.folder.each(self._read_loose, [n for n in names if n not in self._parts])
        return [self._parts[n] for n in names if n in self._parts]

    def _read_loose(self, name: str) -> None:
        if (record := self._made(name, lambda data, path: epoch_of(data))) is not None:  # else gathered meanwhile
            self._parts[name] = record

    def attempts(self, trial_id: str) -> int:
        """Return the number of times the trial was started, on any machine."""
        return (self.folder.read(f"trials/{trial_id}/attempts.jsonl") or b"").count(b"\n")

    def write_result(self, result: TrialResult) -> None:
        """Write the result. Behind a URL the trial's epochs are gathered into one file before, so readers of a result find them there."""
        folder = f"trials/{result.trial_id}"
        if self.folder.remote and (epochs := self.epochs(result.trial_id)):
            lines = "".join(dumps(e.as_dict()) + "\n" for e in epochs)
            self.folder.write(f"{folder}/epochs.jsonl", lines.encode())
        self._write(f"{folder}/result.json", {"schema": SCHEMA, **result.as_dict()})
        if self.folder.remote:
            self._results[result.trial_id] = result
            self._live.pop(result.trial_id, None)
            self.folder.remove(f"{folder}/epochs")

    def result(self, trial_id: str) -> TrialResult | None:
        """Return the trial's result; None while it has not ended."""
        if trial_id in self._results:
            return self._results[trial_id]
        found = self._made(f"trials/{trial_id}/result.json", lambda data, path: result_of(data, trial_id, path))
        if found is not None and self.folder.remote:
            self._results[trial_id] = found
            self._parts = {k: v for k, v in self._parts.items() if not k.startswith(f"trials/{trial_id}/")} if self._parts else {}
        return found

    def results(self) -> dict[str, TrialResult]:
        """Return the result of every trial that ended, by id."""
        names = self.folder.names("trials")
        return {k: v for k, v in zip(names, self.folder.each(self.result, names), strict=True) if v is not None}

    def trial(self, trial_id: str) -> "Trial | None":
        """Return everything recorded of a trial; None where it was never asked for."""
        ask = self.ask(trial_id)
        return None if ask is None else self._with(ask)

    def _with(self, ask: Ask) -> "Trial":
        result = self.result(ask.trial_id)
        return Trial(ask, self.epochs(ask.trial_id, ended=result is not None), result)

    def trials(self, asks: Sequence[Ask] | None = None) -> "Iterator[Trial]":
        """Yield the trials of `asks`, or all, in the order of the folders (sort by `ask.sequence` for the order of asking)."""
        if asks is not None:
            for start in range(0, len(asks), AT_ONCE):
                yield from self.folder.each(self._with, asks[start : start + AT_ONCE])
            return
        names = self.trial_ids()
        for start in range(0, len(names), AT_ONCE):
            yield from (t for t in self.folder.each(self.trial, names[start : start + AT_ONCE]) if t is not None)

    def trial_folder(self, trial_id: str) -> Folder:
        """Return the folder of the trial's files, which need not exist yet."""
        return self.folder / f"trials/{trial_id}"

    def files(self, trial_id: str) -> list[str]:
        """Return the files that a reader needs of a trial, by name within its folder: its records and its measurements."""
        here = set(self.folder.names(f"trials/{trial_id}"))
        known = [n for n in ("config.json", "epochs.jsonl", "result.json") if n in here]
        return known + [f"measured/{name}.parquet" for name in self.measurements(trial_id)]

    def measurements(self, trial_id: str) -> list[str]:
        """Return the names of the measurements of the trial's network."""
        found = self.folder.names(f"trials/{trial_id}/measured")
        return [n.removesuffix(".parquet") for n in found if TRIAL_FILE.fullmatch(f"measured/{n}")]

    def measured(self, trial_id: str, name: str) -> bytes | None:
        """Return the Parquet file of a measurement, or None where it was not made."""
        return self.folder.read(f"trials/{trial_id}/measured/{name}.parquet")

    # -- selection and the locked test set -----------------------------------------------------------
    def write_selection(self, rule: str, chosen: dict[str, str], considered: int, by_search: dict[str, list[str]] | None = None) -> None:
        """Write the choice: `chosen`, cell id -> trial id, out of `considered` finished search trials. An earlier choice is kept beside
        it."""
        known = self.selection()
        earlier = [*known.get("earlier", []), {k: v for k, v in known.items() if k not in ("schema", "earlier")}] if known else []
        values: dict[str, Any] = {"schema": SCHEMA, "rule": rule, "chosen": chosen, "considered": considered}
        values |= {"by_search": by_search} if by_search else {}
        self._write("selection.json", values | ({"earlier": earlier} if earlier else {}))

    def selection(self) -> dict[str, Any] | None:
        """Return `rule`, `chosen` (cell id -> trial id), `considered`, and `earlier` choices; None before the search is done."""
        return self._read("selection.json", "Selection")

    def confirmed_trials(self) -> dict[str, list[str]]:
        """Return by cell the search trials whose configurations are confirmed: one, or the winner of each independent search.

        An empty id stands for a search that found none.
        """
        known = self.selection() or {"chosen": {}}
        return known.get("by_search") or {cell: [trial_id] for cell, trial_id in known["chosen"].items()}

    def write_budgets(self, questions: list[dict[str, Any]]) -> None:
        """Write one entry for each question that was decided on."""
        self._write("budgets.json", {"schema": SCHEMA, "questions": questions})

    def budgets(self) -> list[dict[str, Any]]:
        """Return the decisions on longer training, one for each question (the fields of `config.QUESTION`).

        Each has the choice it was made for (`on`: cell -> winners), the `rounds` of the check with each strategy's state and figures, the
        `factor` on the epochs at which it is confirmed, and `earlier` decisions.
        """
        return (self._read("budgets.json", "Budgets") or {}).get("questions", [])

    def winners(self) -> dict[str, Ask]:
        """Return by cell the trial that represents it; empty before the choice. Raises EnvironmentProblem where a chosen trial is missing
        here."""
        found = {cell: (trial_id, self.ask(trial_id)) for cell, trial_id in (self.selection() or {"chosen": {}})["chosen"].items()}
        for cell, (trial_id, ask) in found.items():
            if ask is None:
                name = "selection.json"
                raise EnvironmentProblem(
                    f"{self.folder.shown(name)} chooses {trial_id} for {cell}, which is not here; {self._way_out(name)}"
                )
        return {cell: ask for cell, (_, ask) in found.items() if ask is not None}

    def open_test(self, trial_ids: list[str], note: str = "") -> str:
        """Record that the test set is opened for exactly these confirm runs, and return the lock's hash.

        The same runs, or some of them, may be finished or measured again under the opening that held them. Another run among them is a
        further opening: it is recorded, every report of this study says so, and its verdicts are held to a stricter level. An opening
        with a `note` does not count: its run was chosen by validation alone, and no comparison has it.
        """
        openings = self.test_openings()
        for opening in openings:
            if set(trial_ids) <= set(opening["trials"]) and opening.get("note", "") == note:
                return str(opening["hash"])
        key = hashlib.sha256(dumps(sorted(trial_ids)).encode()).hexdigest()[:16]
        openings.append({"hash": key, "trials": sorted(trial_ids), "at": time.time(), **({"note": note} if note else {})})
        self._write("test_lock.json", {"schema": SCHEMA, "openings": openings})
        return key

    def test_openings(self) -> list[dict[str, Any]]:
        """Return every opening of the test set: `hash`, `trials`, `at` (unix time), and a `note` where it does not count (`looks`)."""
        return (self._read("test_lock.json", "Openings") or {}).get("openings", [])

    def looks(self) -> list[dict[str, Any]]:
        """Return the openings that verdicts rest on. More than one is a caveat of the report."""
        return [o for o in self.test_openings() if "note" not in o]

    # -- what is handed over ---------------------------------------------------------------------------
    def delivered(self) -> dict[str, dict[str, Any]]:
        """Return by data set and split protocol: the delivered trial, how its length was chosen, its scores, and `earlier` ones beside
        it."""
        return (self._read("delivered.json", "Delivered") or {}).get("delivered", {})

    def write_delivered(self, key: str, values: dict[str, Any]) -> None:
        """Write the delivered network of a data set. The one before is kept under `earlier`."""
        known = self.delivered()
        before = known.get(key)
        earlier = [*before.get("earlier", []), {k: v for k, v in before.items() if k != "earlier"}] if before else []
        known[key] = values | ({"earlier": earlier} if earlier else {})
        self._write("delivered.json", {"schema": SCHEMA, "delivered": known})

    # -- pictures that were labelled after the verdict ---------------------------------------------------
    def labelled(self) -> list[dict[str, Any]]:
        """Return every draw of pictures to label, in their order.

        Each has the `folder` and number of `pictures` it was drawn from, the question (the fields of `config.QUESTION`), its `images`
        with their probability and, once it is `filled` (unix time), their label, when labels were `corrected`, what every run `said` of
        them, the `fold` each was put into, and the number of images it counts as (`worth`).
        """
        return (self._read("labelled.json", "Labelled") or {}).get("draws", [])

    def write_labelled(self, draws: list[dict[str, Any]]) -> None:
        self._write("labelled.json", {"schema": SCHEMA, "draws": draws})

    def pictures(self) -> bytes | None:
        """Return the small copies of images that the report shows (`study.conduct.report_pictures`); None where none were wanted."""
        return self.folder.read(PICTURES)

    def data_report(self) -> dict[str, Any]:
        """Return the findings of the data doctor, by data set and split protocol; empty before it has run."""
        return self._read("data_report.json", "DataReports") or {}

    # -- plumbing ----------------------------------------------------------------------------------
    def _study(self, make: Callable[[dict[str, Any]], T]) -> T | None:
        """Return what `make` makes of study.json, or None where there is none."""
        return self._made("study.json", lambda data, path: make(self._values(data, path)))

    def _named(self, values: dict[str, Any]) -> Study:
        """Return the study of these values. A folder that was renamed is the study of that name, as far as it can be one."""
        return Study.from_dict(values | ({"name": self.study_name} if NAME.fullmatch(self.study_name) else {}))

    def _values(self, data: bytes, path: str) -> dict[str, Any]:
        """Return the values of study.json, parsed again when the file is another one. No caller may change them."""
        if self._known is None or self._known[0] != data:
            self._known = data, values_of(data, "StudyFile", path)
        return self._known[1]

    def _read(self, name: str, shape: str) -> dict[str, Any] | None:
        """The values of a file that has this shape of `study.tracking.shapes`; None where there is none."""
        return self._made(name, lambda data, path: values_of(data, shape, path))

    def _made(self, name: str, make: Callable[[bytes, str], T]) -> T | None:
        """Return what `make` makes of the file's bytes and its path, or None where there is none.

        Raises EnvironmentProblem, or ConfigError for another schema.
        """
        data = self.folder.read(name)
        if data is None:
            return None
        path = self.folder.shown(name)
        with damaged(path, self._way_out(name)):
            return make(data, path)

    def _way_out(self, name: str) -> str:
        if self._origin:
            return (
                f"it comes from {self._origin}. Send it there anew: remove mlflow.json from RESULTS/{self.study_name}, then run "
                f"python -m study.tracking sync RESULTS/{self.study_name} --mlflow {self._origin}."
            )
        if name.startswith("trials/"):
            trial = self.folder.shown("/".join(name.split("/")[:2]))
            return f"restore it from a backup, or remove {trial} to run this trial again."
        if name == "study.json":
            return "restore it from a backup, or begin anew under another name."
        if name in NOT_AGAIN:
            return "restore it from a backup, or move it away and lose what it holds: nothing writes that again (docs/files.md)."
        return "restore it from a backup, or remove it to have it written again."

    def _write(self, name: str, values: dict[str, Any]) -> None:
        self.folder.write(name, (dumps(values, indent=1) + "\n").encode())


class Trial(NamedTuple):
    ask: Ask
    epochs: list[EpochRecord]
    result: TrialResult | None


SERVERS = ("http://", "https://", "sqlite://", "postgresql://", "mysql://")
"""The ways in which an MLflow server's address begins."""


def placed(place: str) -> tuple[str, str]:
    """Split RESULTS/STUDY[:CELL] into a study's folder, or a results folder that holds one, and the text behind the colon.

    A server's address is taken as it is. Raises ConfigError where there is no study.
    """
    if place.startswith(SERVERS):
        return place, ""
    for at in [*(k for k, c in enumerate(place) if c == ":" and not place.startswith("://", k)), len(place)]:
        if Folder(place[:at]).exists("study.json") or studies(place[:at]):
            return place[:at], place[at + 1 :]
    find(place)  # raises, and says what was looked for
    return place, ""


def studies(results: str | os.PathLike[str]) -> list[str]:
    """Return the names of the studies under a results folder."""
    folder = Folder(os.fspath(results))
    return [n for n in folder.names() if (folder / n).exists("study.json")]


def find(location: str) -> Ledger:
    """Return the ledger at a study's own folder (or its study.json), or at a results folder that holds exactly one. Raises ConfigError."""
    location = location.rstrip("/").removesuffix("/study.json")
    if Folder(location).exists("study.json"):
        parent, _, name = (location if "://" in location else os.path.abspath(location)).rpartition("/")
        return Ledger(parent, name)
    names = studies(location)
    if len(names) == 1:
        return Ledger(location, names[0])
    raise ConfigError(
        f"{location} holds {len(names)} studies ({', '.join(names)}). Name one: {location}/NAME."
        if names
        else f"{location} holds no study: neither {location}/study.json nor {location}/*/study.json exists."
    )
