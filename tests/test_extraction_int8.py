"""A backbone in 8-bit integers: calibrated where its vectors stay, kept, the same on every run; else not chosen."""

import importlib.util
import signal
import subprocess
import sys
import time

import checkpoints
import media
import numpy as np
import pytest
import torch
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction import build_encoder, encoder_from_provenance, int8, precision
from recbole_mm.features import open_feature_file

N_PICTURES = 150


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [media.picture(folder / f"i{n}.jpg", n, size=(64, 64 + n % 20)) for n in range(N_PICTURES)]


def resnet18(file, *, sensitive=False):
    """Random weights; ``sensitive``: a channel 1,000 times larger than the others, which no layer reads."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model("resnet18")
    if sensitive:
        with torch.no_grad():
            network.bn1.weight[0], network.bn1.bias[0] = 1e3, 1e3
            for block in network.layer1:
                block.conv1.weight[:, 0] = 0
                block.bn2.weight[0] = 0
            network.layer2[0].conv1.weight[:, 0] = 0
            network.layer2[0].downsample[0].weight[:, 0] = 0
    torch.save(network.state_dict(), file)
    return str(file)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return resnet18(tmp_path_factory.mktemp("weights") / "r.pt")


def maker(weights, engine="openvino"):
    def make(chosen, **more):
        settings = {"arch": "resnet18", "checkpoint": weights, "stretch_px": 64, "engine": engine}
        return build_encoder("resnet", **settings, precision=chosen, **more)

    return make


@pytest.fixture(scope="module")
def calibrated(weights, pictures, tmp_path_factory):
    """The cache's folder, the encoder that ``--precision int8`` made, and what it said."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, *precision.with_precision(maker(weights), "int8", pictures, "cpu", folder)


def lowest(a, b):
    return ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()


def test_the_vectors_stay_and_the_network_is_kept(weights, pictures, calibrated):
    folder, encoder, why = calibrated
    assert encoder.precision == "int8"
    assert why.startswith("int8: lowest cosine of int8 to float32 on a sample is 0.999")
    assert "20 of 20 layers in 8-bit integers" in why
    exact = maker(weights, "torch")("float32")
    vectors = encoder.encode(pictures).vectors
    assert lowest(vectors, exact.encode(pictures).vectors) > 0.999
    said = []
    again, same = precision.with_precision(maker(weights), "int8", pictures[:3], "cpu", folder, said.append)
    assert (same, said, again.card) == (why, [], encoder.card)
    np.testing.assert_array_equal(again.encode(pictures[:20]).vectors, vectors[:20])


def test_calibrated_anew_it_is_the_same_network(weights, pictures, calibrated, tmp_path):
    again, _ = precision.with_precision(maker(weights), "int8", pictures, "cpu", tmp_path)
    assert again.card.quantised == calibrated[1].card.quantised


def test_engine_precision_and_network_are_in_the_signature_and_new_items_need_neither(weights, pictures, calibrated):
    card = calibrated[1].card
    others = [maker(weights, engine)("float32").card for engine in ("torch", "openvino")]
    assert len({card.signature(), *(other.signature() for other in others)}) == 3
    provenance = card.provenance()
    assert provenance["quantised"].startswith("sha256:")
    assert "20 of 20 layers in 8-bit integers" in provenance["quantised"]
    assert "openvino" in provenance["versions"]
    assert card.settings == others[0].settings
    again = encoder_from_provenance(provenance)
    assert (again.precision, again.card.quantised) == ("float32", "")
    assert lowest(again.encode(pictures[:9]).vectors, calibrated[1].encode(pictures[:9]).vectors) > 0.999


