"""The HTTP interface: typed questions, answers as JSON, a page, health, readiness and metrics."""

import gc
import importlib.metadata
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic_core import ValidationError, to_json
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from recbole_mm.errors import RequestError
from recbole_mm.recommend.explain import Explanation
from recbole_mm.recommend.people_files import FilmTable, Posters, read_film_table
from recbole_mm.recommend.preferences import Wishes
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.titles import Film
from recbole_mm.recommend.top_k import best
from recbole_mm.recommend.web import schemas
from recbole_mm.recommend.web.bodies import body_of, describe_bodies, read_body
from recbole_mm.recommend.web.cache import Answer, AnswerCache, Question
from recbole_mm.recommend.web.guard import Guard, Metrics
from recbole_mm.recommend.web.together import Together
from recbole_mm.recommend.web.writing import Writer

SETTINGS_VARIABLE = "RECBOLE_MM_SERVE"
_RECOMMEND = "/api/recommend"
_PAGE = Path(__file__).resolve().parent / "page"
_PAGE_TYPES = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.ErrorAnswer, "description": "A body that cannot be read."},
    404: {"model": schemas.ErrorAnswer, "description": "No such film or user."},
    413: {"model": schemas.ErrorAnswer, "description": "A body that is too large."},
    422: {"model": schemas.ErrorAnswer, "description": "A question that cannot be answered."},
}
K = Annotated[int, Query(ge=1, le=schemas.MAX_K)]
Typed = Annotated[str, Query(max_length=200, description="A title as far as typed, or an id; empty: popular films.")]


@dataclass(frozen=True)
class Settings:
    """What is served; every worker reads it from the environment."""

    run_dir: str
    posters: str | None = None
    films: str | None = None
    approximate: bool = False

    def to_environment(self) -> None:
        """For the workers that are started next."""
        os.environ[SETTINGS_VARIABLE] = json.dumps(asdict(self))


def from_environment() -> ASGIApp:
    """A worker's application."""
    return create_app(Settings(**json.loads(os.environ[SETTINGS_VARIABLE])))


def create_app(settings: Settings) -> ASGIApp:
    """The application; the run is opened when it starts.

    Raises:
        RecBoleMMError: the run, the posters or the table cannot be used.
    """
    table = read_film_table(Path(settings.films)) if settings.films else FilmTable()
    recommender = Recommender.load(settings.run_dir, aliases=table.aliases)
    if settings.approximate:
        recommender.approximate()
    desk = Desk(recommender, Posters(Path(settings.posters), table) if settings.posters else None)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gc.collect()
        gc.freeze()  # the catalogue stays: it need not be walked again, and forked pages stay shared
        app.state.ready = True
        yield
        app.state.ready = False

    app = FastAPI(
        title="recbole_mm",
        version=importlib.metadata.version("recbole-mm"),
        description="Films for a person, by a model that was trained on plots, posters and ratings.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
    )
    metrics = Metrics()
    app.state.ready = False
    _handle_errors(app)
    _questions(app, desk)
    _catalogue(app, desk)
    _operations(app, metrics)
    _page(app)
    describe_bodies(app, (schemas.RecommendQuestion, schemas.ExplainQuestion))
    # around FastAPI, not in its stack: most answers never reach it, and all of them are counted
    return Guard(AnswerCache(app, desk.direct), metrics)


