"""``recbole-mm recommend`` and ``serve``, as they are typed."""

import csv
import io
import json

import pytest
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.quick_start import run
from recbole_mm.recommend import Recommender


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    data = Planted(root / "dataset").write()
    modalities = {**data.register(image="both"), "genre": {"field": "class", "encoding": "multi_hot"}}
    run("MMFusion", data.name, config=data.config(modalities=modalities, epochs=2), run_dir=root / "run")
    Recommender.load(root / "run")
    return str(root / "run")


@pytest.fixture
def command(where, capsys):
    """Run ``recommend``; answer its exit status, what it printed, and its errors."""

    def ask(*words: str, run_dir: str = where) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["recommend", "--run", run_dir, *words])
        out = capsys.readouterr()
        return stopped.value.code, out.out, out.err

    return ask


def test_forms_agree_with_each_other_and_with_python(command, where, tmp_path):
    question = ("--watched", "i3=5", "--watched", "I7=1", "--genre", "g1", "-k", "6")
    expected = Recommender.load(where).recommend(watched={"i3": 5, "i7": 1}, genres=["g1"], k=6)
    as_json = json.loads(command(*question, "--json", "--explain")[1])
    assert [r["film"]["item"] for r in as_json] == [r.film.item for r in expected]
    assert as_json[0]["why"]["score"] == pytest.approx(expected[0].score)
    rows = list(csv.DictReader(io.StringIO(command(*question, "--csv")[1])))
    assert [r["item"] for r in rows] == [r.film.item for r in expected]
    table = command(*question, "--explain")[1]
    assert "watched: i3 (1990) = 5, i7 (" in table
    assert all(r.film.title in table for r in expected)
    assert command(*question, "--csv", "--out", "list.csv")[1] == ""
    assert list(csv.DictReader((tmp_path / "list.csv").open())) == rows


def test_everyone(command, where):
    rows = list(csv.DictReader(io.StringIO(command("--all-users", "-k", "3")[1])))
    lines = [json.loads(line) for line in command("--all-users", "-k", "3", "--json")[1].splitlines()]
    recommender = Recommender.load(where)
    assert len(rows) == 3 * len(lines) == 3 * 72
    for line in lines:
        expected = [r.film.item for r in recommender.recommend(user=line["user"], k=3)]
        assert [i["item"] for i in line["items"]] == expected
        assert [r["item"] for r in rows if r["user"] == line["user"]] == expected


def test_similar_and_why(command):
    similar = json.loads(command("--similar", "i3", "-k", "2", "--by", "image", "--json")[1])
    assert [s["rank"] for s in similar] == [1, 2]
    why = json.loads(command("--why", "i20", "--watched", "i3=4", "--watched", "i5", "--json")[1])
    total = sum(p["contribution"] for p in why["films"]) + why["profile"] + why["popularity"] + why["genres"]
    assert total == pytest.approx(why["score"], rel=1e-4, abs=1e-5)
    table = command("--why", "i20", "--watched", "i3=4")[1]
    assert "score of i20" in table
    assert "score without it" in table


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing to go by"),
        (("--user", "nobody"), "no user 'nobody'"),
        (("--watched", "zzzzz"), "no film 'zzzzz'"),
        (("--watched", "tt0113189"), "IMDb's ids need a table"),
        (("--watched", "i1=nan"), "not on the scale"),
        (("--user", "u1", "-k", "0"), "k=0"),
        (("--user", "u1", "-k", "1000000000"), "k=1000000000; expected 1 to the number of films, 90"),
        (("--user", "u1", "--genre", "g9"), "no genre 'g9'"),
        (("--user", "u1", "--lean", "image"), "expected MODALITY=AMOUNT"),
        (("--user", "u1", "--json", "--csv"), "exclude each other"),
        (("--user", "u1", "--why", "i1", "--all-users"), "exclude each other"),
        (("--user", "u1", "--films", "nowhere.csv"), "nowhere.csv: cannot be read"),
        (("--user", "u1", "--out", "/proc/nowhere/list.csv"), "/proc/nowhere"),
    ],
)
def test_what_cannot_be_answered_is_one_line(command, words, says):
    status, out, err = command(*words)
    assert (status, out) == (1, "")
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_no_run(command, tmp_path):
    status, _, err = command("--user", "u1", run_dir=str(tmp_path))
    assert status == 1
    assert "expected the directory of a finished run" in err


def test_serve_refuses_what_it_cannot_serve(where, capsys):
    for words, says in (
        (["--run", "nowhere"], "finished run"),
        (["--run", where, "--posters", "nowhere"], "no such folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["serve", *words])
        assert stopped.value.code == 1
        assert says in capsys.readouterr().err
