"""Answers that were given before, or can be given without routing: a run does not change while it is served."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 16 * 2**20  # of answers and questions kept, in each worker; the oldest go first
ROUTE = "recbole_mm.route"  # in the scope of a request that was answered here: the route that answered it first
_PATHS = ("/api/recommend", "/api/explain", "/api/users/")

Question = tuple[str, str, bytes, bytes]  # method, path, query and content type, body
Answer = tuple[Message, bytes, str]  # start, body, route


class AnswerCache:
    """ASGI middleware: the same question, to the last byte, gets the same answer without computing it again.

    Args:
        app: what answers all other questions.
        direct: answers good questions that come often by itself, and None to others: half of the time of a short
            answer is the way through routing and dependencies.
    """

    def __init__(self, app: ASGIApp, direct: Callable[[Question], Awaitable[Answer | None]]) -> None:
        self.app = app
        self.direct = direct
        self._kept: OrderedDict[Question, Answer] = OrderedDict()
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from what is kept, or pass the request on and keep a good answer."""
        if scope["type"] != "http" or not scope["path"].startswith(_PATHS):
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        question = (scope["method"], scope["path"], scope["query_string"] + b"\n" + kind, body)
        answer = self._kept.get(question)
        if answer is not None:
            self._kept.move_to_end(question)
        else:
            answer = await self.direct(question)
            if answer is None:
                await self._ask(question, scope, receive, send)
                return
            self._keep(question, answer)
        # a copy: what stands around this one adds its headers to the message
        scope[ROUTE] = answer[2]
        await send({**answer[0], "headers": list(answer[0]["headers"])})
        await send({"type": "http.response.body", "body": answer[1]})

    async def _ask(self, question: Question, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        content = b""
        replayed = False

        async def again() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": question[3], "more_body": False}

        async def keeping(message: Message) -> None:
            nonlocal content
            if message["type"] == "http.response.start":
                start.update(message, headers=list(message["headers"]))
            else:
                content += message.get("body", b"")
            await send(message)

        await self.app(scope, again, keeping)
        if start.get("status") == 200:
            self._keep(question, (start, content, getattr(scope.get("route"), "path", "other")))

    def _keep(self, question: Question, answer: Answer) -> None:
        if question in self._kept:  # asked twice at the same moment
            return
        self._kept[question] = answer
        self._bytes += len(question[3]) + len(answer[1])
        while self._bytes > MAX_BYTES:
            (*_, body), (_, content, _) = self._kept.popitem(last=False)
            self._bytes -= len(body) + len(content)
