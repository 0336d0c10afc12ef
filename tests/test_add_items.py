"""Films that came after training: encoded, scored from their modalities, and refused where they cannot be."""

import shutil
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.quick_start import run
from recbole_mm.recommend import Recommender

FACTS = {"genre": {"field": "class", "encoding": "multi_hot"}, "age": {"field": "year", "encoding": "bumps"}}


@dataclass
class StubEncoder:
    """Answers an item's own planted vector; ``i4``'s file fails."""

    modality: str
    vectors: dict[str, np.ndarray]
    width: int = 12

    def encode(self, sources):
        names = [str(source).rsplit("/", 1)[-1].removesuffix(".jpg") for source in sources]
        mask = np.array([name in self.vectors for name in names])
        vectors = np.stack([self.vectors.get(name, np.zeros(self.width, np.float32)) for name in names])
        return Encoded(vectors, mask, {n: "not an image" for n in np.flatnonzero(~mask)})


@dataclass
class Encoded:
    vectors: np.ndarray
    mask: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """MMFusion trained on warm items, and the data."""
    root = tmp_path_factory.mktemp("original")
    data = Planted(root / "dataset").write_cold()
    modalities = {**data.register(image="both", text="b"), **FACTS}
    parts = ["train", "valid", "test"]
    run("MMFusion", data.name, config=data.config(modalities=modalities, epochs=3, benchmark_filename=parts),
        run_dir=root / "run")  # fmt: skip
    Recommender.load(root / "run")
    return data


@pytest.fixture
def trained(original, monkeypatch):
    """A copy of the run in ``run``, and a stand-in for the encoders that knows the planted features."""
    shutil.copytree(original.root.parent / "run", "run")
    features = {name: original.features(kind, missing=5) for name, kind in (("image", "both"), ("text", "b"))}
    by_token = {n: dict(zip(f.tokens, f.vectors, strict=True)) for n, f in features.items()}

    def encoder_from_provenance(provenance, *, checkpoint=None):
        name = {"both": "image", "b": "text"}[provenance["encoder"]]
        return StubEncoder(name, by_token[name])

    module = types.ModuleType("recbole_mm.extraction")
    module.encoder_from_provenance = encoder_from_provenance
    monkeypatch.setitem(sys.modules, "recbole_mm.extraction", module)
    return original


def add(csv: str, *words: str, capsys) -> tuple[int, str, str]:
    """Write the table and run the command."""
    Path("new.csv").write_text(csv)
    with pytest.raises(SystemExit) as stopped:
        main(["add-items", "--run", "run", "--items", "new.csv", *words])
    out = capsys.readouterr()
    return stopped.value.code, out.out, out.err


def test_a_new_film_scores_as_a_cold_film_of_the_same_content(trained, tmp_path, capsys):
    recommender = Recommender.load("run")
    cold = [t for t in recommender.films.catalogue.tokens[1:] if trained_count(recommender, t) == 0]
    both = [t for t in cold if recommender.content.mask[recommender.films.ids[t], :2].all()][:2]
    posters = tmp_path / "posters"
    posters.mkdir()
    rows = ["item_id,title,year,genres,plot,poster"]
    for token in both:
        film = recommender.films.film(recommender.films.ids[token])
        year = 1990 + int(trained.attributes[int(token[1:])] @ [5, 1])
        rows.append(f"new_{token},New {token},{year},{'|'.join(film.genres)},{token},{token}.jpg")
        (posters / f"{token}.jpg").touch()
    before = {u: recommender.recommend(user=u, k=5) for u in ("u1", "u2")}
    status, out, err = add("\n".join(rows) + "\n", "--posters", "posters", "--text", "text={plot}", capsys=capsys)
    assert (status, err) == (0, "")
    assert "added 2 items to run: image 2, text 2, genre (fact), age (fact)" in out
    grown = Recommender.load("run")
    for user in ("u1", "u2"):
        scores = {r.film.item: r.score for r in grown.recommend(user=user, k=grown_size(grown))}
        for token in both:
            if token in scores:
                assert scores[f"new_{token}"] == pytest.approx(scores[token], rel=1e-3, abs=1e-4)
        for r in before[user]:
            assert scores[r.film.item] == pytest.approx(r.score, rel=1e-5)
    assert grown.recommend(watched=[f"New {both[0]}"], k=3)
    assert grown.similar(f"new_{both[0]}", 1)[0].film.item == both[0]
    why = grown.explain(f"new_{both[1]}", user="u1")
    total = sum(p.contribution for p in why.films) + why.profile + why.popularity
    assert total == pytest.approx(why.score, rel=1e-4, abs=1e-5)
    # and again: the second lot stands beside the first
    status, out, err = add("item_id,title,genres\nlate,Late,g1|G2\n", capsys=capsys)
    assert status == 0
    assert "warning: genre 'G2' of 'late' is no film's of the data set" in err
    assert "did you mean 'g2'" in err
    assert "'g1'" not in err
    assert {"late", f"new_{both[0]}"} <= set(Recommender.load("run").films.ids)


