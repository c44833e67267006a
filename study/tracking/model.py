"""A trial's best checkpoint as an MLflow model: plain weights and this code, no pickle."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from study.files import Folder

FILES = ("manifest.json", "model.safetensors")


def register(client: Any, name: str, run: str, folder: Folder, tags: dict[str, str]) -> None:
    """Saves `folder`/best as a pyfunc model of `run` and registers it as a version of `name`, once a run."""
    import json

    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if client.search_model_versions(f"run_id = '{run}'"):
        return
    with tempfile.TemporaryDirectory() as temporary:
        best = Path(temporary, "best")
        best.mkdir()
        for file in FILES:
            data = folder.read(f"best/{file}")
            assert data is not None
            (best / file).write_bytes(data)
        manifest = json.loads((best / "manifest.json").read_text())
        size, channels = manifest["image_size"], manifest["channels"]
        mlflow.pyfunc.save_model(
            Path(temporary, "model"),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"best": str(best)},
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, channels))]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(manifest["classes"])))]),
            ),
            input_example=np.zeros((1, size, size, channels), np.uint8),
            pip_requirements=["torch", "timm", "safetensors"],
            metadata={"classes": manifest["classes"]},
        )
        client.log_artifacts(run, str(Path(temporary, "model")), "model")
    client.create_model_version(name, source=f"{client.get_run(run).info.artifact_uri}/model", run_id=run, tags=tags)
