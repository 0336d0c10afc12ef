"""Checkpoints give back what was saved, bit by bit, without pickle."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_mm.checkpoint import load_state, read_summary, save_state
from recbole_mm.errors import CheckpointError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@settings(max_examples=80, deadline=None)
@given(TREES)
def test_trees_come_back(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("c") / "x.safetensors"
    save_state(path, {"tree": tree}, {})
    assert same(load_state(path)["tree"], tree)


def test_arrays_come_back(tmp_path):
    torch.manual_seed(0)
    shared = torch.randn(3, 2)
    state = {
        "tensor": shared, "same": shared, "view": shared[:, 0], "empty": torch.zeros(0, 4), "scalar": torch.tensor(3),
        "half": torch.randn(2).half(), "mask": torch.tensor([True, False]),
        "array": np.arange(6, dtype=np.float64).reshape(2, 3), "random": np.random.get_state(),
        "matrix": np.matrix([[1.0, 2.0]]), "csr": sp.random(5, 4, density=0.5, format="csr", random_state=0),
        "csc": sp.random(5, 4, density=0.5, format="csc", random_state=1), "coo": torch.eye(3).to_sparse(),
    }  # fmt: skip
    save_state(tmp_path / "x", state, {"epoch": 3})
    found = load_state(tmp_path / "x")
    for key in ("tensor", "same", "view", "empty", "scalar", "half", "mask"):
        assert found[key].dtype == state[key].dtype
        torch.testing.assert_close(found[key], state[key], rtol=0, atol=0)
    for key in ("array", "matrix"):
        assert type(found[key]) is type(state[key])
        np.testing.assert_array_equal(found[key], state[key])
    for key in ("csr", "csc"):
        assert found[key].format == key
        assert (found[key] != state[key]).nnz == 0
    torch.testing.assert_close(found["coo"].to_dense(), torch.eye(3))
    np.random.set_state(found["random"])
    first = np.random.random(3)
    np.random.set_state(state["random"])
    np.testing.assert_array_equal(first, np.random.random(3))
    assert read_summary(tmp_path / "x") == {"epoch": 3}


def test_what_would_need_pickle_is_refused_and_nothing_is_written(tmp_path):
    for value in (object(), lambda: 1, np.array(["a"]), {1, 2}):
        with pytest.raises(CheckpointError, match=r"state\.x\.0: a .* without pickle"):
            save_state(tmp_path / "x", {"x": [value]}, {})
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_state(tmp_path / "nothing")
    torch.save({"a": torch.ones(2)}, tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_state(tmp_path / "pickle.pth")
    save_file({"a": torch.ones(2)}, tmp_path / "weights")
    with pytest.raises(CheckpointError, match="format None"):
        load_state(tmp_path / "weights")
    save_state(tmp_path / "whole", {"a": torch.ones(100)}, {})
    whole = (tmp_path / "whole").read_bytes()
    for cut in (0, 5, 100, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="truncated"):
            load_state(tmp_path / "cut")