def trained_count(recommender: Recommender, token: str) -> int:
    return int((recommender.histories.items == recommender.films.ids[token]).sum())


def grown_size(recommender: Recommender) -> int:
    return len(recommender.films.catalogue.tokens) - 1


def test_what_cannot_be_encoded_is_masked_with_a_warning(trained, monkeypatch, capsys):
    csv = "item_id,title,year,genres,plot\nnew,A new film,1999,g1|unheard,nothing that is known\n"
    status, _, err = add(csv, capsys=capsys)
    assert status == 0
    assert "modality 'image' is masked for all new items: no folder of its files was given" in err
    assert "modality 'text' of 'new' is masked: not an image" in err
    recommender = Recommender.load("run")
    new = recommender.films.ids["new"]
    assert recommender.content.mask[new].tolist() == [False, False, True, True]
    assert np.isfinite([r.score for r in recommender.recommend(user="u1", k=91)]).all()
    monkeypatch.setitem(sys.modules, "recbole_mm.extraction", None)
    status, _, err = add("item_id\nother\n", capsys=capsys)
    assert status == 0
    assert err.count("is masked for all new items") == 2


@pytest.mark.parametrize(
    ("csv", "words", "says"),
    [
        ("title\nx\n", (), "no column 'item_id'"),
        ("item_id\n", (), "no rows"),
        ("item_id\ni1\n", (), "item 'i1' is in the catalogue already"),
        ("item_id\na\na\n", (), "line 3: item 'a' is in the catalogue already"),
        ("item_id\na b\n", (), "expected a word"),
        ("item_id,year\na,soon\n", (), "expected four digits"),
        ("item_id\na\n", ("--text", "txt={plot}"), "did you mean 'text'"),
        ("item_id\na\n", ("--posters", "nowhere"), "nowhere: no such folder"),
        ("item_id\na\n", ("--media", "image"), "expected KEY=VALUE, such as image=posters"),
    ],
)
def test_bad_tables_leave_the_run_as_it_was(trained, csv, words, says, capsys, tmp_path):
    status, _, err = add(csv, *words, capsys=capsys)
    assert status == 1
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run" / "added").exists()


def test_models_without_content_refuse_new_films(trained, tmp_path, capsys):
    config = trained.config(modalities={}, benchmark_filename=["train", "valid", "test"])
    run("EASE", trained.name, config=config, run_dir="ease")
    Recommender.load("ease")
    (tmp_path / "new.csv").write_text("item_id\nnew\n")
    with pytest.raises(SystemExit) as stopped:
        main(["add-items", "--run", "ease", "--items", "new.csv"])
    assert stopped.value.code == 1
    assert "EASE scores items by their interactions alone" in capsys.readouterr().err
    assert not (tmp_path / "ease" / "added").exists()
    assert len(Recommender.load("ease").recommend(user="u1", k=3)) == 3