def test_auto_takes_it_from_so_many_pictures_on(weights, pictures, calibrated, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_int8", lambda: True)  # slower where the processor does not have them
    chosen, _ = precision.with_precision(maker(weights), "auto", pictures, "cpu", tmp_path)
    assert chosen.precision != "int8"
    monkeypatch.setattr(precision, "_PAYS", N_PICTURES)
    chosen, why = precision.with_precision(maker(weights), "auto", pictures, "cpu", calibrated[0])
    assert chosen.precision == "int8", why
    assert chosen.card == calibrated[1].card


def test_a_sensitive_network_keeps_layers_in_floating_point_or_is_left(pictures, tmp_path, monkeypatch):
    make = maker(resnet18(tmp_path / "s.pt", sensitive=True))
    monkeypatch.setattr(precision, "_PAYS", N_PICTURES)
    monkeypatch.setattr(precision, "has_int8", lambda: True)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    chosen, why = precision.with_precision(make, "auto", pictures, "cpu", tmp_path / "cache")
    assert chosen.precision == "float32"
    assert why.startswith("float32: lowest cosine of int8 to float32 on a sample is ")
    assert "20 of 20 layers" in why
    chosen, why = precision.with_precision(make, "int8", pictures, "cpu", tmp_path / "cache")  # it may take longer
    assert chosen.precision == "int8", why
    assert "20 of 20 layers" not in why
    exact = make("float32").encode(pictures).vectors
    assert lowest(chosen.encode(pictures).vectors, exact) > 0.999


def test_what_is_missing_is_one_clear_line(weights, pictures, tmp_path, monkeypatch):
    with pytest.raises(ExtractionError, match="int8 with engine torch; expected openvino"):
        maker(weights, "torch")("int8")
    with pytest.raises(ExtractionError, match=r"pip install 'recbole-mm\[openvino\]'"):
        precision.with_precision(maker(weights, "torch"), "int8", pictures, "cpu", tmp_path)
    with pytest.raises(ExtractionError, match="3 pictures; expected 10"):
        precision.with_precision(maker(weights), "int8", pictures[:3], "cpu", tmp_path)
    (tmp_path / "x.xml").write_text("<net/>")
    with pytest.raises(ExtractionError, match="not a quantised network; delete it"):
        maker(weights)("int8", quantised=tmp_path / "x.xml")
    there = importlib.util.find_spec
    monkeypatch.setattr(int8.importlib.util, "find_spec", lambda name: None if name == "nncf" else there(name))
    with pytest.raises(ExtractionError, match="nncf is not installed"):
        precision.with_precision(maker(weights), "int8", pictures, "cpu", tmp_path)
    assert not int8.has_int8()


def test_resumed_killed_or_shared_by_processes_it_ends_in_the_same_file(weights, pictures, tmp_path):
    def command(name):
        data = Planted(tmp_path / name, n_items=N_PICTURES).write()
        words = [
            "-m", "recbole_mm", "extract", "image", "--dataset", "planted", "--data-path", str(data.root),
            "--media", str(pictures[0].parent), "--encoder", "resnet18", "--checkpoint", weights, "--stretch", "64",
            "--precision", "int8",
        ]  # fmt: skip
        return data, words

    def run(*words):
        done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, timeout=300)
        assert "nncf" not in done.stdout.lower()
        return done.stdout

    whole, words = command("whole")
    said = run(*words)
    assert "calibrating 8-bit integers, kept as " in said
    assert "resnet18 (512)" in said
    expected = whole.file("image").read_bytes()
    assert open_feature_file(whole.file("image")).provenance["precision"] == "int8"
    for block in list((whole.folder / ".extract").glob("*-int8/*.safetensors"))[:1]:
        block.unlink()
    said = run(*words)
    assert "calibrating" not in said
    assert whole.file("image").read_bytes() == expected
    killed, words = command("killed")
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if list((killed.folder / ".extract").glob("*.int8.xml")):  # calibrated, and not much more
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL
    run(*words)
    assert killed.file("image").read_bytes() == expected
    shared, words = command("shared")
    run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words)
    assert shared.file("image").read_bytes() == expected


def test_texts_have_no_8_bit_integers(planted, tmp_path, capsys):
    folder = checkpoints.bert(tmp_path / "bert")
    words = ["extract", "text", "--dataset", "planted", "--data-path", planted.root, "--template", "{class}"]
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words), "--checkpoint", str(folder), "--precision", "int8"])
    assert stopped.value.code == 1
    assert "precision int8: expected a torchvision backbone" in capsys.readouterr().err
