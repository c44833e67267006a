"""The guard of a page for the people at this machine: it refuses other sites' pages, other names for this host, and what is no picture
of a size and in a time that the page takes.

It is ASGI around the whole application and its own middleware, so it covers everything served (uploads, sockets, the application's files).
"""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from email.message import Message as Headers
from email.parser import HeaderParser
from typing import Any

from study.bounds import check
from study.console.text import shown
from study.errors import EnvironmentProblem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HERE = "127.0.0.1"
OWN = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")  # however its port is forwarded
WRAPPING = 65_536  # bytes that a form adds to the file it sends
SOCKETS = "/_nicegui_ws/"  # all else that is posted is an upload
UPLOAD_S = 120.0  # until a body has come
LONGEST = 300  # characters of a line about an error
ENDING_S = 2  # that the server waits for what is under way, once it is told to end
ALONE = (
    (b"content-security-policy", b"frame-ancestors 'none'; form-action 'none'; object-src 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""Headers of every answer: no other page shows this one, or reads what it loads."""


def port_here(port: int) -> int:
    """Return the port to serve on: the given one, or any free one for 0.

    Raises ConfigError for an invalid port, EnvironmentProblem where it is taken.
    """
    check("port", port, "--port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: one that ended a minute ago is no other
        try:
            probe.bind((HERE, port))
        except OSError as error:
            raise EnvironmentProblem(
                f"port {port} of this machine is not to be had ({error.strerror}). End what uses it, or give another with --port "
                "(0: any that is free)."
            ) from None
        return int(probe.getsockname()[1])


class Refused(Exception):
    """A request that the application never sees, with the status and the text that answer it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class LocalOnly:
    """Middleware that answers 403 to requests for another host or from another site's page, 413 to a body of more than `most` bytes, 408
    to one that does not come in time, and 400 to an upload that is not one file."""

    def __init__(self, app: App, most: int, seconds: float = UPLOAD_S) -> None:
        self.app, self.most, self.seconds = app, most + WRAPPING, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        http = scope["type"] == "http"

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *ALONE]
            await send(message)

        try:
            if not is_from_here(scope["headers"]):
                raise Refused(403, "This page answers at its own address on this machine only.")
            body = await self._body(scope, receive) if http else None
            if body is not None:
                _check_upload(scope, body)
        except Refused as refused:
            await self._refuse(scope, marked, refused)
        else:
            if not http or body:
                await self.app(scope, _again(body or [], receive), marked)

    async def _body(self, scope: Message, receive: Receive) -> list[Message]:
        """Return the whole body before the application sees it; nothing where who sent it has gone. A length announced as too large is
        believed."""
        large = Refused(413, f"More than {(self.most - WRAPPING) / 1e6:.0f} MB: not taken.")
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or len(said) > 18 or int(said) > self.most:
            raise large
        messages: list[Message] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                while not messages or messages[-1].get("more_body", False):
                    messages.append(await receive())
                    if messages[-1]["type"] == "http.disconnect":  # who sent half of a picture has gone: nobody waits for an answer
                        return []
                    size += len(messages[-1].get("body", b""))
                    if size > self.most:
                        raise large
        except TimeoutError:
            raise Refused(408, f"Not sent within {self.seconds:g} s: not taken.") from None
        except asyncio.CancelledError:
            raise Refused(503, "The page is ending: not taken.") from None
        return messages

    async def _refuse(self, scope: Message, send: Send, refused: Refused) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": f"{refused.text}\n".encode()})


def _check_upload(scope: Message, body: list[Message]) -> None:
    """Raise Refused for what is posted beside socket messages and is no form of exactly one file with a name."""
    if not body or scope["method"] != "POST" or scope["path"].startswith(SOCKETS):
        return
    form = _headers(b"content-type: " + dict(scope["headers"]).get(b"content-type", b""))
    mark, file = f"--{form.get_boundary('')}".encode("latin-1", "replace"), Headers()
    before, *parts = b"".join(m.get("body", b"") for m in body).split(mark) if len(mark) > 2 else [b""]
    if form.get_content_type() == "multipart/form-data" and len(parts) == 2 and not before and parts[1].startswith(b"--"):
        file = _headers(parts[0].partition(b"\r\n\r\n")[0].lstrip())
    name, kept = (file.get_param(key, header="content-disposition") for key in ("filename", "name"))
    if not (isinstance(name, str) and name and isinstance(kept, str)):
        raise Refused(400, "An upload is a form of one file with a name. Drop one picture onto the page.")


def _headers(text: bytes) -> Headers:
    return HeaderParser().parsestr(text.decode("latin-1"))


@contextlib.contextmanager
def in_a_line() -> Iterator[None]:
    """Log each record as one line without a traceback: whoever reaches the page can send what libraries make an error of."""
    made = logging.getLogRecordFactory()

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        one = made(*args, **kwargs)
        error = one.exc_info[1] if one.exc_info else None
        text = one.getMessage()
        if error is not None:
            text = f"{text.strip().partition(chr(10))[0]} ({type(error).__name__}: {error})"
        one.msg, one.args, one.exc_info, one.stack_info = shown(text)[:LONGEST], None, None, None
        return one

    logging.setLogRecordFactory(record)
    try:
        yield
    finally:
        logging.setLogRecordFactory(made)


def is_from_here(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return True for a request to exactly one Host, of this machine, whose Origin, if any, is this page.

    A foreign name may lead to 127.0.0.1, so the address alone is not enough. A browser says which site's page asks: another one may link
    here, and load nothing.
    """
    hosts = [v.decode("latin-1").lower() for k, v in headers if k == b"host"]
    origins = [v.decode("latin-1").lower() for k, v in headers if k == b"origin"]
    sites, shows = ({v.lower() for k, v in headers if k == name} for name in (b"sec-fetch-site", b"sec-fetch-dest"))
    own = len(hosts) == 1 and OWN.fullmatch(hosts[0]) is not None and all(o == f"http://{hosts[0]}" for o in origins)
    return own and (sites <= {b"same-origin", b"none"} or shows == {b"document"})


def _again(messages: list[Message], receive: Receive) -> Receive:
    rest = iter(messages)

    async def replayed() -> Message:
        message = next(rest, None)
        return await receive() if message is None else message

    return replayed
