"""Every encoder through its real loading code; what comes out equals the plain forward pass of the same model."""

import socket

import checkpoints
import media
import numpy as np
import pytest
import torch
from PIL import Image

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction import build_encoder, encoder_from_provenance
from recbole_mm.extraction.audio import as_float, read_chunks
from recbole_mm.extraction.keyframes import Keyframes

TEXTS = ["the toy film", "a spy. a love film, a toy", "love " * 100, "film", "the spy film of a toy and the love " * 9]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def cosines(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def trailer(tmp_path_factory):
    draw = np.random.default_rng(0)
    frames = [draw.integers(0, 255, (4, 6, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(24)]
    sound = np.concatenate([media.tone(300, 1.5), media.tone(900, 1.0)])
    return media.write_clip(tmp_path_factory.mktemp("trailer") / "t.mp4", frames, sound=sound)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_texts_equal_the_plain_forward_pass_window_by_window(tmp_path, pooling):
    from transformers import AutoTokenizer, BertModel

    folder = checkpoints.bert(tmp_path / "bert")
    got = build_encoder("bert", checkpoint=str(folder), pooling=pooling).encode(TEXTS)
    model, tokenizer = BertModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        windows = [ids[i : i + 30] for i in range(0, len(ids), 30)]
        total, weight = 0, 0
        for window in windows:
            row = torch.tensor([[tokenizer.cls_token_id, *window, tokenizer.sep_token_id]])
            with torch.no_grad():
                states = model(input_ids=row).last_hidden_state[0]
            w = len(window) + 2 if pooling == "mean" else 1
            total = total + w * (states.mean(0) if pooling == "mean" else states[0])
            weight += w
        expected.append((total / weight).numpy())
    assert got.mask.all()
    assert cosines(got.vectors, expected).min() > 0.9999
    np.testing.assert_allclose(got.vectors, expected, atol=1e-4)


def test_what_a_sentence_checkpoint_says_is_followed(tmp_path):
    folder = checkpoints.bert(tmp_path / "bert")
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    encoder = build_encoder("bert", checkpoint=str(folder))
    assert encoder.card.settings == {
        "kind": "bert", "pooling": "cls", "normalise": True, "max_tokens": 16, "max_windows": 64,
    }  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(TEXTS).vectors, axis=1), 1, atol=1e-5)
    assert build_encoder("bert", checkpoint=str(folder), normalise=False).card.settings["normalise"] is False


def test_a_text_of_too_many_windows_is_told_and_an_empty_one_masked(tmp_path):
    encoder = build_encoder("bert", checkpoint=str(checkpoints.bert(tmp_path / "bert")), max_windows=3)
    got = encoder.encode(["a toy film " * 90_910, "", " \n", "toy"])
    assert list(got.mask) == [True, False, False, True]
    assert "1,000,009 characters are 9,091 windows: 3 evenly spread" in got.reasons[0]
    assert got.reasons[1] == got.reasons[2] == "no text"
    assert not got.vectors[1].any()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_resnet50_equals_torchvision_with_the_weights_own_transforms(tmp_path, suffix):
    from safetensors.torch import load_file
    from torchvision.models import ResNet50_Weights, resnet50

    file = checkpoints.resnet50(tmp_path / f"resnet{suffix}")
    paths = [media.picture(tmp_path / f"{i}.jpg", i, size=(90 + 50 * i, 300 - 40 * i)) for i in range(5)]
    got = build_encoder("resnet", checkpoint=str(file)).encode(paths)
    model = resnet50(weights=None)
    model.load_state_dict(load_file(file) if suffix == ".safetensors" else torch.load(file, weights_only=True))
    model.fc = torch.nn.Identity()
    transforms = ResNet50_Weights.IMAGENET1K_V2.transforms()
    with torch.no_grad():
        rows = [model.eval()(transforms(Image.open(p).convert("RGB"))[None])[0].numpy() for p in paths]
    assert got.vectors.shape == (5, 2048)
    assert cosines(got.vectors, rows).min() > 0.9999


def test_other_backbones_lose_their_last_layer_only(tmp_path):
    from torchvision.models import get_model

    for arch, width in (("mobilenet_v2", 1280), ("shufflenet_v2_x0_5", 1024)):
        torch.manual_seed(0)
        file = tmp_path / f"{arch}.pt"
        torch.save({"state_dict": {f"module.{k}": v for k, v in get_model(arch).state_dict().items()}}, file)
        encoder = build_encoder("resnet", arch=arch, checkpoint=str(file), stretch_px=64)
        got = encoder.encode([media.picture(tmp_path / "p.png", 3)])
        assert got.vectors.shape == (1, width)
        assert encoder.preprocessing.size_px == 64
    with pytest.raises(ExtractionError, match="does not end in a linear layer"):
        build_encoder("resnet", arch="squeezenet1_1", checkpoint=str(file))
    with pytest.raises(ExtractionError, match="did you mean 'resnet50'"):
        build_encoder("resnet", arch="resnet5o")


def test_clip_equals_its_image_embeddings(tmp_path):
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    folder = checkpoints.clip(tmp_path / "clip")
    paths = [media.picture(tmp_path / f"{i}.jpg", i) for i in range(3)]
    got = build_encoder("clip", checkpoint=str(folder)).encode(paths)
    model, processor = CLIPVisionModelWithProjection.from_pretrained(folder), CLIPImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        rows = [model(**processor(Image.open(p), return_tensors="pt")).image_embeds[0].numpy() for p in paths]
    assert cosines(got.vectors, rows).min() > 0.9999


def test_timesformer_equals_the_forward_pass_of_its_clips(tmp_path, trailer):
    from transformers import TimesformerModel, VideoMAEImageProcessor

    folder = checkpoints.timesformer(tmp_path / "timesformer")
    encoder = build_encoder("timesformer", checkpoint=str(folder), frames=8)
    got = encoder.encode([trailer])
    frames = [frame.image for frame in Keyframes(8).frames(trailer, [])]
    model, processor = TimesformerModel.from_pretrained(folder), VideoMAEImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        clips = [processor([frames[i : i + 4]], return_tensors="pt")["pixel_values"] for i in (0, 4)]
        expected = torch.stack([model(pixel_values=c).last_hidden_state[0, 0] for c in clips]).mean(0)
    assert encoder.card.frames == 8
    assert cosines(got.vectors, [expected.numpy()]).min() > 0.9999
    with pytest.raises(ExtractionError, match="multiple of 4"):
        build_encoder("timesformer", checkpoint=str(folder), frames=6)


def test_resnet_over_keyframes_is_the_mean_of_their_vectors(tmp_path, trailer):
    from torchvision.models import get_model

    torch.manual_seed(0)
    torch.save(get_model("shufflenet_v2_x0_5").state_dict(), tmp_path / "s.pt")
    settings = {"arch": "shufflenet_v2_x0_5", "checkpoint": str(tmp_path / "s.pt")}
    got = build_encoder("resnet_frames", **settings, frames=5).encode([trailer])
    paths = []
    for number, frame in enumerate(Keyframes(5).frames(trailer, [])):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(frame.image).save(paths[-1])
    expected = build_encoder("resnet", **settings).encode(paths).vectors.mean(0)
    assert cosines(got.vectors, [expected]).min() > 0.9999


@pytest.mark.parametrize("layer", ["conv", "last"])
def test_wav2vec2_equals_the_forward_pass_of_its_chunks(tmp_path, trailer, layer):
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = checkpoints.wav2vec2(tmp_path / "wav2vec2")
    got = build_encoder("wav2vec2", checkpoint=str(folder), layer=layer, chunk_s=1.0).encode([trailer])
    model = Wav2Vec2Model.from_pretrained(folder).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    chunks, _ = read_chunks(trailer, 16000, 1.0)
    assert len(chunks[0]) == 16000
    total, weight = 0, 0
    for chunk in chunks:
        inputs = extractor(as_float(chunk), sampling_rate=16000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            out = model(inputs)
        states = out.extract_features if layer == "conv" else out.last_hidden_state
        total = total + len(chunk) * states[0].mean(0)
        weight += len(chunk)
    assert cosines(got.vectors, [(total / weight).numpy()]).min() > 0.9999


def test_silent_or_missing_sound_is_masked_and_broken_sound_fails(tmp_path, trailer):
    encoder = build_encoder("wav2vec2", checkpoint=str(checkpoints.wav2vec2(tmp_path / "w")))
    silent = media.write_sound(tmp_path / "silent.wav", np.zeros(32000, np.int16))
    mute = media.write_clip(tmp_path / "mute.mp4", [media.plain((9, 9, 9))] * 4)
    short = media.write_sound(tmp_path / "short.wav", media.tone(440, 0.02))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nothing more")
    got = encoder.encode([silent, mute, short, broken, tmp_path / "absent.mp3", trailer])
    assert list(got.mask) == [False] * 5 + [True]
    words = ["silent", "no sound track", "320 samples", "cannot be opened", "no such file"]
    assert all(word in got.reasons[row] for row, word in enumerate(words)), got.reasons


def test_an_encoder_is_built_again_from_its_provenance(tmp_path, trailer):
    folder = checkpoints.timesformer(tmp_path / "timesformer")
    encoder = build_encoder("timesformer", checkpoint=str(folder), frames=8, keyframes="scene")
    again = encoder_from_provenance(encoder.card.provenance())
    assert again.card == encoder.card
    moved = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ExtractionError, match="no such file or folder"):
        encoder_from_provenance(encoder.card.provenance())
    again = encoder_from_provenance(encoder.card.provenance(), checkpoint=moved)
    assert again.card.signature() == encoder.card.signature()
    np.testing.assert_array_equal(again.encode([trailer]).vectors, encoder.encode([trailer]).vectors)
    other = checkpoints.timesformer(tmp_path / "other", size=40)
    with pytest.raises(ExtractionError, match="expected the same weights"):
        encoder_from_provenance(encoder.card.provenance(), checkpoint=other)
    with pytest.raises(ExtractionError, match="not known here"):
        encoder_from_provenance({"encoder": "VGGish"})


def test_a_checkpoint_of_another_model_is_refused_not_filled_at_random(tmp_path):
    bert, wav = checkpoints.bert(tmp_path / "bert"), checkpoints.wav2vec2(tmp_path / "wav")
    with pytest.raises(ExtractionError):
        build_encoder("clip", checkpoint=str(bert))
    with pytest.raises(ExtractionError):
        build_encoder("bert", checkpoint=str(wav))
    with pytest.raises(ExtractionError, match="cannot load"):
        build_encoder("wav2vec2", checkpoint=str(bert))
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ExtractionError, match="not a readable state dict"):
        build_encoder("resnet", checkpoint=str(tmp_path / "junk.safetensors"))
    (tmp_path / "words.pth").write_text("no weights")
    with pytest.raises(ExtractionError, match=r"not a readable state dict \(not tensors and nothing else\)"):
        build_encoder("resnet", checkpoint=str(tmp_path / "words.pth"))
    with pytest.raises(ExtractionError, match="no such file or folder"):
        build_encoder("bert", checkpoint="./nowhere")
    file = checkpoints.resnet50(tmp_path / "r.safetensors")
    with pytest.raises(ExtractionError, match="expected this backbone"):
        build_encoder("resnet", arch="resnet18", checkpoint=str(file))
