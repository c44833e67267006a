"""An MLflow model of the network that a trial kept. It needs nothing of this project: it has plain weights and a copy of
`study.inference`."""

import base64
import hashlib
import importlib.metadata
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from study import early, inference
from study.records import dumps
from study.scoring.metric import DEFAULT, find_metric
from study.storage.folder import Folder
from study.tracking.names import CALIBRATED, NETWORK

FILES = ("manifest.json", "model.safetensors")
PACKAGES = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "timm", "torch", "torchvision")


BEST = "best"  # alias of the version to use


def register(
    client: Any,
    name: str,
    run: str,
    folder: Folder,
    tags: dict[str, str],
    temperature: float = 1.0,
    sets: Mapping[str, Any] | None = None,
    about: str = "",
) -> str:
    """Save `folder`/best as a pyfunc model of `run`, register it once for each run as a version of `name`, and return the version."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    place = NETWORK if temperature == 1 and not sets else CALIBRATED
    known = [v for v in client.search_model_versions(f"name = '{name}'") if v.run_id == run]
    if known and any(f.path == place for f in client.list_artifacts(run)):
        return str(known[0].version)
    with early.temporary() as temporary:
        save(folder, Path(temporary, "model"), temperature, sets)
        client.log_artifacts(run, str(Path(temporary, "model")), place)
    if known:  # its files were lost, and lie where they lay
        return str(known[0].version)
    source = f"{client.get_run(run).info.artifact_uri}/{place}"
    return str(client.create_model_version(name, source=source, run_id=run, tags=tags, description=about or None).version)


def register_best(client: Any, name: str, run: str, folder: Folder, pick: Mapping[str, Any], tags: dict[str, str]) -> None:
    """Register the network to use of a data set as `models:/NAME@best`, with its test score; `pick` is as in the study's facts."""
    metric = find_metric(pick.get("metric", DEFAULT.text))
    scores = {f"validation_{metric.name}": f"{pick['validation']:.4f}", "temperature": f"{pick['temperature']:.4f}"}
    said = f"Validation {metric.words} {100 * pick['validation']:.1f}, by which it was chosen: optimistic. Not confirmed, no test score."
    if test := pick["test"]:
        scores |= {f"test_{metric.name}{end}": f"{test[key]:.4f}" for end, key in (("", "mean"), ("_low", "low"), ("_high", "high"))}
        interval = f"{100 * test['low']:.1f} to {100 * test['high']:.1f}"
        said = f"Test {metric.words} {100 * test['mean']:.1f} (95 % interval over test images {interval}). No test score chose it."
    about = " ".join(filter(None, [f"{pick['cell']}: {pick['reason']}.", pick.get("delivered", ""), said, _probabilities(pick)]))
    version = register(client, name, run, folder, tags | scores, pick["temperature"], pick.get("sets"), about)
    client.set_registered_model_alias(name, BEST, version)


def _probabilities(pick: Mapping[str, Any]) -> str:
    """Return a sentence about the probabilities and their error. Studies from before this fact was recorded have no measured error."""
    told = (
        "probabilities as trained" if pick["temperature"] == 1 else f"temperature {pick['temperature']:.2f}, whose error was not measured"
    )
    return f"Probabilities: {pick.get('probabilities', told)}."


def save(folder: Folder, target: Path, temperature: float = 1.0, sets: Mapping[str, Any] | None = None) -> None:
    """Writes `folder`/best as a pyfunc model to `target`, which must not exist: docs/serving.md says what it takes and gives.
    `temperature`: what its logits are divided by before they become probabilities; `sets`: the facts of its prediction sets."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    with early.temporary() as temporary:
        best = Path(temporary, "best")
        best.mkdir()
        for file in FILES:
            data = folder.read(f"best/{file}")
            assert data is not None
            (best / file).write_bytes(data)
        manifest = json.loads((best / "manifest.json").read_text())
        more: dict[str, Any] = ({} if temperature == 1 else {"temperature": temperature}) | ({"sets": dict(sets)} if sets else {})
        if more:
            manifest |= more
            (best / "manifest.json").write_text(dumps(manifest))
        params: dict[str, Any] = {"params": ParamSchema([ParamSpec("sets", "double", 0.0)])} if sets else {}
        mlflow.pyfunc.save_model(
            target,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            code_paths=[str(carry(Path(temporary)))],
            artifacts={"best": str(best)},
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
                outputs=Schema([ColSpec("float", name) for name in manifest["classes"]]),
                **params,
            ),
            input_example=np.array([example(manifest["image_size"], manifest["channels"])], dtype=object),
            pip_requirements=requirements(),
            metadata={"classes": manifest["classes"]},
        )


def carry(into: Path) -> Path:
    """Copy `study.inference` under a name made from its contents, since a process may load models that carry different versions of it."""
    source = Path(inference.__file__).parent
    files = sorted(source.glob("*.py"))
    mark = hashlib.sha256(b"\0".join(f.name.encode() + b"\0" + f.read_bytes() for f in files)).hexdigest()[:12]
    target = into / f"inference_{mark}"
    target.mkdir()
    for file in files:
        shutil.copyfile(file, target / file.name)
    return target


def requirements() -> list[str]:
    """Return the packages as installed here, without local parts such as +cpu in 2.15.0+cpu: an index may not have that build."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]


def example(size: int, channels: int) -> str:
    """Return a grey PNG file in base64."""
    file = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (size, size), (128,) * channels if channels > 1 else 128).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
