"""Networks in the server's model registry: what each search chose, and by the alias `best` the one to use of every data set."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from study.errors import EnvironmentProblem
from study.question.trial_config import TrialConfig
from study.records import Ask
from study.tracking import events
from study.tracking.explain import explain
from study.tracking.ledger import Ledger
from study.tracking.sender import Sender


class Catalogue:
    """One study's models on one server. What is registered stands in the cursor."""

    def __init__(self, ledger: Ledger, sender: Sender) -> None:
        self._ledger, self._sender = ledger, sender

    def register(self, ask: Ask) -> None:
        """Register the chosen trial's network as a model version, loadable by mlflow.pyfunc.load_model."""
        from study.tracking.model import register

        folder, tags = self._ledger.trial_folder(ask.trial_id), events.cell_tags(TrialConfig.from_dict(ask.config).cell)
        name = self._name(*(tags[k] for k in ("dataset", "splits", "backbone", "strategy")))
        with _blamed():
            register(self._sender.runs.client, name, self._sender.cursor.runs[ask.trial_id], folder, {"trial": ask.trial_id, **tags})
        with self._sender.got(1) as cursor:
            cursor.models.add(ask.trial_id)

    def name_best(self, picks: list[dict[str, Any]]) -> None:
        """Register the network to use of every data set: chosen with the verdict, so it comes with the study's last word."""
        from study.tracking.model import BEST, register_best

        for pick in picks:
            trial, name = str(pick["trial"]), self._name(pick["of"])
            folder, ask, key = self._ledger.trial_folder(trial), self._ledger.ask(trial), f"{BEST}:{name}:{trial}"
            known, run = self._sender.cursor.models, self._sender.cursor.runs.get(trial)
            if ask is None or key in known or run is None or not folder.exists("best/manifest.json"):
                continue
            tags = {"trial": trial, **events.cell_tags(TrialConfig.from_dict(ask.config).cell)}
            with _blamed():
                register_best(self._sender.runs.client, name, run, folder, pick, tags)
            with self._sender.got(1) as cursor:
                cursor.models = {m for m in known if not m.startswith(f"{BEST}:{name}:")} | {key}

    def _name(self, *parts: str) -> str:
        """Return a model's name; servers refuse some characters."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([self._sender.runs.study, *parts]))


@contextmanager
def _blamed() -> Iterator[None]:
    """Name a registry that the user keeps elsewhere for its own faults."""
    try:
        yield
    except Exception as error:
        if not (registry := os.environ.get("MLFLOW_REGISTRY_URI")):
            raise
        raise EnvironmentProblem(f"MLFLOW_REGISTRY_URI {explain(error, registry)}") from error