class Desk:
    """Puts the recommender's answers into the interface's form."""

    def __init__(self, recommender: Recommender, posters: Posters | None) -> None:
        self.recommender = recommender
        self.posters = posters
        self.together = Together(recommender)
        self.writer = Writer(recommender.films, self.has_poster, recommender.content.names)

    def has_poster(self, token: str) -> bool:
        """Whether the folder of posters has one of this item."""
        return self.posters is not None and self.posters.of(token) is not None

    def film(self, film: Film) -> dict[str, Any]:
        """As :class:`~recbole_mm.recommend.web.schemas.FilmAnswer`."""
        return {**asdict(film), "poster": self.has_poster(film.item)}

    def why(self, why: Explanation) -> dict[str, Any]:
        """As :class:`~recbole_mm.recommend.web.schemas.WhyAnswer`."""
        films = [
            {
                "film": self.film(part.film), "liked": part.weight >= 0, "contribution": part.contribution,
                "by": part.by, "without": part.without,
            }
            for part in why.films
        ]  # fmt: skip
        return {
            "score": why.score, "films": films, "profile": why.profile, "popularity": why.popularity,
            "genres": why.genres, "modalities": why.modalities,
        }  # fmt: skip

    async def recommended(self, question: schemas.RecommendQuestion) -> bytes:
        """As :class:`~recbole_mm.recommend.web.schemas.ListAnswer`, in JSON.

        Raises:
            RequestError: the question cannot be answered.
        """
        wishes = question.wishes(self.recommender.scale.high, self.recommender.scale.low)
        return self.writer.list(await self.together.rank((wishes, question.k, question.explain)))

    async def direct(self, question: Question) -> Answer | None:
        """Answers a good question for a list; None to any other: the application answers it, or says what is wrong."""
        method, path, kind, body = question
        if (method, path, kind) != ("POST", _RECOMMEND, b"\napplication/json"):
            return None
        try:
            content = await self.recommended(schemas.RecommendQuestion.model_validate_json(body))
        except (ValidationError, RequestError):
            return None
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        return {"type": "http.response.start", "status": 200, "headers": headers}, content, _RECOMMEND

    def item(self, token: str) -> int:
        """The id of an item that a path names.

        Raises:
            HTTPException: there is none.
        """
        found = self.recommender.films.by_id(token)
        if found is None:
            raise HTTPException(404, f"no film '{token}'; expected an id of the catalogue: search by /api/films")
        return found


