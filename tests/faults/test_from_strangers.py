"""Strangers' files choose nothing that is contacted, and hang nothing. Secrets stay secret, and files are their owner's."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.console.text import redact
from study.errors import EnvironmentProblem
from study.inference.classifier import build
from study.inference.pictures import reason
from study.storage.folder import Folder
from study.storage.refusals import explained_store
from study.tracking.explain import explain
from study.use.local_only import LocalOnly
from tests.faults.test_quiet_ends import STUDY, environment

LETTERS = st.text(st.sampled_from("abcXYZ019/@:%.-_"), min_size=8, max_size=16).filter(lambda s: not s.replace("/", "").isdigit())
HOSTS = ("127.0.0.1:9", "host.example", "bucket/folder", "db:5432/mlflow")


@given(LETTERS, st.sampled_from(("http", "s3", "postgresql", "mysql+pymysql")), st.sampled_from(HOSTS))
def test_no_part_of_a_password_is_shown(secret: str, scheme: str, host: str) -> None:
    secret = f"q{secret}q"
    url = f"{scheme}://user:{secret}@{host}"
    for text in (redact(url), redact(f"cannot open {url}: gone"), redact(f'Invalid bucket name "user:{secret}@{host}"', url)):
        assert secret not in text and "user" in text and host.split("/")[0] in text, text


@pytest.mark.parametrize("name", ["token", "TOKEN", "secret_key", "access_key", "password", "passwd", "X-Amz-Signature", "credentials"])
def test_secrets_in_the_query_of_an_address_are_hidden(name: str) -> None:
    url = f"s3://bucket/x?{name}=SECRET&endpoint_override=http://127.0.0.1:9"
    assert "SECRET" not in redact(url) and "endpoint_override=http://127.0.0.1:9" in redact(url)
    assert "SECRET" not in redact("the server says SECRET", url)


@pytest.mark.parametrize("text", [
    "http://127.0.0.1:5000/path@x", "sqlite:////data/a@b/mlflow.db", "s3://bucket/photos@2x/a:b", "deepweeds@session", "http://h:80?x=1",
    "see http://h:5000, mail a@b.c", "folder:img?splits=own",
])  # fmt: skip
def test_an_address_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_a_name_alone_may_be_a_token() -> None:
    assert redact("https://ghp_aBcDeF@host/x") == "https://***@host/x"


def test_a_library_that_repeats_an_address_gives_nothing_away() -> None:
    url = "s3://KEY:pw/SECRET@bucket/x"
    with pytest.raises(EnvironmentProblem) as error, explained_store(url, reading=True):
        raise RuntimeError('Invalid bucket name "KEY:pw/SECRET@bucket"')
    assert "SECRET" not in str(error.value)
    assert "SECRET" not in explain(RuntimeError("Invalid url: http://bob:pa/SECRET@..."), "http://bob:pa/SECRET@127.0.0.1:9")


@pytest.mark.parametrize("name", ["hf-hub:evil/evil", "hf_hub:evil/evil", "local-dir:/tmp/x", "timm/resnet18", None, 7])
def test_a_manifest_cannot_name_an_address_as_its_network(name: Any) -> None:
    with pytest.raises(ValueError, match="is an address and no name of timm's own"):
        build(name, 2, {})


@pytest.mark.parametrize("what", ["pipe", "device"])
@pytest.mark.parametrize("name", ["study.json", "selection.json", "test_lock.json"])
def test_what_is_no_file_in_a_results_folder_hangs_nothing(name: str, what: str, tmp_path: Path) -> None:
    place = tmp_path / "golden"
    shutil.copytree(STUDY, place)
    (place / name).unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(place / name)
    else:
        (place / name).symlink_to("/dev/zero")
    command = [sys.executable, "-m", "analysis.report", str(place), "--out", str(tmp_path / "r.html")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and f"{name} is no regular file" in done.stderr, done.stderr
    with pytest.raises(EnvironmentProblem, match="no regular file"):
        Folder(str(place)).read(name)


def test_who_goes_away_during_an_upload_leaves_no_traceback() -> None:
    called = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope)

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(message)

    messages = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]
    scope = {"type": "http", "headers": [(b"host", b"127.0.0.1:8080"), (b"content-length", b"99")]}
    asyncio.run(LocalOnly(app, 1000)(scope, receive, send))
    assert not called


def test_a_bomb_is_said_in_our_words() -> None:
    from PIL import Image

    assert reason(Image.DecompressionBombError("Image size (9 pixels) exceeds limit")) == "more than 50,000,000 pixels. Make it smaller"


def test_files_beside_a_study_and_of_the_cache_are_their_owners(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir(mode=0o755)
    shutil.copytree(STUDY, results / "golden")
    shell = f"umask 000; {sys.executable} -m study.tracking sync {results} && {sys.executable} -m study.datasets check mini_faces"
    env = environment(STUDY_CACHE=str(tmp_path / "cache" / "own"))
    done = subprocess.run(["sh", "-c", shell], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    places = [results / "mlflow.db", tmp_path / "cache", *(results / "mlartifacts").rglob("*"), results / "mlartifacts"]
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in places}
    assert len(modes) > 20 and not {str(p): oct(m) for p, m in modes.items() if m & 0o077}, json.dumps(
        {str(p): m for p, m in modes.items()}
    )
