"""The configuration: who wins, what is refused, and that nothing is evaluated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.model.general_recommender import BPR

from recbole_mm.config import Config, parse_value, read_yaml
from recbole_mm.errors import ConfigError
from recbole_mm.modality import choose_modalities, parse_modalities
from recbole_mm.quick_start import request


def test_later_layers_win(tmp_path):
    (tmp_path / "a.yaml").write_text("learning_rate: 0.1\nembedding_size: 8\n")
    (tmp_path / "b.yaml").write_text("learning_rate: 0.2\n")
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    config = Config(BPR, "imdb", files, {"embedding_size": 16})
    assert (config["learning_rate"], config["embedding_size"]) == (0.2, 16)
    assert config["valid_metric"] == "NDCG@10"  # ours, before RecBole's MRR@10
    assert Config(BPR, "imdb")["embedding_size"] == 64


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), ("-2.5e+1", -25.0), ("10", 10), ("true", True), ("None", None), ("~", None),
        ("[10, 20]", [10, 20]), ("{inter: [a, b]}", {"inter": ["a", "b"]}), ("gated", "gated"), ("[0,inf)", "[0,inf)"),
        ("a: b: c", "a: b: c"), ("text,image", "text,image"),
    ],
)  # fmt: skip
def test_values_of_the_command_line(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@given(st.text())
def test_any_text_is_a_value(text):
    parse_value(text)


def test_nothing_is_evaluated(tmp_path):
    """RecBole evaluates text values as Python."""
    code = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    for value in (code, "!!python/object/apply:os.getcwd []"):
        assert isinstance(parse_value(value), str)
    (tmp_path / "x.yaml").write_text(f'seed: "{code}"\n')
    with pytest.raises(ConfigError, match="expected a whole number"):
        Config(BPR, "imdb", [tmp_path / "x.yaml"])
    (tmp_path / "y.yaml").write_text("seed: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not YAML"):
        read_yaml(tmp_path / "y.yaml")
    assert not (tmp_path / "ran").exists()


def test_modalities_are_registered_or_chosen():
    assert list(Config(BPR, "imdb")["modalities"]) == ["text", "image", "credits", "genre", "year"]
    chosen = Config(BPR, "imdb", (), {"modalities": "image,text"})["modalities"]
    assert list(chosen) == ["image", "text"]
    own = {"mine": {"file": "x.npz"}}
    assert Config(BPR, "imdb", (), {"modalities": own})["modalities"] == own
    for empty in ([], ""):
        with pytest.raises(ConfigError):
            choose_modalities(own, empty)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "needs either 'file' or 'field'"),
        ({"file": "a", "field": "b", "encoding": "multi_hot"}, "needs either"),
        ({"field": "b"}, "go together"),
        ({"field": "b", "encoding": "one_hot"}, "encoding"),
        ({"file": "a", "fiel": "b"}, "fiel"),
        ({"field": "y", "encoding": "bumps", "bump_width": 0}, "bump_width"),
        ("a.npz", "expected {file: ...}"),
    ],
)
def test_malformed_modalities_are_named(entry, words):
    with pytest.raises(ConfigError, match=r"modalities\.text") as caught:
        parse_modalities({"text": entry})
    assert words in str(caught.value)


def test_model_and_data_set_may_stand_in_a_file(tmp_path):
    (tmp_path / "x.yaml").write_text("model: BPR\ndataset: imdb\n")
    asked = request(None, None, [tmp_path / "x.yaml"])
    assert (asked.model_spec, asked.dataset) == ("BPR", "imdb")
    assert request("EASE", None, [tmp_path / "x.yaml"]).model_spec == "EASE"
    with pytest.raises(ConfigError, match="no dataset given"):
        request("EASE", None)
