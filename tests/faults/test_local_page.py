"""The page of a network answers its own address alone, takes no more than it says, and says where it is."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study import demo
from study.use.local_only import WRAPPING, LocalOnly, is_from_here
from tests.goldens import GOLDEN
from tests.test_architecture import ROOT

OURS = ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"]
THEIRS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil-localhost", "0.0.0.0", "127.0.0.2", "192.168.1.5",
    "", "localhost@evil.example", "evil.example#localhost", "evil.example/127.0.0.1", "127.0.0.1 evil", "[::ffff:1.2.3.4]", "[",
    "user:pw@127.0.0.1"]  # fmt: skip
PORTS = ["", ":8080", ":9000"]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(OURS + THEIRS), st.sampled_from(PORTS),
    st.none() | st.sampled_from(["http://", "https://", "null", "file://", "same"]), st.sampled_from(OURS + THEIRS),
    st.sampled_from(PORTS))  # fmt: skip
def test_only_this_machines_own_page_is_answered(host: str, port: str, scheme: str | None, origin: str, other: str) -> None:
    headers = [(b"host", f"{host}{port}".encode())]
    if scheme == "same":
        headers.append((b"origin", f"http://{host}{port}".encode()))
    elif scheme is not None:
        headers.append((b"origin", f"{scheme}{origin}{other}".encode()))
    own = scheme in (None, "same") or (scheme == "http://" and f"{origin}{other}".lower() == f"{host}{port}".lower())
    assert is_from_here(headers) == (host in OURS and own)
    assert not is_from_here([]) and not is_from_here(headers[:1] * 2)


def asked(kind: str, headers: list[tuple[bytes, bytes]], pieces: list[bytes], most: int) -> tuple[list[Any], bytes | None]:
    """Return (what was sent, the body that the application behind read, None where it was not asked)."""
    sent: list[Any] = []
    seen: list[bytes] = []
    came = [{"type": "http.request", "body": p, "more_body": k < len(pieces) - 1} for k, p in enumerate(pieces)] or [
        {"type": "http.request"}
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(b"")
        while kind == "http":
            message = await receive()
            seen.append(message.get("body", b""))
            if not message.get("more_body", False):
                break

    async def receive() -> Any:
        return came.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(LocalOnly(app, most)({"type": kind, "headers": headers}, receive, send))
    return sent, b"".join(seen) if seen else None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 60_000), max_size=6), st.none() | st.integers(0, 300_000) | st.just(10**30), st.integers(0, 200_000))
def test_a_body_is_taken_whole_or_not_at_all(sizes: list[int], said: int | None, most: int) -> None:
    headers = [(b"host", b"127.0.0.1:8080"), *([(b"content-length", str(said).encode())] if said is not None else [])]
    sent, body = asked("http", headers, [b"x" * n for n in sizes], most)
    if max(sum(sizes), said or 0) > most + WRAPPING:
        assert body is None and sent[0]["status"] == 413
    else:
        assert body == b"x" * sum(sizes) and sent == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_stranger_reaches_nothing(kind: str) -> None:
    for headers in ([(b"host", b"evil.example")], [(b"host", b"localhost:8080"), (b"origin", b"http://evil.example")]):
        sent, body = asked(kind, headers, [b"x"], 100)
        assert body is None
        assert sent[0] == {"type": "websocket.close", "code": 1008} if kind == "websocket" else sent[0]["status"] == 403


@pytest.mark.parametrize("port", ["-5", "65536", "99999", "-1"])
def test_what_is_no_port_is_said_first(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main([str(GOLDEN / "golden"), "--port", port]) == 2
    assert "--port must be" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert demo.main([str(GOLDEN / "golden"), "--port", str(taken.getsockname()[1])]) == 4
    said = capsys.readouterr()
    assert said.out == "" and "give another with --port" in said.err and len(said.err.splitlines()) == 1


SERVES = """
import sys
from types import SimpleNamespace
from study import demo
from study.console.command import quiet
from study.use.local_only import port_here

@quiet("")
def main(argv=None):
    demo.serve(SimpleNamespace(title="t", about="a", answer=None), port_here(0), False)
    return 0

sys.exit(main())
"""


def test_the_page_that_is_served(tmp_path: Path) -> None:
    pytest.importorskip("nicegui")
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVES], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split()[0]
        assert address.startswith("http://127.0.0.1:") and not address.endswith(":0")
        for _ in range(100):
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        answers = {}
        for name, headers, size in (
            ("own", {}, 0),
            ("rebound", {"Host": "evil.example"}, 0),
            ("from a site", {"Origin": "http://evil.example"}, 0),
            ("socket", {"Origin": "http://evil.example"}, -1),
            ("large", {}, demo.LARGEST + WRAPPING + 1),
        ):
            place = f"{address}/_nicegui_ws/socket.io/?EIO=4&transport=polling" if size == -1 else address
            request = urllib.request.Request(place, data=bytes(size) if size > 0 else None, headers=headers)
            try:
                answers[name] = urllib.request.urlopen(request, timeout=10).status
            except urllib.error.HTTPError as error:
                answers[name] = error.code
            except urllib.error.URLError:  # it closed the connection on what it does not read
                answers[name] = 413
        assert answers == {"own": 200, "rebound": 403, "from a site": 403, "socket": 403, "large": 413}, json.dumps(answers)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, ""), err
    finally:
        process.kill()
        process.communicate()
