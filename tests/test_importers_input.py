import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import raw
from hypothesis import given, settings
from hypothesis import strategies as st
from test_importers import atomic, digests, dropped, imported, report

from recbole_mm.features import Features, write_feature_file
from recbole_mm.importers import interactions, table
from recbole_mm.importers.report import ImportReport

COLUMNS = ("--user", "u", "--item", "i", "--rating", "r", "--timestamp", "t", "--name", "small")
GOOD = ["u,i,r,t", *(f"u{u},i{i},{(u + i) % 5 + 1},{u * 100 + i}" for u in range(6) for i in range(6))]


def csv(lines, *more, **how):
    return imported("csv", "--source", raw.write(Path("raw.csv"), lines, **how), *COLUMNS, *more)


tokens = (
    st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=8).map(str.strip).filter(bool)
)


@given(
    st.dictionaries(
        st.tuples(tokens, tokens), st.tuples(st.floats(-1e9, 1e9), st.integers(0, 2**40)), min_size=1, max_size=20
    )
)
@settings(max_examples=40, deadline=None)
def test_tokens_and_ratings_survive(rows):
    """What is kept reads back as it was written; what is dropped is what RecBole's reader cannot hold."""
    rows = {("a user", "an item"): (1.5, 1), **rows}
    kept = {k: v for k, v in rows.items() if not {*k} & set(interactions._RESERVED)}
    cells = pd.DataFrame([(*k, repr(r), str(t)) for k, (r, t) in rows.items()], columns=["u", "i", "r", "t"])
    cells.to_csv("raw.csv", index=False)
    target = Path("target")
    target.mkdir(exist_ok=True)
    table.build(target, Path("raw.csv"), ImportReport("csv", "small"), table.Named("u", "i", "r", "t", ","))
    # as RecBole reads it, but for its rounding of the last digit of numbers
    types = {"user_id:token": str, "item_id:token": str, "rating:float": str}
    read = pd.read_csv(target / "small.inter", sep="\t", engine="python", dtype=types)
    assert {(u, i): (float(r), int(t)) for u, i, r, t in read.itertuples(index=False)} == kept


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 3)), min_size=1, max_size=25))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("latest", [True, False])
def test_the_row_that_is_kept_of_several_is_the_one_a_loop_finds(latest, rows):
    best = {}
    for n, (u, i, t) in enumerate(rows):
        if (u, i) not in best or ((t, n) >= best[u, i] if latest else (t, n) < best[u, i]):
            best[u, i] = (t, n)
    frame = pl.DataFrame(
        {"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows], "timestamp": [float(r[2]) for r in rows]},
        schema={"user_id": pl.Categorical, "item_id": pl.Categorical, "timestamp": pl.Float64},
    )
    lost = interactions._repeated(frame, pl.repeat(True, len(rows), eager=True).to_numpy(), latest=latest)
    assert set(range(len(rows))) - set(lost.nonzero()[0].tolist()) == {n for _, n in best.values()}


def test_every_bad_row_is_counted_with_its_reason():
    bad = [
        "u1,i1,3,4,5", "u1,i1,3,4,5,6", "", ",,,", ",i1,3,4", "u1, ,3,4", "u1,NA,3,4", '"u\t1",i1,3,4', "u1,i9,many,4",
        "u1,i9,,4", "u1,i9,nan,4", "u1,i9,inf,4", "u1,i9,3,noon", "u1,i9", "u0,i0,5,9999",
    ]  # fmt: skip
    assert csv([*GOOD, *bad]) == 0
    assert dropped("small") == {
        "more fields than the header has": 2, "empty row": 2, "no u": 1, "no i": 1, "r is not a finite number": 5,
        "t is not a finite number": 1, "repeats a user and item (last kept)": 1,
        f"i {interactions.UNUSABLE}": 1, f"u {interactions.UNUSABLE}": 1,
    }  # fmt: skip
    (counted,) = report("small")["tables"]
    assert (counted["rows"], counted["kept"]) == (36 + len(bad), 36)
    first = {d["reason"]: d["first_row"] for d in counted["dropped"]}
    assert first["no u"] == 36 + 5
    read = atomic("small")
    assert read[(read.user_id == "u0") & (read.item_id == "i0")].timestamp.tolist() == ["9999"]


@pytest.mark.parametrize("how", [{"bom": True}, {"end": "\r\n"}, {"bom": True, "end": "\r\n"}])
def test_byte_order_mark_and_line_ends_do_not_matter(how):
    assert csv(GOOD) == 0
    plain = digests("dataset/small")
    assert csv(GOOD, **how) == 0
    assert digests("dataset/small") == plain


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_the_delimiter_is_told_from_the_header(delimiter):
    assert csv([line.replace(",", delimiter) for line in GOOD]) == 0
    assert len(atomic("small")) == 36


def test_spaces_around_cells_do_not_matter():
    assert (
        csv([line.replace(",", " , ") for line in GOOD[1:]], *()) == 1
    )  # the header is gone: its columns are not there
    assert csv([GOOD[0], *(line.replace(",", " , ") for line in GOOD[1:])]) == 0
    assert atomic("small").user_id.unique().tolist() == [f"u{u}" for u in range(6)]


def test_dates_become_seconds():
    lines = [
        "u,i,r,t",
        "a,x,1,2020-01-01 00:00:10",
        "a,y,1,2020-01-01T00:00:10.5",
        "a,z,1,2020-01-02",
        "a,w,1,2020-01-01T01:00:00+01:00",
    ]
    assert csv(lines) == 0
    assert atomic("small").timestamp.astype(float).tolist() == [1577836810.0, 1577836810.5, 1577923200.0, 1577836800.0]


def test_other_encodings_are_read_by_name(capsys):
    Path("raw.csv").write_bytes("\n".join([*GOOD, "caf\u00e9,i1,3,4"]).encode("latin-1"))
    assert imported("csv", "--source", "raw.csv", *COLUMNS) == 1
    assert "not UTF-8" in capsys.readouterr().err
    assert imported("csv", "--source", "raw.csv", *COLUMNS, "--encoding", "latin-1") == 0
    assert "caf\u00e9" in set(atomic("small").user_id)
    assert imported("csv", "--source", "raw.csv", *COLUMNS, "--encoding", "latin1x", "--replace") == 1
    assert "unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["user,i,r,t", "a,b,1,2"], "no column 'u'"),
        (["u,item,r,t", "a,b,1,2"], "no column 'i' (columns: u, item, r, t)"),
        (["u:i:r:t", "a:b:1:2"], "give the character between them by --delimiter"),
        (["u,i,r,t"], "a header and no rows"),
        (["u,u,r,t", "a,b,1,2"], "column 'u' occurs twice"),
        (["u,i,r,t", "a,b,good,2", "a,c,bad,2"], "none of its 2 rows can be used: 2 x r is not a"),
        (["u,i,r,t", '"a,b,1,2', "a,c,1,2"], "a field opens with a quotation mark"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_clear_line(lines, words, capsys):
    assert csv(lines) == 1
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1
    assert list(Path().glob("dataset/*")) == []


def test_an_empty_and_an_absent_file_are_refused(capsys):
    Path("empty.csv").touch()
    for source, words in (
        ("empty.csv", "the file is empty"),
        ("emty.csv", "did you mean 'empty.csv'?"),
        (".", "no such"),
    ):
        assert imported("csv", "--source", source, *COLUMNS) == 1
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["imdb", "ml-100k", "../up", "a b", ""])
def test_names_that_cannot_be_used_are_refused(name, capsys):
    assert imported("csv", "--source", raw.write(Path("raw.csv"), GOOD), *COLUMNS[:-1], name) == 1
    assert "--name" in capsys.readouterr().err


def test_another_data_set_is_replaced_only_when_asked(capsys):
    assert csv(GOOD) == 0
    folder = Path("dataset/small")
    write_feature_file(folder / "small.text.safetensors", Features(pl.DataFrame({"a": [1.0]}).to_numpy(), ("i1",)))
    (folder / "small.train.inter").write_text("user_id:token\n")
    before = digests(folder)
    assert csv(GOOD[:-1]) == 1
    assert "holds another data set (different: import_report.json, small.inter)" in capsys.readouterr().err
    assert csv(GOOD, "--duplicates", "all") == 1
    assert digests(folder) == before
    assert csv(GOOD[:-1], "--replace") == 0
    after = digests(folder)
    assert after["small.text.safetensors"] == before["small.text.safetensors"]
    assert after["small.inter"] != before["small.inter"] and "small.train.inter" not in after


def test_a_full_disk_leaves_the_old_data_set(monkeypatch, capsys):
    assert csv(GOOD) == 0
    before = digests("dataset/small")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("recbole_mm.importers.table.write_dataset_yaml", full)
    assert csv(GOOD[:-1], "--replace") == 1
    assert "No space left" in capsys.readouterr().err
    assert digests("dataset/small") == before and len(list(Path("dataset").iterdir())) == 1


def test_a_killed_import_leaves_nothing_behind_for_the_next():
    lines = ["u,i,r,t", *(f"u{n},i{n % 999},3,{n}" for n in range(150_000))]
    raw.write(Path("raw.csv"), lines)
    words = [sys.executable, "-m", "recbole_mm", "import", "csv", "--source", "raw.csv", *COLUMNS]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not list(Path().glob("dataset/.small.importing-*/small/small.inter")) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("dataset/small").exists() and list(Path("dataset").iterdir())
    assert csv(lines) == 0
    assert [f.name for f in Path("dataset").iterdir()] == ["small"] and len(atomic("small")) == 150_000


def test_an_import_killed_between_its_two_renames_is_undone():
    assert csv(GOOD) == 0
    before = digests("dataset/small")
    Path("dataset/small").rename("dataset/.small.previous")
    assert csv(GOOD) == 0
    assert digests("dataset/small") == before and not Path("dataset/.small.previous").exists()


def movies(path, rows):
    if path.suffix == ".jsonl":
        return raw.write(path, [json.dumps(r) for r in rows] + ["{broken"])
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


OMDB = [
    {"imdbID": f"tt{n:07d}", "Title": f"T{n}", "Year": "1990\u20131994", "Genre": "Sci-Fi, Film Noir",
     "Plot": f"Plot\n{n}.", "Director": "N/A", "Actors": "A B, C"} for n in range(1, 20)
]  # fmt: skip
TMDB = [
    {"imdb_id": f"tt{n:07d}", "title": f"T{n}", "release_date": "1990-07-01", "overview": f"Plot\n{n}.",
     "genres": "[{'id': 1, 'name': 'Sci-Fi'}, {'id': 2, 'name': 'Film Noir'}]"} for n in range(1, 20)
]  # fmt: skip


@pytest.mark.parametrize("rows", [OMDB, TMDB], ids=["omdb", "tmdb"])
@pytest.mark.parametrize("file", ["movies.csv", "movies.jsonl"])
def test_metadata_is_joined_by_imdb_id_and_the_import_stays_known(tmp_path, rows, file, capsys):
    source = movies(Path(file), rows)
    base = ("movielens", "--source", raw.movielens_csv(tmp_path / "raw", raw.ratings()), "--name", "small")
    Path("posters").mkdir()
    Path("posters/tt0000005.jpg").write_bytes(b"a poster")
    assert imported(*base) == 0
    words = ("metadata", "--source", source, "--name", "small", "--posters", "posters")
    assert imported(*words) == 0
    items = atomic("small", "item").set_index("item_id")
    assert items.loc["5", ["title", "year", "plot", "poster"]].tolist() == [
        "Film 5, The",
        "1955",
        "Plot 5.",
        "posters/tt0000005.jpg",
    ]
    assert items.loc["999", ["title", "plot", "year"]].tolist() == ["No Year", "", ""]
    done = digests("dataset/small")
    assert imported(*words) == 0 and imported(*base) == 0
    assert digests("dataset/small") == done
    assert imported(*words, "--replace") == 0
    items = atomic("small", "item").set_index("item_id")
    assert items.loc["5", ["title", "year", "genres"]].tolist() == ["T5", "1990", "Sci-Fi Film_Noir"]
    metadata = json.loads(Path("dataset/small/metadata_report.json").read_text())
    assert metadata["counts"]["items found by imdb_id"] == 19
    assert (file == "movies.csv") == (metadata["tables"][0]["dropped"] == [])


def test_metadata_without_an_id_to_join_by_is_refused(capsys):
    assert csv(GOOD) == 0
    assert imported("metadata", "--source", movies(Path("m.csv"), OMDB), "--name", "small") == 1
    assert "have no imdb_id" in capsys.readouterr().err
    assert imported("metadata", "--source", movies(Path("m.csv"), [{"title": "x"}]), "--name", "small") == 1
    assert "no IMDb id (columns: title)" in capsys.readouterr().err
    assert (
        imported("metadata", "--source", movies(Path("m.csv"), [{"item_id": "i1", "year": 1990}]), "--name", "small")
        == 0
    )
    assert "year: {field: year" in Path("dataset/small/small.yaml").read_text()
