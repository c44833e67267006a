"""A trial's best checkpoint as an MLflow model that needs nothing of this project: plain weights, and a copy of `study.inference`."""

import base64
import hashlib
import importlib.metadata
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from study import inference
from study.files import Folder

FILES = ("manifest.json", "model.safetensors")
PACKAGES = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "timm", "torch", "torchvision")


def register(client: Any, name: str, run: str, folder: Folder, tags: dict[str, str]) -> None:
    """Saves `folder`/best as a pyfunc model of `run` and registers it as a version of `name`, once a run."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if client.search_model_versions(f"run_id = '{run}'"):
        return
    with tempfile.TemporaryDirectory() as temporary:
        save(folder, Path(temporary, "model"))
        client.log_artifacts(run, str(Path(temporary, "model")), "model")
    client.create_model_version(name, source=f"{client.get_run(run).info.artifact_uri}/model", run_id=run, tags=tags)


def save(folder: Folder, target: Path) -> None:
    """Writes `folder`/best as a pyfunc model to `target`, which must not exist: docs/serving.md says what it takes and gives."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    with tempfile.TemporaryDirectory() as temporary:
        best = Path(temporary, "best")
        best.mkdir()
        for file in FILES:
            data = folder.read(f"best/{file}")
            assert data is not None
            (best / file).write_bytes(data)
        manifest = json.loads((best / "manifest.json").read_text())
        mlflow.pyfunc.save_model(
            target,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            code_paths=[str(carry(Path(temporary)))],
            artifacts={"best": str(best)},
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
                outputs=Schema([ColSpec("float", name) for name in manifest["classes"]]),
            ),
            input_example=np.array([example(manifest["image_size"], manifest["channels"])], dtype=object),
            pip_requirements=requirements(),
            metadata={"classes": manifest["classes"]},
        )


def carry(into: Path) -> Path:
    """A copy of `study.inference`, under a name made from its contents: a process may load models that carry different versions of it."""
    source = Path(inference.__file__).parent
    files = sorted(source.glob("*.py"))
    mark = hashlib.sha256(b"\0".join(f.name.encode() + b"\0" + f.read_bytes() for f in files)).hexdigest()[:12]
    target = into / f"inference_{mark}"
    target.mkdir()
    for file in files:
        shutil.copyfile(file, target / file.name)
    return target


def requirements() -> list[str]:
    """The packages as installed here. A local part, as in 2.15.0+cpu, names a build that an index may not have."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]


def example(size: int, channels: int) -> str:
    """A grey PNG file in base64."""
    file = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (size, size), (128,) * channels if channels > 1 else 128).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
