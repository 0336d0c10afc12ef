"""The HTTP interface: its answers, its limits, and what abuse gets."""

import asyncio
import json
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from planted import Planted
from pydantic_core import to_json
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.testclient import TestClient

from recbole_mm.errors import RequestError
from recbole_mm.quick_start import run
from recbole_mm.recommend import Recommender
from recbole_mm.recommend.preferences import Wishes
from recbole_mm.recommend.web import schemas
from recbole_mm.recommend.web.app import Desk, Settings, create_app
from recbole_mm.recommend.web.cache import AnswerCache
from recbole_mm.recommend.web.together import Together

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8d"
    "b00000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A run on planted data, a folder of posters with a link that leads out of it, and a table of other ids."""
    root = tmp_path_factory.mktemp("served")
    data = Planted(root / "dataset").write()
    facts = {"genre": {"field": "class", "encoding": "multi_hot"}}
    config = data.config(modalities={**data.register(image="both", text="b"), **facts}, epochs=2)
    run("MMFusion", data.name, config=config, run_dir=root / "run")
    posters = root / "posters"
    posters.mkdir()
    for name in ("i1.png", "tt0002.png", "cover.png"):
        (posters / name).write_bytes(PIXEL)
    (root / "secret.png").write_bytes(b"secret")
    (posters / "i5.png").symlink_to(root / "secret.png")
    (root / "films.csv").write_text(
        "item_id,imdb_id,poster\ni2,tt0002,\ni3,tt0003,posters/cover.png\ni4,tt0004,../secret.png\n"
    )
    return Settings(str(root / "run"), str(posters), str(root / "films.csv"))


@pytest.fixture(scope="module")
def app(served):
    return create_app(served)


@pytest.fixture
def client(app):
    with TestClient(app, raise_server_exceptions=True) as opened:
        yield opened


def test_answers_are_the_recommenders(client, served):
    recommender = Recommender.load(served.run_dir)
    question = {
        "watched": [{"item": "i3", "rating": 5}, {"item": "i7", "like": False}, {"item": "i9"}],
        "genres": ["g1"], "lean": {"text": 1.0}, "k": 7, "explain": True,
    }  # fmt: skip
    answer = client.post("/api/recommend", json=question)
    assert answer.status_code == 200
    schemas.ListAnswer.model_validate(answer.json())
    low = recommender.scale.low
    expected = recommender.recommend(
        watched={"i3": 5, "i7": low, "i9": None}, genres=["g1"], lean={"text": 1.0}, k=7, explain=True
    )
    found = answer.json()["recommendations"]
    assert [f["film"]["item"] for f in found] == [r.film.item for r in expected]
    for one, r in zip(found, expected, strict=True):
        why = one["why"]
        assert one["score"] == pytest.approx(r.score)
        total = sum(p["contribution"] for p in why["films"]) + why["profile"] + why["popularity"] + why["genres"]
        assert total == pytest.approx(r.score, rel=1e-4, abs=1e-5)
        assert {p["film"]["item"]: p["liked"] for p in why["films"]} == {"i3": True, "i7": False, "i9": True}
    by_user = client.get("/api/users/u5/recommend?k=4").json()["recommendations"]
    assert [f["film"]["item"] for f in by_user] == [r.film.item for r in recommender.recommend(user="u5", k=4)]
    why = client.post("/api/explain", json={"watched": [{"item": "i3"}], "item": "i20"}).json()
    schemas.WhyAnswer.model_validate(why)
    assert why["films"][0]["without"] is not None


def test_catalogue(client):
    about = schemas.AboutAnswer.model_validate(client.get("/api/about").json())
    assert about.films == 90
    assert about.posters == 3
    assert about.rating == {"low": 1.0, "high": 5.0, "mean": pytest.approx(3.0, abs=0.5)}
    assert len(client.get("/api/films").json()["films"]) == 12
    assert client.get("/api/films?q=i12").json()["films"][0]["item"] == "i12"
    assert client.get("/api/films/tt0003").json()["item"] == "i3"
    similar = schemas.SimilarsAnswer.model_validate(client.get("/api/films/i3/similar?k=3&by=image").json())
    assert [s.rank for s in similar.similar] == [1, 2, 3]


