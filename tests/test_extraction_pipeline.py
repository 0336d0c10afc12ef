"""The commands as a user types them: broken files, the cache, kills, several processes, what is written."""

import csv
import json
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import checkpoints
import media
import numpy as np
import pytest
import torch
from PIL import Image
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.extraction import encoder_from_provenance
from recbole_mm.features import open_feature_file

N_TEXTS = 2100


@pytest.fixture
def extract(planted, capsys):
    """Run ``recbole-mm extract`` on the planted data set; the exit status, and what it printed."""

    def run(*words) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["extract", words[0], "--dataset", "planted", "--data-path", str(planted.root), *map(str, words[1:])])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return stopped.value.code, printed.out + printed.err

    return run


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    from torchvision.models import get_model

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("backbone") / "s.pt"
    torch.save(get_model("shufflenet_v2_x0_5").state_dict(), file)
    return ["--encoder", "shufflenet_v2_x0_5", "--checkpoint", file, "--stretch", 64]


def failures(planted, modality="image") -> dict[str, tuple[str, str]]:
    with planted.file(modality).with_suffix(".failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert not rows or list(rows[0]) == ["item_id", "source", "outcome", "reason"]
    return {row["item_id"]: (row["outcome"], row["reason"]) for row in rows}


def bomb(path: Path) -> None:
    """A PNG of 20,000 x 20,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def test_every_broken_picture_is_listed_and_the_rest_encoded(planted, tmp_path, extract, backbone):
    folder = tmp_path / "posters"
    for number in range(4):
        media.picture(folder / f"{number}.jpg", number)
    whole = (folder / "0.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    bomb(folder / "bomb.png")
    Image.new("CMYK", (60, 60), (10, 200, 30, 0)).save(folder / "cmyk.jpg")
    red, blue = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")
    red.save(folder / "moving.gif", save_all=True, append_images=[blue])
    media.picture(tmp_path / "outside.jpg", 9)
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    names = [
        "0.jpg", "1.jpg", "cut.jpg", "zero.jpg", "text.jpg", "bomb.png", "cmyk.jpg", "moving.gif", "../outside.jpg",
        "link.jpg", "absent.jpg", "", "2.jpg", "nul\0.jpg",
    ]  # fmt: skip
    table = tmp_path / "t.csv"
    table.write_text("item_id,file\n" + "".join(f"i{n},{name}\n" for n, name in enumerate(names)) + "i12,3.jpg\n")
    words = ["image", "--table", table, "--media", folder, "--file-column", "file", *backbone]
    status, out = extract(*words)
    assert status == 1
    assert "8 sources failed, more than --max-failures 0" in out.splitlines()[-1]
    told = failures(planted)
    for item, kind, words_in_it in (
        ("i2", "failed", "truncated"), ("i3", "failed", "zero bytes"), ("i4", "failed", "not a picture"),
        ("i5", "failed", "400000000 pixels"), ("i6", "encoded", "CMYK"), ("i7", "encoded", "2 frames: the first"),
        ("i8", "failed", "outside the media folder"), ("i9", "failed", "outside the media folder"),
        ("i10", "failed", "no such file"), ("i11", "empty", "no file named"), ("i13", "failed", "cannot be read"),
        ("i89", "empty", "not in t.csv"),
    ):  # fmt: skip
        assert told[item][0] == kind, (item, told[item])
        assert words_in_it in told[item][1]
    features = open_feature_file(planted.file("image"))
    assert sorted(features.tokens) == ["i0", "i1", "i12", "i6", "i7"]
    # two pictures of one item are averaged, and the first frame of the moving one is red
    encoder = encoder_from_provenance(features.provenance)
    pair = encoder.encode([folder / "2.jpg", folder / "3.jpg"]).vectors.mean(0)
    red.save(tmp_path / "red.png")
    first = encoder.encode([tmp_path / "red.png"]).vectors[0]
    for token, expected in (("i12", pair), ("i7", first)):
        made = np.asarray(features.vectors[features.tokens.index(token)], np.float64)
        assert made @ expected / np.linalg.norm(made) / np.linalg.norm(expected) > 0.999
    assert extract(*words, "--max-failures", 8)[0] == 0


def test_only_what_changed_is_encoded_again(planted, tmp_path, extract, backbone):
    folder = tmp_path / "posters"
    for number in range(12):
        media.picture(folder / f"i{number}.jpg", number % 10)  # the last two are copies
    words = ["image", "--media", folder, *backbone, "--precision", "float32"]
    status, out = extract(*words)
    assert (status, "10 sources encoded now, 0 taken from the cache" in out) == (0, True), out
    before = planted.file("image").read_bytes()
    status, out = extract(*words)  # the same encoder: no --replace is asked for
    assert (status, "0 sources encoded now, 10 taken from the cache" in out) == (0, True), out
    assert planted.file("image").read_bytes() == before
    media.picture(folder / "i3.jpg", 77)
    status, out = extract(*words)
    assert "1 sources encoded now, 9 taken from the cache" in out
    a, b = np.frombuffer(before, np.uint8), np.frombuffer(planted.file("image").read_bytes(), np.uint8)
    assert (a != b).any()
    status, out = extract(*words[:3], *backbone[:4], "--stretch", 48)
    assert "registered for 'planted' already; --replace" in out
    status, out = extract(*words[:3], *backbone[:4], "--stretch", 48, "--replace")
    assert "10 sources encoded now" in out or "11 sources encoded now" in out


def test_a_broken_block_of_the_cache_is_made_again(planted, tmp_path, extract, backbone):
    for number in range(3):
        media.picture(tmp_path / "posters" / f"i{number}.jpg", number)
    words = ["image", "--media", tmp_path / "posters", *backbone, "--precision", "float32"]
    extract(*words)
    before = planted.file("image").read_bytes()
    (block,) = [b for b in (planted.folder / ".extract").glob("*-float32/*.safetensors") if b.stat().st_size > 2000]
    block.write_bytes(block.read_bytes()[:-100])
    assert "3 sources encoded now" in extract(*words)[1]
    assert planted.file("image").read_bytes() == before


def test_what_is_registered_can_be_trained_on_and_shown(planted, tmp_path, extract, capsys):
    folder = checkpoints.bert(tmp_path / "bert")
    status, out = extract(
        "text", "--template", "{class} {year}", "--checkpoint", folder, "--modality", "plot", "--licence", "CC0"
    )
    assert status == 0
    assert "registered 'plot' for 'planted': 90 of 90 items, width 32" in out
    provenance = open_feature_file(planted.file("plot")).provenance
    assert provenance["source"] == "template '{class} {year}' of planted.item"
    assert provenance["template"] == "{class} {year}"
    assert provenance["licence"] == "encoder: not stated; text: CC0"
    assert json.loads(provenance["settings"])["kind"] == "bert"
    assert provenance["revision"].startswith("sha256:")
    with pytest.raises(SystemExit):
        main(["features", "show", "--dataset", "planted", "--data_path", str(planted.root)])
    assert "90 x 32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["text", "--template", "{plot}"], "no column 'plot'"),
        (["image", "--media", "nowhere"], "no such media folder"),
        (["image", "--media", ".", "--encoder", "resnet5o"], "no file is named as an item"),
        (["text", "--template", "{class}", "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["text", "--template", "{class}", "--checkpoint", "./nowhere"], "no such file or folder"),
        (["text", "--template", "{class}", "--modality", "a b"], "expected a name of letters"),
        (["genre", "--source", "sound"], "modality 'sound' of 'planted' has no feature file"),
    ],
)
def test_bad_input_is_one_clear_line(planted, extract, words, said):
    status, out = extract(*words)
    assert status == 1
    assert said in out
    assert not list(planted.folder.glob("*.safetensors"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Enough texts for several blocks, some of them empty, and a checkpoint."""
    folder = tmp_path_factory.mktemp("texts")
    draw = np.random.default_rng(0)
    words = ["toy", "spy", "film", "love", "the", "a", "xyz"]
    lines = [" ".join(draw.choice(words, draw.integers(1, 60))) if n % 50 else "" for n in range(N_TEXTS)]
    (folder / "t.csv").write_text("item_id,plot\n" + "".join(f"i{n},{text}\n" for n, text in enumerate(lines)))
    checkpoints.bert(folder / "bert", width=64)
    return folder


def command(root: Path, texts: Path) -> list[str]:
    return [
        "-m", "recbole_mm", "extract", "text", "--dataset", "planted", "--data-path", str(root),
        "--table", str(texts / "t.csv"), "--template", "{plot}", "--checkpoint", str(texts / "bert"),
    ]  # fmt: skip


def files(root: Path) -> dict[str, bytes]:
    found = [*root.glob("planted/planted.text*"), *root.glob("planted/planted.modalities.yaml")]
    assert not [f for f in root.rglob(".*safetensors") if "lock" not in f.name]
    return {file.name: file.read_bytes() for file in found}


def test_killed_again_and_again_or_shared_by_processes_it_ends_in_the_same_file(tmp_path, texts):
    roots = {name: Planted(tmp_path / name, n_items=N_TEXTS).write().root for name in ("whole", "killed", "shared")}
    subprocess.run([sys.executable, *command(roots["whole"], texts)], check=True, capture_output=True)
    expected = files(roots["whole"])
    assert len(expected) == 3
    for blocks in (1, 3):
        process = subprocess.Popen([sys.executable, *command(roots["killed"], texts)], stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if len(list((roots["killed"] / "planted" / ".extract").glob("*/[!.]*.safetensors"))) >= blocks:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.002)
        assert process.wait() == -signal.SIGKILL
        assert not (roots["killed"] / "planted" / "planted.text.safetensors").exists()
    last = subprocess.run(
        [sys.executable, *command(roots["killed"], texts)], check=True, capture_output=True, text=True
    )
    assert "0 taken from the cache" not in last.stdout
    assert files(roots["killed"]) == expected
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *torchrun, *command(roots["shared"], texts)], check=True, capture_output=True, timeout=300
    )
    assert files(roots["shared"]) == expected
