"""Raw files in the very form of their publishers: MovieLens 100K and 10M, IMDb's dumps, Kaggle's and TMDB's, OMDb's."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
import raw
from filelock import FileLock
from test_importers import atomic, dropped, imported, report
from test_importers_input import COLUMNS, GOOD, csv

from recbole_mm.importers import movielens
from recbole_mm.resources import movielens_in_recbole

MOVIES = ("metadata", "--name", "small", "--source")


@pytest.fixture
def linked(tmp_path):
    """A data set of MovieLens's with the IMDb and TMDB ids of its items 1 to 24."""
    source = raw.movielens_csv(tmp_path / "raw", raw.ratings())
    (source / "movies.csv").write_text("movieId,title,genres\n" + "".join(f"{n},Film,\n" for n in range(1, 25)))
    assert imported("movielens", "--source", source, "--name", "small") == 0


def facts(*columns, of="small"):
    return atomic(of, "item").set_index("item_id")[list(columns)].T.to_dict("list")


def test_movielens_10m_has_half_stars_titles_with_colons_and_tags(tmp_path):
    rows = raw.ratings()
    source = raw.movielens_dat(tmp_path / "raw", rows, half=True)
    (source / "users.dat").unlink()
    titles = ["Star Trek: Caf\u00e9 \u2026\u0085 (1998)::Drama|Sci-Fi", "Shadows (Cienie) (1988)::(no genres listed)"]
    raw.write(source / "movies.dat", [f"{n}::{title}" for n, title in enumerate(titles, 1)])
    raw.write(source / "tags.dat", ["15::1::excellent!::1215184630"])
    assert imported("movielens", "--source", source, "--name", "small") == 0
    read = atomic("small")
    kept = zip(read.user_id, read.item_id, read.rating.astype(float), read.timestamp.astype(int), strict=True)
    assert list(kept) == rows
    assert facts("title", "year", "genres") == {
        "1": ["Star Trek: Caf\u00e9 \u2026", "1998", "Drama Sci-Fi"],
        "2": ["Shadows (Cienie)", "1988", ""],
    }
    assert not Path("dataset/small/small.user").exists()
    assert report("small")["notes"] == ["tags.dat is not imported"]


def test_the_unpacked_movielens_100k_gives_what_recboles_copy_gives(tmp_path):
    theirs = movielens_in_recbole()
    source = tmp_path / "ml-100k"
    source.mkdir()
    read = {s: pd.read_csv(theirs / f"ml-100k.{s}", sep="\t", dtype=str, na_filter=False) for s in ("item", "user")}
    source.joinpath("u.data").write_text((theirs / "ml-100k.inter").read_text().partition("\n")[2])
    source.joinpath("u.user").write_text("\n".join("|".join(row) for row in read["user"].to_numpy()) + "\n")
    lines = []
    for number, title, year, genres in read["item"].to_numpy():
        flags = [str(int(genre in genres.split())) for genre in movielens._GENRES]
        full = f"{title} ({year})" if year.isdigit() else title  # one film is unknown
        lines.append("|".join([number, full, f"01-Jan-{year}", "", f"http://us.imdb.com/?{full}", *flags]))
    source.joinpath("u.item").write_bytes("\n".join([*lines, ""]).encode("latin-1"))
    assert imported("movielens", "--source", source, "--name", "unpacked") == 0
    assert imported("movielens", "--source", "recbole", "--name", "theirs") == 0
    on_video = facts("title", "year", of="unpacked")["1412"]
    assert on_video == ["Land Before Time III: The Time of the Great Giving", "1995"]
    for suffix in ("inter", "item", "user"):
        ours, recboles = atomic("unpacked", suffix), atomic("theirs", suffix)
        if suffix == "item":  # RecBole took the V of "(1995) (V)" for its year
            ours, recboles = (t[t.item_id != "1412"] for t in (ours, recboles))
        pd.testing.assert_frame_equal(ours, recboles)