def _answer(content: Any) -> Response:
    """JSON that was built in the right form; the declared models say which, and the tests hold them to it."""
    return _json(to_json(content))


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _questions(app: FastAPI, desk: Desk) -> None:
    recommender, scale = desk.recommender, desk.recommender.scale

    @app.post(
        _RECOMMEND, response_model=schemas.ListAnswer, responses=_ERRORS, tags=["recommend"],
        openapi_extra=body_of(schemas.RecommendQuestion),
    )  # fmt: skip
    async def recommend(request: Request) -> Response:
        """Films for a person, with reasons if asked for."""
        return _json(await desk.recommended(await read_body(schemas.RecommendQuestion, request)))

    @app.post(
        "/api/explain", response_model=schemas.WhyAnswer, responses=_ERRORS, tags=["recommend"],
        openapi_extra=body_of(schemas.ExplainQuestion),
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        """What one film's score is made of, and the score without each watched film."""
        question = await read_body(schemas.ExplainQuestion, request)
        wishes = question.wishes(scale.high, scale.low)
        # as many scores as films watched: long enough to let others be answered meanwhile
        why = await run_in_threadpool(recommender.explain_wishes, wishes, question.item)
        return _answer(desk.why(why))

    @app.get("/api/users/{user}/recommend", response_model=schemas.ListAnswer, responses=_ERRORS, tags=["recommend"])
    async def for_user(user: str, k: K = 10) -> Response:
        """Films for a user whom the model was trained on."""
        if user not in recommender.user_ids:
            raise HTTPException(404, f"no user '{user}'; expected one of the data set")
        return _json(desk.writer.list(await desk.together.rank((Wishes(user=user), k, False))))


def _catalogue(app: FastAPI, desk: Desk) -> None:
    recommender, films = desk.recommender, desk.recommender.films

    @app.get("/api/about", response_model=schemas.AboutAnswer, tags=["catalogue"])
    async def about() -> Response:
        """What is served, and the limits of a question."""
        manifest, scale = recommender.store.manifest, recommender.scale
        return _answer({
            "model": manifest.model, "dataset": manifest.dataset, "films": len(films.catalogue.tokens) - 1,
            "new_users": manifest.new_users, "genres": recommender.preferences.genres,
            "modalities": manifest.modalities, "posters": 0 if desk.posters is None else len(desk.posters),
            "rating": {"low": scale.low, "high": scale.high, "mean": scale.mean},
            "limits": {
                "body_bytes": schemas.MAX_BODY_BYTES, "watched": schemas.MAX_WATCHED, "k": schemas.MAX_K,
                "exclude": schemas.MAX_EXCLUDED, "genres": schemas.MAX_GENRES, "k_explained": schemas.MAX_EXPLAINED,
            },
        })  # fmt: skip

    @app.get("/api/films", response_model=schemas.FilmsAnswer, responses={422: _ERRORS[422]}, tags=["catalogue"])
    def search(q: Typed = "", limit: Annotated[int, Query(ge=1, le=100)] = 12) -> Response:
        """Films by their titles; the popular ones where nothing is typed."""
        items = films.search(q, limit) if q.strip() else best(recommender.popularity, limit + 1)
        return _answer({"films": [desk.film(films.film(int(i))) for i in items if i][:limit]})

    @app.get("/api/films/{item}", response_model=schemas.FilmAnswer, responses=_ERRORS, tags=["catalogue"])
    async def film(item: str) -> Response:
        """One film."""
        return _answer(desk.film(films.film(desk.item(item))))

    @app.get("/api/films/{item}/similar", response_model=schemas.SimilarsAnswer, responses=_ERRORS, tags=["catalogue"])
    def similar(item: str, by: Annotated[str | None, Query(max_length=200)] = None, k: K = 10) -> Response:
        """Films like one: by one modality, or by all."""
        found = recommender.similar(f"id:{films.catalogue.tokens[desk.item(item)]}", k, by=by)
        rows = [{"rank": s.rank, "film": desk.film(s.film), "similarity": s.similarity} for s in found]
        return _answer({"similar": rows})

    @app.get(
        "/api/films/{item}/poster", response_class=FileResponse, tags=["catalogue"],
        responses={**_ERRORS, 200: {"content": {"image/*": {}}, "description": "The image."}},
    )  # fmt: skip
    async def poster(item: str) -> Response:
        """A film's poster, from the folder that was named when the server was started."""
        token = films.catalogue.tokens[desk.item(item)]
        found = None if desk.posters is None else desk.posters.of(token)
        if found is None or not found[0].is_file():
            raise HTTPException(404, f"no poster of film '{item}'")
        return FileResponse(found[0], media_type=found[1], headers={"Cache-Control": "public, max-age=86400"})


def _operations(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/health", response_model=schemas.StatusAnswer, tags=["operations"])
    async def health() -> Response:
        """The process answers."""
        return _answer({"status": "ok"})

    @app.get(
        "/ready", response_model=schemas.StatusAnswer, tags=["operations"],
        responses={503: {"model": schemas.StatusAnswer, "description": "Starting or stopping."}},
    )  # fmt: skip
    async def ready(request: Request) -> Response:
        """The run is open, and requests are welcome."""
        if request.app.state.ready:
            return _answer({"status": "ready"})
        return Response(to_json({"status": "starting"}), status_code=503, media_type="application/json")

    @app.get("/metrics", response_class=Response, tags=["operations"],
             responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format."}})  # fmt: skip
    def counted() -> Response:
        """Requests by route and status, and how long they took."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _page(app: FastAPI) -> None:
    """The page's files, read once: nothing else is ever served from the disk but posters."""
    for name, kind in _PAGE_TYPES.items():
        path = "/" if name == "index.html" else f"/{name}"
        app.add_api_route(path, _file((_PAGE / name).read_bytes(), kind), include_in_schema=False)


def _file(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return serve


def _handle_errors(app: FastAPI) -> None:
    def refuse(status: int, text: str, headers: Any = None) -> Response:
        line = " ".join(text.encode("utf-8", "replace").decode().split())
        return Response(to_json({"error": line}), status, media_type="application/json", headers=headers)

    @app.exception_handler(RequestError)
    async def _question(_: Request, error: RequestError) -> Response:
        return refuse(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return refuse(422, f"{where}: {first['msg'].removeprefix('Value error, ')}")

    @app.exception_handler(StarletteHTTPException)
    async def _http(_: Request, error: StarletteHTTPException) -> Response:
        return refuse(error.status_code, str(error.detail), error.headers)
