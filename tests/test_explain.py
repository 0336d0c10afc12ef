"""Reasons that add up, against leaving things out in slow motion."""

import pytest
import torch
from variants import VARIANTS

from recbole_mm.model.fusion import Fusion
from recbole_mm.recommend import Recommender

# -- explanations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_explanations_add_up(runs, name):
    recommender = Recommender.load(runs(name))
    asked = {"genres": ["g1"], "lean": {"text": 1.5, "image": -0.5}}
    for person in ({"user": "u5"}, {"watched": {"i3": 5, "i4": 1, "i9": None}}, {"user": "u5", "watched": {"i3": 2}}):
        for r in recommender.recommend(**person, **asked, explain=True, k=6):
            by_film = sum(p.contribution for p in r.why.films) + r.why.profile + r.why.popularity + r.why.genres
            assert by_film == pytest.approx(r.score, rel=1e-4, abs=1e-5)
            assert sum(r.why.modalities.values()) + r.why.genres == pytest.approx(r.score, rel=1e-4, abs=1e-5)
            for part in r.why.films:
                assert sum(part.by.values()) == pytest.approx(part.contribution, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", ["EASE", "ItemKNN"])
def test_where_scores_are_linear_a_films_part_is_what_leaving_it_out_takes(runs, name):
    recommender = Recommender.load(runs(name))
    why = recommender.explain("i20", watched={"i3": 5, "i4": 1, "i9": None, "i11": 4})
    for part in why.films:
        assert part.without == pytest.approx(why.score - part.contribution, rel=1e-5, abs=1e-6)


def test_score_without_a_film_is_that_of_somebody_who_never_watched_it(recommender):
    watched = {"i3": 5, "i4": 1, "i9": None}
    why = recommender.explain("i20", watched=watched)
    for part in why.films:
        rest = {film: rating for film, rating in watched.items() if film != part.film.item}
        assert part.without == pytest.approx(recommender.explain("i20", watched=rest).score, rel=1e-6)


def test_silencing_a_watched_film_in_slow_motion(runs):
    """The attention's denominators held, the film's numerator gone: written out here without the package's code."""
    recommender = Recommender.load(runs("content"))
    p, watched = recommender.parts, {"i3": 5.0, "i4": 5.0, "i9": 4.0}
    ids = [recommender.films.ids[t] for t in watched]
    target = recommender.films.ids["i20"]
    weights = [(r / recommender.scale.mean) ** recommender.scale.power for r in watched.values()]

    def score(silenced: int | None) -> float:
        heads, size = p.pooling.shape[1], p.items.shape[1] // p.pooling.shape[1]
        total = float(p.bias[target])
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            below = sum(float(p.pooling[j, h]) for j in ids)
            for j in ids:
                if j != silenced:
                    total += float(p.pooling[j, h]) / below * float(p.items[j, part] @ p.items[target, part])
        return total + sum(
            w * float(p.item_item[j, target]) for j, w in zip(ids, weights, strict=True) if j != silenced
        )

    why = recommender.explain("i20", watched=watched)
    assert why.score == pytest.approx(score(None), rel=1e-5)
    for film in why.films:
        lost = score(None) - score(recommender.films.ids[film.film.item])
        assert film.contribution == pytest.approx(lost, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("how", ["concat", "mean", "gated", "attention"])
def test_fusion_parts_are_what_a_silenced_modality_takes(how):
    torch.manual_seed(0)
    fuse = Fusion({"a": 5, "b": 3}, 8, how=how, n_heads=2, dropout=0.0).eval()
    vectors, mask = {"a": torch.randn(6, 5), "b": torch.randn(6, 3)}, torch.rand(6, 2) > 0.3
    whole, parts = fuse(vectors, mask), fuse.parts(vectors, mask)
    assert not parts["a"][~mask[:, 0]].any()
    if how == "concat":  # nothing normalises: silencing can be done on the input
        silent = {**vectors, "a": torch.zeros_like(vectors["a"])}
        torch.testing.assert_close(whole - fuse(silent, mask), parts["a"])
    rest = whole - parts["a"] - parts["b"]
    if how == "attention":  # what is left is the query's own value
        query = fuse.query.expand(6, -1, -1)
        keys = torch.cat([query, torch.stack([fuse.projections[n](vectors[n]) for n in "ab"], 1) + fuse.kind], 1)
        absent = torch.cat([torch.zeros(6, 1, dtype=torch.bool), ~mask], 1)
        weight = fuse.attention(query, keys, keys, key_padding_mask=absent, average_attn_weights=False)[1][:, :, 0, 0]
        value = torch.nn.functional.linear(fuse.query[0], fuse.attention.in_proj_weight[16:]).view(2, 4)
        expected = fuse.attention.out_proj((weight.unsqueeze(-1) * value).flatten(1))
        torch.testing.assert_close(rest, expected)
    else:
        torch.testing.assert_close(rest, torch.zeros_like(rest), atol=1e-6, rtol=0)