def test_posters_come_from_their_folder_only(client):
    for item in ("i1", "i2", "i3", "tt0002"):
        answer = client.get(f"/api/films/{item}/poster")
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, PIXEL, "image/png")
    for path in (
        "i4", "i5", "cover", "..", "%2e%2e", "..%2f..%2fsecret", "%2fetc%2fpasswd", "i1.png", "..\\secret", "%00",
    ):  # fmt: skip
        answer = client.get(f"/api/films/{path}/poster")
        assert answer.status_code == 404, path
        assert b"secret" not in answer.content or b"error" in answer.content
    assert client.get("/../pyproject.toml").status_code == 404
    assert client.get("/style.css/../app.js/..%2f..%2fapp.py").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "nothing to go by"),
        ({"watched": []}, 422, "nothing to go by"),
        ({"user": "nobody"}, 422, "no user 'nobody'"),
        ({"watched": [{"item": "zzzzz"}]}, 422, "no film 'zzzzz'"),
        ({"watched": [{"item": "i1", "rating": 9}]}, 422, "expected 1 to 5"),
        ({"watched": [{"item": "i1", "rating": 3, "like": True}]}, 422, "exclude each other"),
        ({"watched": [{"item": "i1"}], "k": 0}, 422, "greater than or equal to 1"),
        ({"watched": [{"item": "i1"}], "k": 10**9}, 422, "less than or equal to 200"),
        ({"watched": [{"item": "i1"}], "k": 91}, 422, "k=91; expected 1 to the number of films, 90"),
        ({"watched": [{"item": "i1"}], "k": 51, "explain": True}, 422, "expected at most 50"),
        ({"watched": [{"item": "i1"}], "exclude": [f"i{n}" for n in range(90)]}, 422, "no film is left"),
        ({"watched": [{"item": "i1"}] * 501}, 422, "at most 500"),
        ({"watched": [{"item": "i1"}], "kk": 3}, 422, "kk: Extra inputs"),
        ({"watched": [{"item": "i1"}], "lean": {"smell": 1}}, 422, "no modality 'smell'"),
        ({"watched": "i1"}, 422, "watched: Input should be a valid array"),
    ],
)
def test_bad_questions_get_one_line(client, body, status, says):
    answer = client.post("/api/recommend", json=body)
    assert answer.status_code == status
    assert says in schemas.ErrorAnswer.model_validate(answer.json()).error
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[1,2", b"null", b"\xff\xfe", b'{"watched": [{"item": "i1", "rating": NaN}]}',
        b'{"watched": [{"item": "i1", "rating": 1e999}]}', b'{"k": ' + b"9" * 5000 + b"}", b"[" * 5000,
        b'{"user": "\\ud800"}', b'{"watched": [{"item": "\\u0000"}]}', b'{"genre_weight": Infinity, "genres": ["g1"]}',
    ],
)  # fmt: skip
def test_malformed_bodies_are_refused(client, body):
    answer = client.post("/api/recommend", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert schemas.ErrorAnswer.model_validate(answer.json()).error


def test_only_json_is_read(client):
    answer = client.post("/api/recommend", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 422
    assert answer.json() == {"error": "content-type: 'text/plain'; expected application/json"}


def test_large_bodies_are_refused_before_they_are_read(client):
    large = b'{"user": "' + b"x" * 10_000_000 + b'"}'
    for content in (large, (large[n : n + 65536] for n in range(0, len(large), 65536))):
        answer = client.post("/api/recommend", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "expected at most 65536 bytes" in answer.json()["error"]


def test_other_requests(client):
    assert client.get("/nowhere").json() == {"error": "Not Found"}
    assert client.delete("/api/recommend").status_code == 405
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    client.get("/api/films/i1")
    text = client.get("/metrics").text
    assert re.search(r'recbole_mm_requests_total\{method="GET",route="/api/films/\{item\}",status="200"\} \d', text)
    assert 'route="other",status="404"' in text


def test_the_same_question_gets_the_same_answer_and_is_counted(client):
    question = {"watched": [{"item": "i8", "rating": 4}], "k": 3}
    first, again = (client.post("/api/recommend", json=question) for _ in range(2))
    assert again.content == first.content
    assert again.headers.items() == first.headers.items()
    other = client.post("/api/recommend", json={**question, "k": 4})
    assert len(other.json()["recommendations"]) == 4
    for _ in range(2):  # a refusal is not kept, and stays one
        assert client.post("/api/recommend", json={"watched": [{"item": "zzzz"}]}).status_code == 422
        assert client.get("/api/users/u1/recommend?k=2").status_code == 200
    text = client.get("/metrics").text
    counted = re.search(
        r'requests_total\{method="GET",route="/api/users/\{user\}/recommend",status="200"\} (\d+)', text
    )
    assert counted
    assert int(counted[1]) >= 2


@pytest.mark.parametrize("question", [
    {"watched": [{"item": "i8", "rating": 4}, {"item": "i2", "like": False}], "k": 3},
    {"watched": [{"item": "i8"}], "explain": True, "k": 5, "lean": {"image": 2.0}, "diversity": 0.5},
    {"user": "u3", "only_genres": ["g0"]},
    {"watched": [{"item": "nonsense"}]},
    {"k": 0},
])  # fmt: skip
def test_the_direct_way_answers_as_the_routed_one(client, question):
    """A content type with a charset is not answered directly."""
    body, kind = json.dumps(question), "application/json"
    direct, routed = (
        client.post("/api/recommend", content=body, headers={"Content-Type": k})
        for k in (kind, f"{kind}; charset=utf-8")
    )
    assert direct.status_code == routed.status_code
    assert direct.content == routed.content
    assert direct.headers.items() == routed.headers.items()


def test_what_is_asked_twice_at_once_is_kept_once():
    async def direct(question):
        await asyncio.sleep(0)
        return {"type": "http.response.start", "status": 200, "headers": []}, b"answer", "/api/recommend"

    cache = AnswerCache(None, direct)
    scope = {"type": "http", "method": "POST", "path": "/api/recommend", "query_string": b"", "headers": []}

    async def receive():
        return {"type": "http.request", "body": b"question"}

    async def send(_):
        pass

    async def twice():
        await asyncio.gather(*(cache({**scope}, receive, send) for _ in range(2)))

    asyncio.run(twice())
    assert len(cache._kept) == 1
    assert cache._bytes == len(b"question") + len(b"answer")


@pytest.mark.parametrize("wishes", [
    Wishes(watched=(("i3", 5.0), ("i9", None), ("i3", 1.0), ("i7", 1.0))),
    Wishes(watched=(("i3", 4.0),), lean={"text": 2.0}, genres=("g1",)),
    Wishes(user="u5", watched=(("i9", 2.0),)),
    Wishes(genres=("g1",)),
])  # fmt: skip
@pytest.mark.parametrize("explain", [False, True])
def test_a_list_is_written_as_the_objects_say(served, wishes, explain):
    """Put together from pieces, against pydantic's own writing of the same, number by number."""
    desk = Desk(Recommender.load(served.run_dir), None)
    recommender = desk.recommender
    written = json.loads(desk.writer.list(recommender.rank([(wishes, 6, explain)])[0]))
    schemas.ListAnswer.model_validate(written)
    expected = {
        "recommendations": [
            {"rank": r.rank, "film": desk.film(r.film), "score": r.score, "why": r.why and desk.why(r.why)}
            for r in recommender.answer(wishes, 6, explain=explain)
        ],
        "watched": [desk.film(recommender.films.film(recommender.films.find(name))) for name, _ in wishes.watched],
    }
    expected = json.loads(to_json(expected))
    assert flat(written).keys() == flat(expected).keys()
    for place, value in flat(expected).items():
        found = flat(written)[place]
        assert found == (pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value), place


def flat(content, place=()):
    """All leaves of JSON by where they are."""
    if isinstance(content, dict | list) and content:
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {at: leaf for key, value in pairs for at, leaf in flat(value, (*place, key)).items()}
    return {place: content}


def test_questions_that_arrive_together_are_answered_together(served, monkeypatch):
    """Each gets its own answer or refusal, or hears that something broke; fewer at once where reasons are asked for."""
    recommender = Recommender.load(served.run_dir)
    sizes, rank = [], recommender.rank
    monkeypatch.setattr(recommender, "rank", lambda asked: sizes.append(len(asked)) or rank(asked))
    together = Together(recommender)
    names = [f"i{n}" for n in range(1, 40)] + ["nonsense"]

    async def ask(explained=0):
        asked = [together.rank((Wishes(watched=((name, None),)), 3, n < explained)) for n, name in enumerate(names)]
        return await asyncio.gather(*asked, return_exceptions=True)

    *found, refused = asyncio.run(ask(explained=10))
    assert sizes == [8, 32]
    assert isinstance(refused, RequestError)
    for n, (name, answer) in enumerate(zip(names[:-1], found, strict=True)):
        assert answer.items.tolist() == rank([(Wishes(watched=((name, None),)), 3, False)])[0].items.tolist()
        assert (answer.reasons is not None) == (n < 10)
    monkeypatch.setattr("recbole_mm.recommend.web.together._CELLS", 3 * len(recommender.popularity))
    assert Together(recommender).most == 3
    monkeypatch.setattr(recommender, "rank", lambda _: 1 / 0)
    assert all(isinstance(answer, ZeroDivisionError) for answer in asyncio.run(ask()))


def test_a_question_joins_those_that_wait_while_each_turn_brings_one(served, monkeypatch):
    recommender = Recommender.load(served.run_dir)
    sizes, rank = [], recommender.rank
    monkeypatch.setattr(recommender, "rank", lambda asked: sizes.append(len(asked)) or rank(asked))
    together = Together(recommender)

    async def ask(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await together.rank((Wishes(watched=(("i3", None),)), 3, False))

    async def together_and_late():
        await asyncio.gather(*(ask(turns) for turns in (0, 1, 2, 9)))

    asyncio.run(together_and_late())
    assert sizes == [3, 1]


def test_not_ready_before_it_is_started(app):
    client = TestClient(app)  # not entered: the application is not started
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_the_page_asks_nobody_else(client):
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    for path in ("/", "/app.js", "/style.css", "/icon.svg"):
        content = client.get(path)
        assert content.status_code == 200
        urls = set(re.findall(r"https?://[^\"' )]+", content.text)) - {"http://www.w3.org/2000/svg"}
        assert not urls
        assert "eval" not in content.text
        assert "innerHTML" not in content.text


# -- any request that the description allows, and many that it does not ---------------------------------------------


OPERATIONS = [
    ("POST", "/api/recommend"), ("POST", "/api/explain"), ("GET", "/api/users/{user}/recommend"), ("GET", "/api/about"),
    ("GET", "/api/films"), ("GET", "/api/films/{item}"), ("GET", "/api/films/{item}/similar"),
    ("GET", "/api/films/{item}/poster"), ("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"),
]  # fmt: skip


# a path such as /api/films/{item} takes any text, and some operations take nothing: neither can be asked wrongly
WRONGLY = [o for o in OPERATIONS if o[1].endswith(("recommend", "explain", "films", "similar"))]


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*o, GenerationMode.POSITIVE) for o in OPERATIONS] + [(*o, GenerationMode.NEGATIVE) for o in WRONGLY],
)
def test_whatever_is_asked_the_answer_is_as_described(app, client, method, path, mode):
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method]

    @settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        answer = case.call()
        assert answer.status_code < 500
        # that a film is of the catalogue, no schema can say: such a question is refused although it is well-formed
        excluded = [positive_data_acceptance]
        if answer.status_code == 413:  # a body that breaks the schema by being too long is refused by its length
            excluded.append(negative_data_rejection)
        case.validate_response(answer, excluded_checks=excluded)

    ask()


def test_every_operation_is_asked(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, of in paths.items() for method in of} == set(OPERATIONS)


def test_the_description_is_openapi(client):
    content = client.get("/openapi.json").json()
    assert content["openapi"].startswith("3.")
    assert {"/api/recommend", "/api/explain", "/api/films", "/health", "/ready", "/metrics"} <= set(content["paths"])
