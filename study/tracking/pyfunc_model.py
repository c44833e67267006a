"""What `mlflow.pyfunc.load_model` runs: images uint8 [N, H, W, C] in, probabilities float32 [N, classes] out."""

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class FineTuned(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        from study.predictor import Predictor

        self.predictor = Predictor.from_folder(context.artifacts["best"])

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        return self.predictor(np.asarray(model_input, dtype=np.uint8))


set_model(FineTuned())
