"""The code that `mlflow.pyfunc.load_model` runs, with the copy of `study.inference` in the model's folder `code`.

Input: pictures, each the base64 text or the bytes of an image file, or pixels [H, W, 1, 3 or 4]. Output: a DataFrame with a row for each
picture and a column for each class; with the parameter `sets`, a level such as 0.95, also the column in_set, a list of the classes that
may be the true one. Each picture is scored alone, so the others in a request change no digit of its answer.
"""

import base64
import binascii
import importlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext


class NoPicture(MlflowException):
    """An error answered with status 400. The scoring server puts the whole request before its message; our answer has the one line
    alone."""

    def __init__(self, line: str) -> None:
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)
        self.line = line

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self.line})


class FineTuned(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        (carried,) = (Path(__file__).parent / "code").glob("inference_*")
        self.pictures = importlib.import_module(f"{carried.name}.pictures")
        classifier = importlib.import_module(f"{carried.name}.classifier")
        self.sets = importlib.import_module(f"{carried.name}.sets")
        best = Path(context.artifacts["best"])
        manifest = json.loads((best / "manifest.json").read_text())
        self.classes, self.least = manifest["classes"], manifest.get("sets", {}).get("least_probability", {})
        self.classifier = classifier.Classifier.from_folder(best)

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        least = self.least_of((params or {}).get("sets", 0))
        pictures = [self.picture(k, row) for k, row in enumerate(np.atleast_1d(model_input))]
        rows = [self.classifier.probabilities([picture]) for picture in pictures]
        shares = np.concatenate([np.zeros((0, len(self.classes)), np.float32), *rows])
        out = pd.DataFrame(shares, columns=self.classes)
        if least is not None:
            inside = self.sets.members(shares, least)
            out["in_set"] = [[self.classes[k] for k in np.argsort(-row) if own[k]] for row, own in zip(shares, inside, strict=True)]
        return out

    def least_of(self, level: float) -> float | None:
        """Return the least probability of a class in a set, or None where no sets are asked for.

        Raises NoPicture naming the levels that there are.
        """
        if not level:
            return None
        if f"{level:g}" not in self.least:
            raise NoPicture(f"sets {level:g} is no level of this model. It has {', '.join(self.least)}.")
        return float(self.least[f"{level:g}"])

    def picture(self, number: int, row: Any) -> np.ndarray:
        """Return the row as uint8 [H, W, 1, 3 or 4]. Raises NoPicture naming the row."""
        try:
            if isinstance(row, str):
                row = base64.b64decode("".join(row.split()), validate=True)
            if isinstance(row, bytes):
                decoded: np.ndarray = self.pictures.decode(io.BytesIO(row), self.classifier.channels)
                return decoded
            return pixels(row)
        except binascii.Error as error:
            raise NoPicture(f"row {number} (the first is 0) is no picture: not base64 ({error}). Send an image file's bytes so.") from None
        except ValueError as error:
            raise NoPicture(f"row {number} (the first is 0) is no picture: {error}.") from None


def pixels(row: Any) -> np.ndarray:
    """Return numbers of any integer type, or lists of them, as uint8 [H, W, 1, 3 or 4]. Raises ValueError."""
    rule = "send an image file in base64, or whole numbers from 0 to 255 [H, W, 1, 3 or 4]"
    try:
        array = np.asarray(row.tolist() if isinstance(row, np.ndarray) and row.dtype == object else row)
    except ValueError:
        raise ValueError(f"its lists are of different lengths; {rule}") from None
    if array.dtype.kind not in "ui" or array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or array.size == 0:
        raise ValueError(f"{type(row).__name__} of shape {list(array.shape)} and type {array.dtype}; {rule}")
    if array.min() < 0 or array.max() > 255:
        raise ValueError(f"values from {array.min()} to {array.max()}; {rule}")
    return array.astype(np.uint8)


set_model(FineTuned())
