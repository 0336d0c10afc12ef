"""Questions that arrive together are answered together: one matrix product serves all of them."""

import asyncio

from recbole_mm.recommend.preferences import Wishes
from recbole_mm.recommend.recommender import Recommendation, Recommender

_MOST = 32  # people of one product; the others wait for the next one
_CELLS = 4_000_000  # scores of one product, 16 MB: fewer people where there are many films

Asked = tuple[Wishes, int, bool]  # wishes, k, explain


class Together:
    """Collects the questions of one turn of the event loop; nobody waits for others who may come."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.most = max(1, min(_MOST, _CELLS // len(recommender.popularity)))
        self._waiting: list[tuple[Asked, asyncio.Future[list[Recommendation]]]] = []

    async def answer(self, asked: Asked) -> list[Recommendation]:
        """As :meth:`~recbole_mm.recommend.recommender.Recommender.answer`.

        Raises:
            RequestError: the question cannot be answered.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            # called after what has arrived by now has been read, and has joined
            loop.call_soon(self._answer)
        future: asyncio.Future[list[Recommendation]] = loop.create_future()
        self._waiting.append((asked, future))
        return await future

    def _answer(self) -> None:
        now, self._waiting = self._waiting[: self.most], self._waiting[self.most :]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        try:
            answers = self.recommender.answer_many([asked for asked, _ in now])
        except Exception as error:  # noqa: BLE001 - those who wait have to hear of it, whatever it is
            for _, future in now:
                _give(future, error)
            return
        for (_, future), answer in zip(now, answers, strict=True):
            _give(future, answer)


def _give(future: "asyncio.Future[list[Recommendation]]", answer: list[Recommendation] | Exception) -> None:
    if future.done():  # who asked is gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
