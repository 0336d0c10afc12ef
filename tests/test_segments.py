"""Segments of items: in the feature file, from extraction, and as tokens of the classifier's attention."""

import checkpoints
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from labels import Labelled, parts_of
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.errors import FeatureError
from recbole_mm.evaluation.knock_out import shuffled_modalities
from recbole_mm.extraction.bert import BertEncoder
from recbole_mm.feature_formats import read_features
from recbole_mm.features import Features, Segments, align, open_feature_file, write_feature_file
from recbole_mm.quick_start import run

# -- the feature file --------------------------------------------------------------------------------------------


def with_segments(counts, width=3, seed=0) -> Features:
    draw = np.random.default_rng(seed)
    parts = [draw.normal(size=(n, width)).astype(np.float32) for n in counts]
    vectors = np.stack([part.mean(0) if len(part) else np.ones(width) for part in parts]).astype(np.float32)
    return Features(vectors, tuple(f"i{n}" for n in range(len(counts))), {}, "made", Segments.of(parts, width))


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=8), seed=st.integers(0, 99), data=st.data())
def test_segments_survive_the_file_and_follow_their_items(tmp_path_factory, counts, seed, data):
    path = tmp_path_factory.mktemp("segments") / "f.safetensors"
    made = with_segments(counts, seed=seed)
    write_feature_file(path, made)
    found = open_feature_file(path)
    np.testing.assert_array_equal(found.segments.vectors, made.segments.vectors)
    np.testing.assert_array_equal(found.segments.starts, made.segments.starts)
    order = data.draw(st.lists(st.sampled_from(range(len(counts))), min_size=1, unique=True))
    aligned = align(found, ["[PAD]", *(f"i{n}" for n in order), "unknown"])
    segments, first, count = aligned.segments()
    assert count.tolist() == [0, *(counts[n] for n in order), 0]
    for place, n in enumerate(order, 1):
        own = made.segments.vectors[made.segments.starts[n] : made.segments.starts[n + 1]]
        np.testing.assert_array_equal(segments.vectors[first[place] : first[place] + count[place]], own)
    rows = np.array(order)
    taken = made.segments.take(rows)
    expected = [made.segments.vectors[made.segments.starts[n] : made.segments.starts[n + 1]] for n in rows]
    np.testing.assert_array_equal(taken.vectors, np.concatenate(expected))


def test_bad_segments_are_refused_by_name(tmp_path):
    made = with_segments([2, 0, 3])
    spoilt = made.segments.vectors.copy()
    spoilt[2, 1] = np.nan
    with pytest.raises(FeatureError, match="NaN or infinite value in a segment of item 'i2'"):
        Features(made.vectors, made.tokens, {}, "made", Segments(spoilt, made.segments.starts)).check_values()
    for starts in ([0, 2, 5], [0, 2, 2, 4], [1, 2, 2, 5], [0, 3, 2, 5]):
        with pytest.raises(FeatureError, match="made: starts do not rise from 0 to 5 segments in 4 numbers"):
            Features(made.vectors, made.tokens, {}, "made", Segments(made.segments.vectors, np.array(starts)))
    with pytest.raises(FeatureError, match=r"segments have shape \(5, 2\); expected \[segments, 3\]"):
        Features(made.vectors, made.tokens, {}, "made", Segments(spoilt[:, :2], made.segments.starts))
    arrays = {"ids": np.array(made.tokens), "x": made.vectors, "segments": made.segments.vectors}
    np.savez(tmp_path / "whole.npz", **arrays, starts=made.segments.starts)
    np.testing.assert_array_equal(read_features(tmp_path / "whole.npz").segments.vectors, made.segments.vectors)
    np.savez(tmp_path / "half.npz", **arrays)
    with pytest.raises(FeatureError, match="segments without whole numbers 'starts'"):
        read_features(tmp_path / "half.npz")


# -- extraction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3, 50])
def test_segments_are_the_mean_of_neighbouring_windows(tmp_path, most):
    """Against each window encoded alone, averaged by hand."""
    encoder = BertEncoder(str(checkpoints.bert(tmp_path / "bert")), max_tokens=8)
    draw = np.random.default_rng(0)
    words = ["film", "love", "war", "space", "a", "the", "of"]
    texts = [" ".join(draw.choice(words, n)) for n in (1, 5, 17, 40, 64)]
    prepared = [encoder.prepare(text) for text in texts]
    vectors, segments = encoder.encode_parts(prepared, most)
    np.testing.assert_array_equal(vectors, encoder.encode_prepared(prepared))
    for row, source in enumerate(prepared):
        n = len(source.units)
        kept = min(most, n)
        with torch.inference_mode():
            alone = np.stack([encoder.forward([unit])[0].numpy() for unit in source.units])
        weight = np.array([unit.weight for unit in source.units])
        got = segments.vectors[segments.starts[row] : segments.starts[row + 1]]
        assert len(got) == kept
        for part in range(kept):
            mine = [at for at in range(n) if at * kept // n == part]
            expected = (weight[mine] @ alone[mine]) / weight[mine].sum()
            np.testing.assert_allclose(got[part], expected, atol=1e-5)


def test_extraction_with_segments_resumes_to_the_same_file(tmp_path, capsys):
    """With the one vector of an item as without segments; several reviews of an item follow each other."""
    data = Planted(tmp_path / "dataset", n_items=20).write()
    draw = np.random.default_rng(0)
    rows = [f"i{n}\t" + " ".join(draw.choice(["film", "love", "war"], 3 + 4 * (n % 5))) for n in range(20)]
    (tmp_path / "texts.tsv").write_text("\n".join(["item_id\ttext", *rows, "i4\tlove love"]) + "\n")
    bert = checkpoints.bert(tmp_path / "bert")

    def extract(name, *more):
        words = ["extract", "text", "--dataset", "planted", "--data-path", data.root, "--modality", name, "--replace"]
        words += ["--table", tmp_path / "texts.tsv", "--template", "{text}", "--checkpoint", bert, "--max-tokens", 8]
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, words), *map(str, more)])
        assert stopped.value.code == 0, capsys.readouterr().err
        return open_feature_file(data.file(name))

    plain, found = extract("plain"), extract("text", "--segments", 3)
    assert plain.segments is None
    np.testing.assert_array_equal(plain.vectors, found.vectors)
    assert found.provenance["segments"] == "at most 3 a source, in order"
    counts = dict(zip(found.tokens, found.segments.counts, strict=True))
    assert counts["i0"] == 1
    assert counts["i3"] == 3
    assert counts["i4"] == 4  # three of its first text, one of its second
    whole = data.file("text").read_bytes()
    blocks = list((data.folder / ".extract").glob("*-segments3/*.safetensors"))
    assert blocks
    blocks[0].unlink()
    extract("text", "--segments", 3)
    assert data.file("text").read_bytes() == whole
    main_words = ["features", "show", "--dataset", "planted", "--data_path", str(data.root)]
    with pytest.raises(SystemExit):
        main(main_words)
    assert str(len(found.segments.vectors)) in capsys.readouterr().out


