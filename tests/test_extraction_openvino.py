"""OpenVINO as the engine of a backbone: the same vectors as torch's, told apart in the cache, and nothing sent."""

import subprocess
import sys

import checkpoints
import media
import numpy as np
import pytest
import torch
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction import build_encoder, encoder_from_provenance, openvino
from recbole_mm.features import open_feature_file


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(checkpoints.resnet50(tmp_path_factory.mktemp("weights") / "r.safetensors"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [media.picture(folder / f"i{n}.jpg", n, size=(80 + 9 * n, 120)) for n in range(11)]


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.999999), ("bfloat16", 0.999)])
def test_vectors_are_torch_s_whatever_the_batch(weights, pictures, precision, least):
    exact = build_encoder("resnet", checkpoint=weights).encode(pictures).vectors
    ours = build_encoder("resnet", checkpoint=weights, engine="openvino", precision=precision)
    assert cosines(ours.encode(pictures).vectors, exact).min() > least  # a batch of 8 and one of 3
    assert cosines(ours.encode(pictures[:1]).vectors, exact[:1]).min() > least
    again = build_encoder("resnet", checkpoint=weights, engine="openvino", precision=precision)
    np.testing.assert_array_equal(again.encode(pictures).vectors, ours.encode(pictures).vectors)


def test_frames_of_a_clip_too(weights, tmp_path):
    draw = np.random.default_rng(0)
    frames = [draw.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(8)]
    media.write_clip(tmp_path / "c.mp4", frames)
    exact, ours = (
        build_encoder("resnet_frames", checkpoint=weights, frames=4, engine=engine).encode([tmp_path / "c.mp4"]).vectors
        for engine in openvino.ENGINES
    )
    assert cosines(ours, exact).min() > 0.999999


def test_the_engine_is_in_the_signature_and_new_items_need_no_openvino(weights, pictures):
    torch_s, ours = (build_encoder("resnet", checkpoint=weights, engine=engine) for engine in openvino.ENGINES)
    assert torch_s.card.signature() != ours.card.signature()
    assert "openvino" in ours.card.versions()
    assert torch_s.card.settings == ours.card.settings
    again = encoder_from_provenance(ours.card.provenance())
    assert "openvino" not in again.card.versions()
    assert cosines(again.encode(pictures).vectors, ours.encode(pictures).vectors).min() > 0.999999


def test_the_engine_is_chosen_by_what_is_there(monkeypatch, weights):
    assert openvino.choose_engine("auto", "cpu") == "openvino"
    assert openvino.choose_engine("auto", "cuda:0") == "torch"
    assert openvino.choose_engine("torch", "cpu") == "torch"
    with pytest.raises(ExtractionError, match="device 'cuda:0'; expected cpu, or --engine torch"):
        openvino.choose_engine("openvino", "cuda:0")
    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: None)
    assert openvino.choose_engine("auto", "cpu") == "torch"
    with pytest.raises(ExtractionError, match=r"not installed; pip install 'recbole-mm\[openvino\]'"):
        build_encoder("resnet", checkpoint=weights, engine="openvino")


def test_nothing_is_sent(weights, pictures):
    """OpenVINO's own import would report itself over the network."""
    code = """
import socket, sys
def refuse(*_): raise AssertionError("a connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from recbole_mm.extraction import build_encoder
encoder = build_encoder("resnet", checkpoint=sys.argv[1], engine="openvino")
print(encoder.encode([sys.argv[2]]).vectors.shape, "openvino" in sys.modules, "openvino_telemetry" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, weights, str(pictures[0])], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(1, 2048) True False", done.stderr


def test_the_command_resumes_to_the_same_file(tmp_path, pictures, weights, capsys):
    data = Planted(tmp_path / "dataset", n_items=11).write()

    def extract(*more):
        words = ["extract", "image", "--dataset", "planted", "--data-path", data.root, "--media", pictures[0].parent]
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, words), "--checkpoint", weights, *more])
        assert stopped.value.code == 0, capsys.readouterr().err
        return data.file("image").read_bytes()

    whole = extract("--precision", "float32")
    features = open_feature_file(data.file("image"))
    assert "openvino" in features.provenance["versions"]
    assert extract("--precision", "float32") == whole
    (cached,) = (data.folder / ".extract").glob("*/*.safetensors")
    cached.unlink()
    assert extract("--precision", "float32") == whole
    vectors = np.array(features.vectors, np.float32)
    extract("--precision", "float32", "--engine", "torch")
    assert "openvino" not in open_feature_file(data.file("image")).provenance["versions"]
    assert cosines(np.array(open_feature_file(data.file("image")).vectors, np.float32), vectors).min() > 0.99999
    extract()  # chooses its precision
    said = capsys.readouterr().out
    assert torch.cpu._is_avx512_bf16_supported() is False or "lowest cosine of bfloat16" in said
