import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import raw
import yaml

import recbole_mm
from recbole_mm.cli import main
from recbole_mm.features import open_feature_file


def imported(*words):
    """Run ``recbole-mm import`` and answer its exit status."""
    with pytest.raises(SystemExit) as done:
        main(["import", *map(str, words)])
    return done.value.code


def atomic(name, suffix="inter"):
    """An atomic file as RecBole's pandas reads it, with bare column names."""
    table = pd.read_csv(f"dataset/{name}/{name}.{suffix}", sep="\t", dtype=str, engine="python", keep_default_na=False)
    return table.rename(columns=lambda c: c.split(":")[0])


def report(name):
    return json.loads(Path(f"dataset/{name}/import_report.json").read_text())


def dropped(name, table=0):
    return {d["reason"]: d["rows"] for d in report(name)["tables"][table]["dropped"]}


def digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in Path(folder).iterdir()}


KINDS = {
    "movielens-csv": lambda p: ("movielens", "--source", raw.movielens_csv(p, raw.ratings())),
    "movielens-dat": lambda p: ("movielens", "--source", raw.movielens_dat(p, raw.ratings())),
    "movielens-100k": lambda p: ("movielens", "--source", "recbole"),
    "flickscore": lambda p: ("flickscore", "--source", raw.flickscore(p)),
    "mmrec": lambda p: ("mmrec", "--source", raw.mmrec(p, raw.ratings())),
    "csv": lambda p: (
        "csv", "--source", raw.movielens_csv(p, raw.ratings()) / "ratings.csv", "--user", "userId", "--item", "movieId",
        "--rating", "rating", "--timestamp", "timestamp",
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def words(request, tmp_path):
    (tmp_path / "raw").mkdir()
    return (*KINDS[request.param](tmp_path / "raw"), "--name", "small")


def test_running_twice_gives_the_same_bytes(words, capsys):
    assert imported(*words) == 0
    first = digests("dataset/small")
    assert "written: dataset/small" in capsys.readouterr().out
    assert imported(*words) == 0
    assert "unchanged" in capsys.readouterr().out
    assert imported(*words[:-1], "other") == 0
    assert digests("dataset/small") == first
    assert {k.replace("other", "small") for k in digests("dataset/other")} == set(first)
    assert [f.name for f in Path("dataset").iterdir() if f.name.startswith(".")] == []


def test_an_imported_set_trains_by_its_own_yaml(words):
    assert imported(*words) == 0
    config = yaml.safe_load(Path("dataset/small/small.yaml").read_text())
    files = [atomic("small", f.name.removeprefix("small.")) for f in Path("dataset/small").glob("*.inter")]
    rows = pd.concat(files)
    result = recbole_mm.run(model="Pop", dataset="small", config={"epochs": 1, "topk": [5], "valid_metric": "NDCG@5"})
    assert result["interactions"] == (len(rows) if "label" not in rows else (rows.label == "1").sum())
    assert set(result["features"]) == set(config.get("modalities", ()))


@pytest.mark.parametrize("kind", ["flickscore", "movielens-csv"])
def test_mmfusion_trains_on_an_imported_set(tmp_path, kind):
    assert imported(*KINDS[kind](tmp_path / "raw"), "--name", "small") == 0
    result = recbole_mm.run(
        model="MMFusion", dataset="small", config={"epochs": 1, "topk": [5], "valid_metric": "NDCG@5"}
    )
    assert {"genre", "year"} <= set(result["features"])


def test_movielens_csv_keeps_ratings_and_tells_titles_years_and_ids(tmp_path):
    rows = raw.ratings()
    assert imported("movielens", "--source", raw.movielens_csv(tmp_path / "raw", rows), "--name", "small") == 0
    read = atomic("small")
    assert (
        list(zip(read.user_id, read.item_id, read.rating.astype(float), read.timestamp.astype(int), strict=True))
        == rows
    )
    items = atomic("small", "item").set_index("item_id")
    assert items.loc["7", ["title", "year", "imdb_id", "tmdb_id"]].tolist() == [
        "Film 7, The",
        "1957",
        "tt0000007",
        "70",
    ]
    assert items.loc["7", "genres"] == "Film-Noir Drama"
    assert items.loc["999", ["year", "genres"]].tolist() == ["", ""]


def test_movielens_1m_reads_latin_1_titles_and_users(tmp_path):
    rows = raw.ratings()
    assert imported("movielens", "--source", raw.movielens_dat(tmp_path / "raw", rows), "--name", "small") == 0
    assert len(atomic("small")) == len(rows)
    assert atomic("small", "item").set_index("item_id").loc["3", "title"] == "Caf\u00e9: 3"
    assert atomic("small", "user").columns.tolist() == ["user_id", "gender", "age", "occupation", "zip_code"]


def test_movielens_100k_equals_recboles_own(tmp_path):
    from recbole_mm.resources import movielens_in_recbole

    assert imported("movielens", "--source", "recbole", "--name", "small") == 0
    theirs = pd.read_csv(movielens_in_recbole() / "ml-100k.inter", sep="\t", dtype=str)
    assert (atomic("small").to_numpy() == theirs.to_numpy()).all()


def test_flickscore_keeps_hindi_movies_with_a_genre(tmp_path):
    source = raw.flickscore(tmp_path / "raw")
    assert imported("flickscore", "--source", source, "--name", "small") == 0
    assert set(atomic("small").item_id) == {f"tt{n:07d}" for n in range(9)}
    assert set(atomic("small").label) == {"-1", "0", "1"}
    assert dropped("small", 1) == {"movie is in none of the languages": 60, "movie has too few genres": 30}
    items = atomic("small", "item").set_index("item_id")
    assert items.loc["tt0000003", ["title", "year", "cast"]].tolist() == ["Film 3", "2003", "A_B C_3"]
    assert items.loc["tt0000003", "plot"] == 'A "plot" of 3.'
    assert items.loc["tt0000007", "poster"] == ""
    text = open_feature_file(Path("dataset/small/small.text.safetensors"))
    original = np.load(source / "features" / "text_encoder_6.npz")
    assert text.tokens == tuple(f"tt{n:07d}" for n in range(9))
    np.testing.assert_array_equal(text.vectors, original["x"][:9])
    assert imported("flickscore", "--source", source, "--name", "both", "--languages", "all", "--min_genres", 0) == 0
    assert len(atomic("both")) == 360


def test_flickscore_refuses_an_unknown_language(tmp_path, capsys):
    assert imported("flickscore", "--source", raw.flickscore(tmp_path / "raw"), "--languages", "Hidni") == 1
    assert "did you mean 'Hindi'?" in capsys.readouterr().err


def test_mmrec_keeps_the_split_and_masks_made_up_images(tmp_path):
    rows = raw.ratings()
    source = raw.mmrec(tmp_path / "raw", rows)
    assert imported("mmrec", "--source", source, "--name", "small") == 0
    original = pd.read_csv(source / "small.inter", sep="\t", dtype=str)
    for label, part in enumerate(("train", "valid", "test")):
        expected = original[original.x_label == str(label)].iloc[:, :2].to_numpy().tolist()
        assert atomic("small", f"{part}.inter")[["user_id", "item_id"]].to_numpy().tolist() == expected
    image = open_feature_file(Path("dataset/small/small.image.safetensors"))
    assert {"3", "4"}.isdisjoint(image.tokens)
    row = image.tokens.index("11")
    np.testing.assert_array_equal(image.vectors[row], np.load(source / "image_feat.npy")[11].astype(np.float32))
    assert any("pickle" in note for note in report("small")["notes"])


def test_mmrec_takes_names_of_modalities(tmp_path, capsys):
    source = raw.mmrec(tmp_path / "raw", raw.ratings())
    np.save(source / "all-MiniLM-L6-v2.npy", np.ones((24, 3)))
    words = ("mmrec", "--source", source, "--name", "small", "--modality")
    assert imported(*words, "credits=all-MiniLM-L6-v2.npy") == 0
    assert Path("dataset/small/small.credits.safetensors").is_file()
    assert imported(*words, "text=all-MiniLM-L6-v2.npy", "--replace") == 1
    assert "name of another file" in capsys.readouterr().err
    assert imported(*words, "text=text_fet.npy", "--replace") == 1
    assert "did you mean 'text_feat.npy'?" in capsys.readouterr().err
    assert Path("dataset/small/small.credits.safetensors").is_file()


def test_mmrec_refuses_objects_in_a_feature_file(tmp_path, capsys):
    source = raw.mmrec(tmp_path / "raw", raw.ratings())
    np.save(source / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert imported("mmrec", "--source", source, "--name", "small") == 1
    assert "no objects" in capsys.readouterr().err
    assert not Path("dataset/small").exists()
