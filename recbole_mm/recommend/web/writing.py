"""Lists as JSON, without an object for every number: text that does not change, with the numbers put in between.

Numbers are written as float32, as they were computed: the shortest decimals that read back as the same.
"""

from collections.abc import Callable, Sequence

import numpy as np
import orjson
from pydantic_core import to_json

from recbole_mm.model.scoring import Array
from recbole_mm.recommend.explain import TOGETHER, Reasons
from recbole_mm.recommend.ranking import Ranked
from recbole_mm.recommend.titles import FilmIndex


class Writer:
    """Writes :class:`~recbole_mm.recommend.web.schemas.ListAnswer`; a film's own part is written once and kept.

    Args:
        films: the catalogue.
        has_poster: whether there is one, by token.
        names: of the modalities.
    """

    def __init__(self, films: FilmIndex, has_poster: Callable[[str], bool], names: Sequence[str]) -> None:
        self.films = films
        self.has_poster = has_poster
        by = [b"%b%b:" % (b"," if at else b"{", to_json(name)) for at, name in enumerate((*names, TOGETHER))]
        # what stands before each number of a line, and of a watched film in it; the first depends on the film
        self._of_line = [b"", b',"why":{"score":', b',"modalities":' + by[0], *by[1:], b'},"popularity":']
        self._of_line += [b',"profile":', b',"genres":']
        self._of_watched = [b"", b',"by":' + by[0], *by[1:]]
        self._films: dict[int, bytes] = {}
        self._watched: dict[tuple[int, bool], tuple[bytes, bytes]] = {}

    def film(self, item: int) -> bytes:
        """As :class:`~recbole_mm.recommend.web.schemas.FilmAnswer`."""
        found = self._films.get(item)
        if found is None:
            f = self.films.film(item)
            found = self._films[item] = to_json({
                "item": f.item, "title": f.title, "year": f.year, "genres": f.genres, "poster": self.has_poster(f.item),
            })  # fmt: skip
        return found

    def list(self, found: Ranked) -> bytes:
        """The whole answer."""
        named = b",".join([self.film(item) for item in found.named])
        rows = self._plain(found) if found.reasons is None else self._explained(found, found.reasons)
        return b'{"recommendations":[%b],"watched":[%b]}' % (rows, named)

    def _plain(self, found: Ranked) -> bytes:
        films = [self.film(item) for item in found.items.tolist()]
        return b",".join([
            b'{"rank":%d,"film":%b,"score":%b,"why":null}' % (rank, film, score)
            for rank, (film, score) in enumerate(zip(films, _numbers(found.scores), strict=True), start=1)
        ])  # fmt: skip

    def _explained(self, found: Ranked, why: Reasons) -> bytes:
        """Every line has the same numbers in the same places: texts and numbers take turns over all of them."""
        k, n = why.order.shape
        scores = found.scores[:, None]
        numbers = np.concatenate([scores, scores, why.facts, why.films.reshape(k, -1)], axis=1)
        texts = (self._of_line + self._of_watched * n) * k
        width, end = len(texts) // k, b"}}]}}" if n else b',"films":[]}}'
        texts[::width] = [
            b'%b{"rank":%d,"film":%b,"score":' % (end + b"," if rank > 1 else b"", rank, self.film(item))
            for rank, item in enumerate(found.items.tolist(), start=1)
        ]
        of = zip(found.person.items.tolist(), (found.person.weights >= 0).tolist(), strict=True)
        watched = [self._begin_watched(item, liked) for item, liked in of]
        for place, order in enumerate(why.order.T.tolist()):
            at = len(self._of_line) + len(self._of_watched) * place
            texts[at::width] = [watched[j][place > 0] for j in order]
        pieces = [b""] * (2 * len(texts))
        pieces[::2], pieces[1::2] = texts, _numbers(numbers.ravel())
        return b"".join(pieces) + end

    def _begin_watched(self, item: int, liked: bool) -> tuple[bytes, bytes]:
        """How a :class:`~recbole_mm.recommend.web.schemas.FilmPartAnswer` begins: as the first one, and as another."""
        found = self._watched.get((item, liked))
        if found is None:
            text = b'{"film":%b,"liked":%b,"without":null,"contribution":' % (self.film(item), to_json(liked))
            found = self._watched[item, liked] = b',"films":[' + text, b"}}," + text
        return found


def _numbers(values: Array) -> list[bytes]:
    """Each number of [N] as JSON."""
    return orjson.dumps(values.astype(np.float32), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
