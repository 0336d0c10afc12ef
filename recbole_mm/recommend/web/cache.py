"""Answers that were given before: a run does not change while it is served, and so neither does an answer."""

from collections import OrderedDict

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 16 * 2**20  # of answers and questions kept, in each worker; the oldest go first
ROUTE = "recbole_mm.route"  # in the scope of a request that was answered here: the route that answered it first
_PATHS = ("/api/recommend", "/api/explain", "/api/users/")

Question = tuple[str, str, bytes, bytes]
Answer = tuple[Message, bytes, str]  # start, body, route


class AnswerCache:
    """ASGI middleware: the same question, to the last byte, gets the same answer without computing it again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
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
        kept = self._kept.get(question)
        if kept is not None:
            self._kept.move_to_end(question)
            # a copy: what stands around this one adds its headers to the message
            scope[ROUTE] = kept[2]
            await send({**kept[0], "headers": list(kept[0]["headers"])})
            await send({"type": "http.response.body", "body": kept[1]})
            return
        await self._ask(question, scope, receive, send)

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
        self._kept[question] = answer
        self._bytes += len(question[3]) + len(answer[1])
        while self._bytes > MAX_BYTES:
            (*_, body), (_, content, _) = self._kept.popitem(last=False)
            self._bytes -= len(body) + len(content)