@pytest.mark.parametrize("packed", [False, True])
def test_imdbs_own_dump_has_no_quoting_and_its_own_word_for_missing(linked, packed):
    head = "tconst\ttitleType\tprimaryTitle\toriginalTitle\tisAdult\tstartYear\tendYear\truntimeMinutes\tgenres"
    rows = [
        'tt0000001\tmovie\t"Giliap"\t"Giliap"\t0\t1975\t\\N\t137\tCrime,Drama',
        'tt0000002\tmovie\t"Unbalanced\t"Unbalanced\t0\t\\N\t\\N\t\\N\t\\N',
        "tt0000003\ttvSeries\tThird\tThird\t0\t1990\t1994\t22\tFilm-Noir",
        "tt9916880\ttvEpisode\tElsewhere\tElsewhere\t0\t2014\t\\N\t\\N\tAdventure,Animation,Comedy",
    ]
    source = raw.write(Path("title.basics.tsv"), [head, *rows])
    if packed:
        Path("title.basics.tsv.gz").write_bytes(gzip.compress(source.read_bytes()))
        source = Path("title.basics.tsv.gz")
    assert imported(*MOVIES, source, "--replace") == 0
    found = facts("title", "year", "genres")
    assert found["1"] == ['"Giliap"', "1975", "Crime Drama"]
    assert found["2"] == ['"Unbalanced', "", ""]
    assert found["3"] == ["Third", "1990", "Film-Noir"]


@pytest.mark.parametrize("joined_by", ["imdb_id", "tmdb_id"])
def test_kaggles_lists_in_cells_are_read_and_never_evaluated(linked, joined_by):
    """Python's spelling (movies_metadata.csv) beside JSON's (tmdb_5000_movies.csv, which has no IMDb id)."""
    evil = "[{'id': __import__('pathlib').Path('evil').touch(), 'name': 'Drama'}]"
    rows = [
        ("[{'id': 16, 'name': 'Science Fiction'}, {'id': 35, 'name': \"Children's\"}]",
         "[{'iso_639_1': 'es', 'name': 'Espa\u00f1ol'}, {'iso_639_1': 'xx', 'name': ''}]"),
        ('[{"id": 28, "name": "Action"}]', '[{"iso_639_1": "es", "name": "Espa\\u00f1ol"}]'),
        ("[]", "['O\\'Neill \"x\"', \"B\"]"),
        (evil, ""),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["genres", "spoken_languages"])
    table["id"] = [10 * n for n in range(1, 5)]
    table["overview"] = 'One, two.\nThree "four".'
    table["original_language"] = "en"
    if joined_by == "imdb_id":
        table["imdb_id"] = [f"tt{n:07d}" for n in range(1, 5)]
    table.to_csv("movies_metadata.csv", index=False)
    assert imported(*MOVIES, "movies_metadata.csv") == 0
    assert f"items found by {joined_by}" in Path("dataset/small/metadata_report.json").read_text()
    found = facts("genres", "language", "plot")
    assert found["1"] == ["Science_Fiction Children's", "Espa\u00f1ol", 'One, two. Three "four".']
    assert found["2"][:2] == ["Action", "Espa\u00f1ol"]
    assert found["3"][:2] == ["", 'O\'Neill_"x" B']
    assert found["4"][:2] == ["Drama", ""]
    assert not Path("evil").exists()


def test_a_movie_id_that_is_a_number_is_not_taken_for_imdbs(linked, capsys):
    Path("credits.csv").write_text("movie_id,title\n1,A\n2,B\n")
    assert imported(*MOVIES, "credits.csv") == 1
    assert "none of the 24 items of 'small' is in it by imdb_id" in capsys.readouterr().err


OMDB = [
    {
        "Title": f"T{n}", "Year": "1990\u2013", "Genre": "Animation, Sci-Fi", "Director": "N/A", "Actors": "A B, C",
        "Language": "English", "Plot": "N/A" if n == 2 else 'A "plot".', "Poster": "https://example.org/a.jpg",
        "Ratings": [{"Source": "x", "Value": "8.3/10"}], "imdbID": f"tt{n:07d}", "Type": "movie", "Response": "True",
    }
    for n in (1, 2)
]  # fmt: skip
FALSE = {"Response": "False", "Error": "Movie not found!"}


