"""The page of a network answers its own address alone, takes no more than it says, and says where it is."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
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


@pytest.mark.parametrize(("site", "shows", "taken"), [
    ("none", "document", True), ("same-origin", "empty", True), ("cross-site", "document", True), ("same-site", "document", True),
    ("cross-site", "iframe", False), ("cross-site", "empty", False), ("same-site", "image", False), ("cross-site", None, False),
])  # fmt: skip
def test_another_site_may_link_here_and_load_nothing(site: str, shows: str | None, taken: bool) -> None:
    headers = [(b"host", b"localhost:8080"), (b"sec-fetch-site", site.encode())]
    headers += [(b"sec-fetch-dest", shows.encode())] if shows else []
    assert is_from_here(headers) == taken


def test_a_body_that_does_not_come_is_waited_for_no_longer() -> None:
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def ended(seconds: float) -> None:
        guard = LocalOnly(never, 100, seconds)  # type: ignore[arg-type]  # it is not asked
        scope = {"type": "http", "headers": [(b"host", b"localhost")], "method": "POST", "path": "/"}
        task = asyncio.create_task(guard(scope, never, send))
        await asyncio.sleep(0)
        if seconds > 1:
            task.cancel()
        await task

    asyncio.run(ended(0.01))
    asyncio.run(ended(1000))
    assert [m["status"] for m in sent if "status" in m] == [408, 503]


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

    asyncio.run(LocalOnly(app, most)({"type": kind, "headers": headers, "method": "PUT", "path": "/"}, receive, send))
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


HTTP = "POST {0} HTTP/1.1\r\nHost: 127.0.0.1:{1}\r\nContent-Type: multipart/form-data; boundary=B\r\n"
TEXT = b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\nhello\r\n'
FILE = TEXT.replace(b'"file"', b'"file"; filename="a.png"')
FORMS = {
    "one file": FILE, "text": TEXT, "two files": FILE * 2, "a text beside": TEXT + FILE, "no name": FILE.replace(b"a.png", b""),
    "nothing": b"", "many texts": TEXT * 3000, "many files": FILE * 3000, "no field": FILE.replace(b'name="file"; ', b""),
}  # fmt: skip
PACKETS = [
    "", "x", "9", "4", "42", "42[", "42[]", "42{}", '42["event"]', '42["event",null]', '42["event",{}]', '42["handshake",[]]',
    '42["log",{"client_id":"CLIENT","level":"error","message":"\\u001b[31mred\\nTraceback (most"}]', '42["ack",{"client_id":[]}]', "bAAAA",
    '451-["event",{}]', "42" + "[" * 5000,
]  # fmt: skip


def test_rude_clients_leave_a_line_each_and_are_not_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("nicegui")
    with served(tmp_path) as (process, address):
        port = int(address.rpartition(":")[2])

        def ask(path: str, data: bytes | None = None, kind: str = "text/plain") -> tuple[int, str]:
            request = urllib.request.Request(f"{address}{path}", data=data, headers={"Content-Type": kind})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    assert answer.headers["X-Frame-Options"] == "DENY"
                    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, ""

        page = ask("/")[1]
        found = re.search(r"/_nicegui/client/([^/]+)/upload/\d+", page)
        assert found is not None
        head = HTTP.format(found[0], port)
        for text in (f"{head}Content-Length: 99\r\n\r\n--B", f"{head}Transfer-Encoding: chunked\r\n\r\nZZ\r\n", "\0\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as rude:
                rude.sendall(text.encode())
        taken = {name: ask(found[0], form + b"--B--\r\n", "multipart/form-data; boundary=B")[0] for name, form in FORMS.items()}
        assert taken == {name: 200 if name == "one file" else 400 for name in FORMS}
        assert {ask(found[0], body, kind)[0] for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
                for body in (b"file=a", b"", FILE)} == {400}  # fmt: skip
        talk = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
        for packet in PACKETS:
            sid = json.loads(ask(talk)[1][1:])["sid"]
            for part in ("40", packet.replace("CLIENT", found[1])):
                ask(f"{talk}&sid={sid}", part.encode())
        assert ask("/")[0] == 200
        with socket.create_connection(("127.0.0.1", port)) as stuck:
            stuck.sendall(f"{head}Content-Length: 99\r\n\r\n--B".encode())
            ask("/")
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
    lines = err.splitlines()
    assert process.returncode in (143, -signal.SIGTERM) and 5 < len(lines) <= len(PACKETS) + 5, err
    assert not [line for line in lines if line.startswith(("Traceback", " ")) or "\x1b" in line or len(line) > 320], err


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield (the process of a page, its address), once it answers."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVES], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:") and not address.endswith(":0")
        for _ in range(100):
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_the_page_that_is_served(tmp_path: Path) -> None:
    pytest.importorskip("nicegui")
    with served(tmp_path) as (process, address):
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
