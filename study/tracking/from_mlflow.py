"""The mirror read back: a study's ledger folder rebuilt, byte for byte, from an MLflow server alone."""

from pathlib import Path

from study.errors import ConfigError, EnvironmentProblem
from study.tracking.client import KEY, connect
from study.tracking.explain import explain
from study.tracking.ledger import STUDY_FILES, TRIAL_FILE, Ledger


def read(uri: str, study: str | None, cache: Path) -> Ledger:
    """The ledger of `study` (may be left out where the server holds one), rebuilt under `cache`.

    Raises ConfigError when the server holds no such study, EnvironmentProblem when it does not answer.
    """
    from mlflow.artifacts import download_artifacts

    try:
        client = connect(uri)
        parents = {}
        for experiment in client.search_experiments():
            for run in client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{experiment.name}:'", max_results=1):
                parents[experiment.name] = (experiment.experiment_id, run)
        name = study or (next(iter(parents)) if len(parents) == 1 else None)
        if name not in parents:
            raise ConfigError(f"{uri} holds {len(parents)} studies ({', '.join(sorted(parents)) or 'none'}); name one: {uri}#NAME.")
        experiment_id, parent = parents[name]
        ledger = Ledger(cache, name)
        runs, token = [], None
        while True:
            page = client.search_runs([experiment_id], f"tags.`{KEY}` LIKE '{name}:%'", max_results=1000, page_token=token)
            runs += list(page)
            token = page.token
            if not token:
                break
        for run in [parent, *(r for r in runs if "trial" in r.data.tags)]:
            trial = run.data.tags.get("trial")
            there = [a.path for a in client.list_artifacts(run.info.run_id)]
            if "measured" in there:
                there += [a.path for a in client.list_artifacts(run.info.run_id, "measured")]
            for file in (f for f in there if (TRIAL_FILE.fullmatch(f) if trial else f in STUDY_FILES)):
                local = download_artifacts(run_id=run.info.run_id, artifact_path=file, tracking_uri=uri)
                ledger.folder.write(f"trials/{trial}/{file}" if trial else file, Path(local).read_bytes())
    except ConfigError:
        raise
    except Exception as error:
        raise EnvironmentProblem(explain(error, uri)) from error
    return ledger