@pytest.mark.parametrize("form", ["lines", "lines, gzipped", "array", "printed"])
def test_omdbs_answers_are_read_in_every_form_of_json(linked, form):
    answers = [*OMDB, FALSE]
    lines = "\ufeff" + "\r\n".join(json.dumps(a, ensure_ascii=False) for a in answers)
    if form == "lines":
        source = Path("omdb.jsonl")
        source.write_bytes(lines.encode())
    elif form == "lines, gzipped":
        source = Path("omdb.jsonl.gz")
        source.write_bytes(gzip.compress(lines.encode()))
    else:
        source = Path("omdb.json")
        source.write_text(json.dumps(answers, indent=2 if form == "printed" else None))
    assert imported(*MOVIES, source, "--replace") == 0
    found = facts("title", "year", "genres", "cast", "plot", "director")
    assert found["1"] == ["T1", "1990", "Animation Sci-Fi", "A_B C", 'A "plot".', ""]
    assert found["2"][4] == ""
    (table,) = json.loads(Path("dataset/small/metadata_report.json").read_text())["tables"]
    assert table["dropped"] == [{"reason": "no imdb_id", "rows": 1, "first_row": 3}]


def test_lines_that_hold_no_json_object_are_counted_with_the_first_of_them(linked, capsys):
    good = [json.dumps({"imdb_id": f"tt{n:07d}", "year": y, "genres": g})
            for n, (y, g) in enumerate([("1990", ["A B", "C|D", None]), (1991, "E, F"), (None, [])], 1)]  # fmt: skip
    raw.write(Path("m.jsonl"), [good[0], "{broken", "", "5", "[1]", *good[1:], '{"imdb_id": "tt1"} trailing', "null"])
    assert imported(*MOVIES, "m.jsonl", "--replace") == 0
    (table,) = json.loads(Path("dataset/small/metadata_report.json").read_text())["tables"]
    assert table["rows"] == 8
    assert table["dropped"] == [{"reason": "not a JSON object", "rows": 5, "first_row": 2}]
    assert facts("year", "genres") == {
        **{str(n): ["", ""] for n in range(1, 25)},
        "1": ["1990", "A_B C D"],
        "2": ["1991", "E F"],
    }
    raw.write(Path("m.jsonl"), ["[1]", "{"])
    assert imported(*MOVIES, "m.jsonl") == 1
    assert "none of its 2 lines is a JSON object" in capsys.readouterr().err
    Path("m.jsonl").write_bytes('{"title": "caf\u00e9"}'.encode("latin-1"))
    assert imported(*MOVIES, "m.jsonl") == 1
    assert "not UTF-8" in capsys.readouterr().err
    raw.write(Path("m.jsonl"), ['{"film": 1}'])
    assert imported(*MOVIES, "m.jsonl") == 1
    assert "none that is known" in capsys.readouterr().err


def test_flickscore_says_which_list_is_no_list(tmp_path, capsys):
    source = raw.flickscore(tmp_path / "raw")
    objects = [json.loads(line) for line in (source / "movies.jsonl").read_text().splitlines()]
    raw.write(source / "movies.jsonl", [json.dumps({**o, "genres": "Drama"}) for o in objects])
    assert imported("flickscore", "--source", source) == 1
    assert "no movie has 'genres' as it should be" in capsys.readouterr().err
    raw.write(source / "movies.jsonl", [json.dumps({k: o[k] for k in o if k != "cast"}) for o in objects] + ["{"])
    assert imported("flickscore", "--source", source) == 0
    assert dropped("flickscore")["not a JSON object"] == 1
    assert set(atomic("flickscore", "item").cast) == {""}


def test_a_broken_gzip_file_is_one_clear_line(capsys):
    for content in (b"\x1f\x8bnot gzip at all", gzip.compress("\n".join(GOOD).encode())[:-20]):
        Path("raw.csv.gz").write_bytes(content)
        assert imported("csv", "--source", "raw.csv.gz", *COLUMNS) == 1
        error = capsys.readouterr().err
        assert "raw.csv.gz: cannot be read" in error and error.count("\n") == 1


def test_an_import_at_work_is_left_alone_and_one_that_died_is_cleared():
    working = Path("dataset/.small.importing-other")
    (working / "small").mkdir(parents=True)
    with FileLock(working / "lock"):
        assert csv(GOOD) == 0
        assert working.is_dir()
    assert csv(GOOD) == 0
    assert [f.name for f in Path("dataset").iterdir()] == ["small"]
