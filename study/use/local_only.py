"""The guard of a page for the people at this machine: it refuses other sites' pages, other names for this host and large uploads.

It is ASGI middleware around the whole application, so it covers everything served (uploads, sockets, the application's own files).
"""

import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from study.bounds import check
from study.errors import EnvironmentProblem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HERE = "127.0.0.1"
OWN = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")  # however its port is forwarded
WRAPPING = 65_536  # bytes that a form adds to the file it sends


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


class LocalOnly:
    """Middleware that answers 403 to requests for another host or from another site's page, and 413 to a body of more than `most`
    bytes."""

    def __init__(self, app: App, most: int) -> None:
        self.app, self.most = app, most + WRAPPING

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif not is_from_here(scope["headers"]):
            await self._refuse(scope, send, 403, "This page answers at its own address on this machine only.")
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        elif (body := await self._body(scope, receive)) is None:
            await self._refuse(scope, send, 413, f"More than {(self.most - WRAPPING) / 1e6:.0f} MB: not taken.")
        elif body:
            await self.app(scope, _again(body, receive), send)

    async def _body(self, scope: Message, receive: Receive) -> list[Message] | None:
        """Return the whole body before the application sees it; None where it is too large, nothing where who sent it has gone. A
        length announced as too large is believed."""
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or len(said) > 18 or int(said) > self.most:
            return None
        messages, size = [], 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self.most:
                return None
            if message["type"] == "http.disconnect":  # who sent half of a picture has gone: nobody waits for an answer
                return []
            if message["type"] != "http.request" or not message.get("more_body", False):
                return messages

    async def _refuse(self, scope: Message, send: Send, status: int, text: str) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": f"{text}\n".encode()})


def is_from_here(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return True for a request to exactly one Host, of this machine, whose Origin, if any, is this page.

    A foreign name may lead to 127.0.0.1, so the address alone is not enough.
    """
    hosts = [v.decode("latin-1").lower() for k, v in headers if k == b"host"]
    origins = [v.decode("latin-1").lower() for k, v in headers if k == b"origin"]
    return len(hosts) == 1 and OWN.fullmatch(hosts[0]) is not None and all(o == f"http://{hosts[0]}" for o in origins)


def _again(messages: list[Message], receive: Receive) -> Receive:
    rest = iter(messages)

    async def replayed() -> Message:
        message = next(rest, None)
        return await receive() if message is None else message

    return replayed
