"""The feature file and its other forms: nothing is lost, nothing is half-written, damage is told."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_mm.errors import FeatureError
from recbole_mm.feature_formats import read_features, write_recbole_text
from recbole_mm.features import Features, align, open_feature_file, write_feature_file
from recbole_mm.files import replacing

# what str.split would take apart is allowed inside a token, only the newline is not
TOKENS = st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), min_size=1), min_size=1, unique=True)


@st.composite
def feature_sets(draw, max_size=6):
    tokens = draw(TOKENS.filter(lambda t: len(t) <= max_size))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    shape = (len(tokens), draw(st.integers(1, 5)))
    width = {np.float16: 16, np.float32: 32}[dtype]
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=width)
    return Features(draw(hnp.arrays(dtype, shape, elements=numbers)), tuple(tokens), {"encoder": "e"})


@settings(max_examples=60, deadline=None)
@given(feature_sets())
def test_a_feature_file_gives_back_what_was_written(tmp_path_factory, features):
    path = tmp_path_factory.mktemp("f") / "x.safetensors"
    write_feature_file(path, features)
    found = open_feature_file(path)
    assert isinstance(found.vectors, np.memmap)
    assert found.vectors.dtype == features.vectors.dtype
    np.testing.assert_array_equal(found.vectors, features.vectors)
    assert found.tokens == features.tokens
    assert found.provenance["encoder"] == "e"
    assert found.provenance["coverage"] == f"{len(features.tokens)} items"


def test_other_readers_of_safetensors_read_it(tmp_path):
    from safetensors import safe_open

    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    write_feature_file(tmp_path / "x.safetensors", Features(vectors, ("a", "b", "ü"), {"licence": "MIT"}))
    with safe_open(tmp_path / "x.safetensors", framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("vectors"), vectors)
        assert bytes(file.get_tensor("tokens")).decode() == "a\nb\nü"
        assert file.metadata()["licence"] == "MIT"


@settings(max_examples=40, deadline=None)
@given(feature_sets(), st.data())
def test_alignment_is_by_token_and_never_by_row(features, data):
    wanted = data.draw(st.permutations([*features.tokens, "\nnobody"]))
    aligned = align(features, ["[PAD]", *wanted])
    matrix = aligned.matrix()
    assert not aligned.mask[0]
    for item, token in enumerate(wanted, start=1):
        present = token in features.tokens
        assert aligned.mask[item] == present
        expected = features.vectors[features.tokens.index(token)] if present else np.zeros(features.width)
        np.testing.assert_array_equal(matrix[item], expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("f")
    write_feature_file(folder / "x.safetensors", Features(np.ones((40, 8), np.float16), tuple(map(str, range(40)))))
    whole = (folder / "x.safetensors").read_bytes()
    (folder / "x.safetensors").write_bytes(whole[: cut % len(whole)])
    with pytest.raises(FeatureError, match="truncated"):
        open_feature_file(folder / "x.safetensors")


def test_files_of_another_layout_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    for tensors, words in (
        ({"weights": np.ones((2, 2), np.float32)}, "no tensor 'vectors'"),
        ({"vectors": np.ones((2, 2)), "tokens": np.frombuffer(b"a\nb", np.uint8)}, "F16 or F32"),
        ({"vectors": np.ones(2, np.float32), "tokens": np.frombuffer(b"a\nb", np.uint8)}, "F16 or F32"),
        ({"vectors": np.ones((2, 2), np.float32), "tokens": np.frombuffer(b"a\nb\nc", np.uint8)}, "3 tokens for 2"),
        ({"vectors": np.ones((1, 2), np.float32), "tokens": np.frombuffer(b"\xff", np.uint8)}, "UTF-8"),
    ):
        save_file(tensors, path)
        with pytest.raises(FeatureError, match=words):
            open_feature_file(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(FeatureError, match="truncated or another format"):
        open_feature_file(path)


@pytest.mark.parametrize(
    ("vectors", "tokens", "words"),
    [
        (np.ones((2, 2), np.float32), ("a", "a"), "'a' occurs more than once"),
        (np.ones((2, 2), np.float32), ("a", "b\nc"), "newline"),
        (np.array([[1, 2], [np.nan, 0]], np.float32), ("a", "b"), "item 'b'"),
        (np.array([[1, np.inf], [0, 0]], np.float16), ("a", "b"), "item 'a'"),
    ],
)
def test_what_cannot_be_used_is_not_written(tmp_path, vectors, tokens, words):
    with pytest.raises(FeatureError, match=words):
        write_feature_file(tmp_path / "x.safetensors", Features(vectors, tokens))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_nan_in_a_used_row_is_named_when_it_is_read(tmp_path):
    from safetensors.numpy import save_file

    vectors = np.ones((3, 2), np.float16)
    vectors[1, 0] = np.nan
    tokens = np.frombuffer(b"a\nb\nc", np.uint8)
    save_file({"vectors": vectors, "tokens": tokens}, tmp_path / "x.safetensors")
    found = open_feature_file(tmp_path / "x.safetensors")
    assert align(found, ["[PAD]", "a", "c"]).matrix().shape == (3, 2)  # a row that no item uses is not read
    with pytest.raises(FeatureError, match="item 'b'"):
        align(found, ["[PAD]", "a", "b"]).matrix()


# -- other forms -------------------------------------------------------------------------------------------------


def ids_file(path, ids):
    text = {".json": json.dumps(ids), ".csv": "item_id,title\n" + "".join(f"{i},x\n" for i in ids)}
    path.write_text(text.get(path.suffix, "\n".join(ids) + "\n"))
    return path


def test_every_form_gives_the_same_features(tmp_path):
    draw = np.random.default_rng(0)
    ids, x = ["tt9", "tt1", "tt5"], draw.normal(size=(3, 4)).astype(np.float32)
    np.savez(tmp_path / "f.npz", ids=np.array(ids), x=x)
    np.save(tmp_path / "f.npy", x)
    write_recbole_text(tmp_path / "f.feat", Features(x, tuple(ids)), item_field="item_id", modality="text")
    found = [read_features(tmp_path / "f.npz"), read_features(tmp_path / "f.feat")]
    np.save(tmp_path / "ids.npy", np.array(ids))
    for suffix in ("txt", "json", "csv"):
        found.append(read_features(tmp_path / "f.npy", ids_file(tmp_path / f"ids.{suffix}", ids)))
    found.append(read_features(tmp_path / "f.npy", tmp_path / "ids.npy"))
    for features in found:
        assert features.tokens == tuple(ids)
        np.testing.assert_array_equal(features.vectors, x)
    assert read_features(tmp_path / "f.npy").tokens == ("0", "1", "2")  # MMRec: row = item id


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float16, (3, 2), elements=st.floats(-6e4, 6e4, width=16)))
def test_the_text_form_keeps_every_bit(tmp_path_factory, vectors):
    path = tmp_path_factory.mktemp("f") / "x.text"
    write_recbole_text(path, Features(vectors, ("a", "b", "c")), item_field="item_id", modality="text")
    np.testing.assert_array_equal(read_features(path).vectors.astype(np.float16), vectors)


def test_pickles_are_never_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    array = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    np.savez(tmp_path / "x.npz", ids=array, x=array)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(FeatureError, match="not a readable"):
            read_features(tmp_path / name)
    np.save(tmp_path / "ok.npy", np.ones((1, 2)))
    with pytest.raises(FeatureError, match="id list"):
        read_features(tmp_path / "ok.npy", tmp_path / "x.npy")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("item_id:token\ttext:float_seq\na\t1 2\nb\t1\n", "one width"),
        ("item_id:token\ttext:float_seq\na\t1 x\n", "line 2"),
        ("item_id:token\ttext:float_seq\na\n", "line 2"),
        ("id,vector\na,1\n", "unknown form"),
        ("", "unknown form"),
    ],
)
def test_malformed_text_is_told(tmp_path, content, words):
    (tmp_path / "x.feat").write_text(content)
    with pytest.raises(FeatureError, match=words):
        read_features(tmp_path / "x.feat")
