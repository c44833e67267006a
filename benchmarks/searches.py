"""One way to search, in a process of its own, for `benchmarks.study` to compare.

    python -m benchmarks.searches STUDY.json RESULTS [ASKS.json]

It runs the search of STUDY.json on Ray, as the sweep does. With ASKS.json it runs the trials named there instead, none stopped early.
"""

import json
import sys
from pathlib import Path

from study.console.signals import interruptible
from study.question.study_config import Study
from study.records import Ask
from study.search.conductor import Conductor
from study.search.on_ray import tuner
from study.search.on_ray.cluster import cluster
from study.search.optuna_cells import SearchPlan
from study.search.plans import FixedPlan, Plan
from study.search.resources import Resources
from study.storage.places import Places
from study.tracking.ledger import Ledger


def main() -> None:
    study, results = Study.from_dict(json.loads(Path(sys.argv[1]).read_text())), sys.argv[2]
    ledger = Ledger(results, study.name)
    ledger.begin(study, {})
    plan: Plan = SearchPlan(study, ledger)
    if len(sys.argv) > 3:
        plan = FixedPlan([Ask.from_dict(a) for a in json.loads(Path(sys.argv[3]).read_text())], set())
    conductor = Conductor(plan, ledger, lambda config: list("abcdefg"), lambda *event: None)
    with interruptible() as interrupted, cluster(None) as connected:
        tuner.run(
            conductor, lambda ask: Places(folder=ledger.trial_folder(ask.trial_id).location), total=plan.total,
            resources=Resources(concurrent=2), cluster=connected, storage=f"{results}/.ray", measurements=(), interrupted=interrupted,
        )  # fmt: skip


if __name__ == "__main__":
    main()
