"""Around every request: a limit on its body, the headers of every answer, and what is counted."""

import os
import time
from typing import Any

from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_mm.recommend.web.cache import ROUTE
from recbole_mm.recommend.web.schemas import MAX_BODY_BYTES

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Metrics:
    """Requests by route, method and status, how long they took, and how many run now; one registry an application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "recbole_mm_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "recbole_mm_request_seconds", "Time to answer.", ("route",), buckets=_BUCKETS, registry=self.registry
        )
        self.running = Gauge(
            "recbole_mm_requests_running", "Requests being answered.", registry=self.registry,
            multiprocess_mode="livesum",
        )  # fmt: skip

        self._found: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One answer more; a series is looked up by its labels only once."""
        found = self._found.get((method, route, status))
        if found is None:
            found = self.requests.labels(method, route, status), self.seconds.labels(route)
            self._found[method, route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's text format; with several workers, their sum."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        merged = CollectorRegistry()
        multiprocess.MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)


_TOO_LARGE = f"body too large; expected at most {MAX_BODY_BYTES} bytes"


class _TooLargeError(HTTPException):
    """The body goes on beyond the limit; an HTTPException, which FastAPI passes on while it reads a body."""


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on, unless its body is too large."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = _Seen(receive, send)
        start = time.perf_counter()
        self.metrics.running.inc()
        try:
            if _announced(scope) > MAX_BODY_BYTES:
                await _refuse(seen.send)
            else:
                try:
                    await self.app(scope, seen.receive, seen.send)
                except _TooLargeError:  # read outside FastAPI, which would have answered it
                    await _refuse(seen.send)
        finally:
            self.metrics.running.dec()
        route = _route(scope)
        method = scope["method"] if route != "other" else "other"
        self.metrics.count(method, route, seen.status, time.perf_counter() - start)


class _Seen:
    """Counts the body's bytes on the way in, and adds headers on the way out."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._bytes = 0
        self.status = 500

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > MAX_BODY_BYTES:
            raise _TooLargeError(413, _TOO_LARGE)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await self._send(message)


def _route(scope: Scope) -> str:
    """The route's template, or what the path means where it was answered without routing."""
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) else scope.get(ROUTE, "other")


def _announced(scope: Scope) -> int:
    """The body's length by its header; 0 where it is not a number, which the server refuses by itself."""
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not text.isdigit():
        return 0
    return int(text) if len(text) < 19 else MAX_BODY_BYTES + 1


async def _refuse(send: Any) -> None:
    body = to_json({"error": _TOO_LARGE})
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
