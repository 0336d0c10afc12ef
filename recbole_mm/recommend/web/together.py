"""Questions that arrive together are answered together: one matrix product serves all of them."""

import asyncio

from recbole_mm.recommend.ranking import Ranked
from recbole_mm.recommend.recommender import Asked, Recommender

_MOST = 32  # people of one product; the others wait for the next one
_EXPLAINED = 8  # of them with reasons, which take longer
_CELLS = 4_000_000  # scores of one product, 16 MB: fewer people where there are many films


class Together:
    """Collects questions for as long as each turn of the event loop brings another; nobody waits for who may come."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.most = max(1, min(_MOST, _CELLS // len(recommender.popularity)))
        self._waiting: list[tuple[Asked, asyncio.Future[Ranked]]] = []

    async def rank(self, asked: Asked) -> Ranked:
        """As :meth:`~recbole_mm.recommend.recommender.Recommender.rank`, for one person.

        Raises:
            RequestError: the question cannot be answered.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._collect, 0)
        future: asyncio.Future[Ranked] = loop.create_future()
        self._waiting.append((asked, future))
        return await future

    def _collect(self, before: int) -> None:
        """Let what has arrived by now be read, and join; answer once nobody has."""
        if before < len(self._waiting) < self.most:
            asyncio.get_running_loop().call_soon(self._collect, len(self._waiting))
        else:
            self._answer()

    def _answer(self) -> None:
        explained = [at for at, ((_, _, explain), _) in enumerate(self._waiting[: self.most]) if explain]
        stop = explained[_EXPLAINED] if len(explained) > _EXPLAINED else self.most
        now, self._waiting = self._waiting[:stop], self._waiting[stop:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        try:
            answers = self.recommender.rank([asked for asked, _ in now])
        except Exception as error:  # noqa: BLE001 - those who wait have to hear of it, whatever it is
            for _, future in now:
                _give(future, error)
            return
        for (_, future), answer in zip(now, answers, strict=True):
            _give(future, answer)


def _give(future: "asyncio.Future[Ranked]", answer: Ranked | Exception) -> None:
    if future.done():  # who asked is gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
