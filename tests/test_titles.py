"""Films by what people call them."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_mm.errors import RequestError
from recbole_mm.recommend.store import Catalogue
from recbole_mm.recommend.titles import AmbiguousFilmError, FilmIndex, plain

FILMS = [
    ("[PAD]", None, 0), ("Toy Story", 1995, 9), ("The Usual Suspects", 1995, 8), ("Sabrina", 1995, 5),
    ("Sabrina", 1954, 6),
    ("Star Trek: The Wrath of Khan", 1982, 4), ("Star Trek: First Contact", 1996, 7), ("Chasing Amy", 1997, 3),
    ("Chasing Amy", 1997, 2), ("Amélie & Co.", 2001, 1), ("Return of the Jedi", 1983, 9), ("12 Angry Men", 1957, 4),
    ("Shanghai Triad (Yao a yao yao dao waipo qiao)", 1995, 1), ("七人の侍", 1954, 3), ("Jedi Academy", 2012, 1),
    ("Heat", 1995, 5), ("Beat", 1998, 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def index():
    titles, years, popularity = zip(*FILMS, strict=True)
    tokens = tuple(f"m{n}" for n in range(len(FILMS)))
    catalogue = Catalogue(tokens=tokens, titles=titles, years=years, genres=((),) * len(FILMS))
    return FilmIndex(catalogue, np.array(popularity, dtype=float), {"tt0114709": "m1"})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("m5", 5), ("id:m5", 5), ("tt0114709", 1), ("TT0114709", 1), ("Toy Story (1995)", 1), ("toy story", 1),
        ("  TOY  STORY ", 1), ("Toy Stroy", 1), ("toystory", 1), ("Toy Story [1995]", 1), ("Toy Story (1996)", 1),
        ("usual suspects", 2), ("Usual Suspects, The (1995)", 2), ("the usual suspect", 2), ("Sabrina (1954)", 4),
        ("Sabrina (1995)", 3), ("wrath of khan", 5), ("Star Trek First Contact", 6), ("Chasing Amy", 7),
        ("amelie and co", 9), ("12 angry men", 11), ("Yao a yao yao dao waipo qiao", 12), ("shanghai triad", 12),
        ("七人の侍", 13), ("heat", 15),
    ],
)  # fmt: skip
def test_lenient_titles(index, said, meant):
    assert index.find(said) == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [("Sabrina", {3, 4}), ("Star Trek", {5, 6}), ("jedi", {10, 14})],
)
def test_ambiguous_titles_list_what_they_may_be(index, said, meant):
    with pytest.raises(AmbiguousFilmError) as error:
        index.find(said)
    assert set(error.value.candidates) == meant
    popular = [FILMS[i][2] for i in error.value.candidates]
    assert popular == sorted(popular, reverse=True)
    for item in meant:
        assert f"id:m{item}" in str(error.value)


@pytest.mark.parametrize("said", ["", "   ", "Casablanca", "m99", "id:", "(1995)", "\x00"])
def test_unknown_titles(index, said):
    with pytest.raises(RequestError, match="no film"):
        index.find(said)


def test_search_as_one_types(index):
    assert index.search("star", 5)[0] == 6
    assert index.search("jedi", 5)[:2] == [10, 14]
    assert index.search("tt0114709", 3) == [1]
    assert 1 in index.search("toy stor", 3)
    assert index.search("sabrina (1954)", 3) == [4]
    assert index.search("zzzzzz", 3) == []


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_answered_or_refused(index, said):
    assert isinstance(plain(said), str)
    with contextlib.suppress(RequestError):
        assert 0 < index.find(said) < len(FILMS)
    assert all(0 < i < len(FILMS) for i in index.search(said, 5))