# -- the classifier ----------------------------------------------------------------------------------------------


class Ordered(Labelled):
    """A movie has two segments A and B. Users like A before B; the mean of both is the same for every movie."""

    def write(self) -> "Ordered":
        draw = np.random.default_rng(1)
        first = draw.random(self.n_items) < 0.5
        liked = np.where(first, 1, -1)
        self.rows = [(u, i, int(liked[int(i[1:])]) if draw.random() > 0.2 else 0) for u, i, _ in self.rows]
        super().write()
        a, b = draw.normal(size=(2, 8))
        parts = [np.stack([a, b] if before else [b, a]).astype(np.float32) for before in first]
        same = np.tile((a + b) / 2, (self.n_items, 1)).astype(np.float32)
        tokens = tuple(f"i{n}" for n in range(self.n_items))
        features = Features(same, tokens, {}, "text", Segments.of(parts, 8))
        (self.folder / f"{self.name}.text.safetensors").unlink()
        write_feature_file(self.folder / f"{self.name}.text.safetensors", features)
        return self

    def config(self, **over):
        found = super().config(**over)
        found["modalities"] = {"text": found["modalities"]["text"]}
        return found


@pytest.fixture
def ordered(tmp_path):
    return Ordered(tmp_path / "dataset", name="ordered", n_items=150, per_user=20, n_users=60).write()


def test_the_order_of_segments_is_learnt_where_their_mean_says_nothing(ordered):
    """On movies that have no label yet: from their segments alone."""
    found = {}
    for most in (16, 0):
        config = ordered.config(
            fold=1, protocol="new_movie", epochs=30, stopping_step=30, learning_rate=0.01, valid_metric="accuracy",
            closed_form=False, hide_movie=0.8, max_segments=most,
        )  # fmt: skip
        found[most] = run("GLScoreClassifier", ordered.name, config=config, run_dir=f"s{most}")["test"]["accuracy"]
    assert found[16] > 0.72, found
    assert found[0] < 0.6, found


def test_one_segment_is_the_vector_itself(labelled):
    """And a modality without segments has none of their parameters."""
    whole = parts_of("GLScoreClassifier", labelled).model.eval()
    assert whole.segment_tokens is None
    file = labelled.folder / f"{labelled.name}.text.safetensors"
    features = open_feature_file(file)
    vectors = np.array(features.vectors)
    file.unlink()
    # of every third item there is the vector alone
    single = Segments.of([vectors[n : n + (n % 3 > 0)] for n in range(len(vectors))], vectors.shape[1])
    write_feature_file(file, Features(vectors, features.tokens, {}, "text", single))
    split = parts_of("GLScoreClassifier", labelled).model.eval()
    assert list(split.segments.vectors) == ["text"]
    missing = split.load_state_dict(whole.state_dict(), strict=False).missing_keys
    assert missing == ["segment_tokens.place"]
    split.segment_tokens.place.data.zero_()
    users, items = np.arange(1, 9), np.arange(1, 9)
    with torch.no_grad():
        torch.testing.assert_close(split.logits(users, items), whole.logits(users, items))


def test_segments_of_a_pair_are_its_movie_s_and_shuffling_gives_them_back(ordered):
    parts = parts_of("GLScoreClassifier", ordered)
    model = parts.model.eval()
    users, items = np.array([1, 2, 3, 4]), np.array([5, 6, 7, 5])
    with torch.no_grad():
        whole = model.logits(users, items)
        backwards = model.logits(users[::-1].copy(), items[::-1].copy()).flip(0)
        alone = torch.cat([model.logits(users[n : n + 1], items[n : n + 1]) for n in range(4)])
    torch.testing.assert_close(whole, backwards, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)
    before, _ = model.segment_tokens(torch.tensor([5]), *_single(model))
    model.exchange("text", torch.arange(model.n_items).roll(1))
    after, _ = model.segment_tokens(torch.tensor([6]), *_single(model))
    torch.testing.assert_close(before, after)
    model.exchange("text", torch.arange(model.n_items).roll(-1))
    shuffled_modalities(parts)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(users, items), whole)


def _single(model):
    return model._movies()[0], model.project, model.kind
