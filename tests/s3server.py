"""An S3 server on loopback (moto's), slow or faulty as a test asks. `python -m tests.s3server BUCKET` serves until its stdin closes."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.raycluster import free_port

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "S3RVER",
    "AWS_SECRET_ACCESS_KEY": "S3RVER",
    "AWS_DEFAULT_REGION": "us-east-1",
}  # s3rver's; moto takes any
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, as asked</Message></Error>"
STATUS = {
    "SlowDown": "503 Slow Down",
    "InternalError": "500 Internal Server Error",
    "AccessDenied": "403 Forbidden",
    "QuotaExceeded": "403 Forbidden",
}


class Troubled:
    """A WSGI application where PUT to /.trouble sets how slow and faulty the server is from now on.

    The answer counts the requests since the last time, and the largest number that waited "at once".
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app, self.trouble, self.seen, self.alone = app, {}, {}, threading.Lock()  # type: ignore[var-annotated]
        self.waiting = self.most = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        method = environ["REQUEST_METHOD"]
        if environ["PATH_INFO"] == "/.trouble":
            with self.alone:
                seen, self.seen, self.most = {**self.seen, "at once": self.most}, {}, 0
                self.trouble = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(seen).encode()]
        with self.alone:
            self.seen[method] = self.seen.get(method, 0) + 1
            turn = sum(self.seen.values())
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        time.sleep(self.trouble.get("latency", 0))
        with self.alone:
            self.waiting -= 1
        every, methods = self.trouble.get("every", 0), self.trouble.get("methods", [method])
        if every and method in methods and turn % every == 0:
            code = self.trouble["code"]
            start(STATUS[code], [("Content-Type", "application/xml")])
            return [ERROR.format(code=code).encode()]
        return self.app(environ, start)


@dataclass
class Server:
    url: str
    bucket: str
    env: dict[str, str]
    at_once: int = 0  # the most requests that waited together between the last two calls of `trouble`

    def trouble(self, **how: Any) -> dict[str, int]:
        """Set the trouble and return requests by method since the last call.

        `latency` is in seconds per request, `code` is for every `every`-th request of `methods`.
        """
        asked = urllib.request.Request(f"{self.url}/.trouble", json.dumps(how).encode(), method="PUT")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            seen = dict(json.load(answer))
        self.at_once = seen.pop("at once")
        return seen


@contextlib.contextmanager
def moto(bucket: str = "studies") -> Iterator[Server]:
    """Yield moto's server in a process of its own, so that it does not share the interpreter with its clients."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.s3server", bucket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parent.parent,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            log.seek(0)
            assert url.startswith("http://"), f"no server: {url}{log.read()}"
            yield Server(url, bucket, {**CREDENTIALS, "AWS_ENDPOINT_URL": url})
        finally:
            process.stdin.close()
            process.wait(timeout=30)


@contextlib.contextmanager
def s3rver(folder: Path, bucket: str = "studies") -> Iterator[Server]:
    """Yield another implementation (npm install s3rver), which knows no conditional puts."""
    program = shutil.which(os.environ.get("STUDY_S3RVER", "s3rver"))
    if program is None:
        pytest.skip("needs s3rver, a second S3 server (npm install s3rver; STUDY_S3RVER names it where PATH does not)")
    port = free_port()
    command = [program, "-d", str(folder), "-a", "127.0.0.1", "-p", str(port), "-s", "--configure-bucket", bucket]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                assert process.poll() is None, f"{command} ended with {process.returncode}"
                time.sleep(0.1)
            url = f"http://127.0.0.1:{port}"
            yield Server(url, bucket, {**CREDENTIALS, "AWS_ENDPOINT_URL": url})
        finally:
            process.terminate()


def main(bucket: str) -> None:
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, Troubled(DomainDispatcherApplication(create_backend_app)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    make_bucket(url, bucket)
    print(url, flush=True)
    sys.stdin.read()


def make_bucket(url: str, bucket: str) -> None:
    import boto3

    boto3.client(
        "s3",
        endpoint_url=url,
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket=bucket)


if __name__ == "__main__":
    os.environ.update(CREDENTIALS)
    main(sys.argv[1])
