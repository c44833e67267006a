"""Refusals of a tracking server are told by the error's code: texts of others, ids among them, hold any digits."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.utils.rest_utils import verify_rest_response
from requests import HTTPError

from study.tracking.explain import explain

URI = "http://tracking.example:4030"
TEXTS = (
    "Run with id=8f4012c7 not found", "no run 1403", "class 'unauthorized' twice", "API request to http://h:4010/api failed to resolve h",
    "404 images, 401 rows", "Forbidden fruit", "must be below 403", "id 403e1 RESOURCE_DOES_NOT_EXIST", "row 10 of 4033 is UNAUTHORIZED",
)  # fmt: skip
MEANT = {
    "CUSTOMER_UNAUTHORIZED": "(401)",
    "UNAUTHENTICATED": "(401)",
    "PERMISSION_DENIED": "(403)",
    "RESOURCE_DOES_NOT_EXIST": "lost its runs",
    "NOT_FOUND": "lost its runs",
}
SAID = ("(401)", "(403)", "lost its runs")


@pytest.mark.parametrize("code", ErrorCode.keys())
def test_a_code_decides_and_no_text(code: str) -> None:
    for text in TEXTS:
        local, sent = MlflowException(text, ErrorCode.Value(code)), RestException({"error_code": code, "message": text})
        for error in (local, sent):
            line = explain(error, URI)
            assert [s for s in SAID if s in line] == ([MEANT[code]] if code in MEANT else []), line


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", [RuntimeError, OSError, KeyError, MlflowException])
def test_an_error_without_a_code_refused_no_login(kind: type[Exception], text: str) -> None:
    assert not [s for s in SAID if s in explain(kind(text), URI)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 500, 502, 503])
def test_an_answer_counts_by_its_status(status: int) -> None:
    wanted = {401: "(401)", 403: "(403)", 404: "lost its runs"}.get(status)
    for text in TEXTS:
        answer = SimpleNamespace(status_code=status, text=text)
        with pytest.raises(MlflowException) as whole:
            verify_rest_response(answer, "/api/2.0/mlflow/runs/get")
        for error in (whole.value, HTTPError(text, response=answer)):
            line = explain(error, URI)
            there = status == 404 and "knows no MLflow at that path" in line  # whose server it is, not every answer tells
            assert there or [s for s in SAID if s in line] == ([wanted] if wanted else []), line


@pytest.mark.parametrize(
    ("uri", "said"), [("sqlite:///mlflow.db", True), ("sqlite:///a/b.db", True), ("sqlite:////full/mlflow.db", False), (URI, False)]
)
def test_a_relative_path_says_from_where(uri: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder has another database, in which there is nothing."""
    monkeypatch.chdir(tmp_path)
    line = explain(MlflowException("Run with id=8f4012c7 not found", ErrorCode.Value("RESOURCE_DOES_NOT_EXIST")), uri)
    assert "lost its runs" in line and (f"taken from {tmp_path}." in line) is said
