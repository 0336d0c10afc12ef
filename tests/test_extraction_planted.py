"""From clips to genres by the commands: look and sound depend on the genres, and the embeddings tell them."""

import sys

import checkpoints
import media
import numpy as np
import pytest
from planted import Planted
from sklearn.metrics import average_precision_score

from recbole_mm.cli import main
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction import encoder_from_provenance
from recbole_mm.extraction.genre import multi_hot, score_genres, train_genres
from recbole_mm.features import open_feature_file

GENRES = ("Action", "Comedy", "Drama", "Horror")
COLOURS = ((230, 40, 40), (240, 220, 60), (60, 90, 220), (30, 160, 60))
TONES_HZ = (180, 420, 980, 2300)
N = 60


def clip_of(path, genres: list[int], seed: int) -> None:
    """A band of its own colour, and a tone, for each genre; noise for the others."""
    draw = np.random.default_rng(seed)
    frames = []
    for _ in range(8):
        image = draw.integers(0, 70, (48, 64, 3))
        for genre in genres:
            image[:, genre * 16 : genre * 16 + 16] = np.array(COLOURS[genre]) + draw.integers(-25, 25, (48, 16, 3))
        frames.append(np.clip(image, 0, 255).astype(np.uint8))
    tones = [media.tone(TONES_HZ[g] * draw.uniform(0.95, 1.05), 1.0, seed=seed).astype(float) for g in genres]
    sound = np.sum(tones, 0) / len(tones)
    media.write_clip(path, frames, sound=sound.astype(np.int16))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    draw = np.random.default_rng(0)
    chosen = [sorted(draw.choice(4, draw.integers(1, 3), replace=False).tolist()) for _ in range(N)]
    for number, genres in enumerate(chosen):
        clip_of(folder / f"i{number}.mp4", genres, number)
    return folder, chosen


def run(*words) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, words)))
    assert stopped.value.code == 0


def test_held_out_genres_are_told_from_clips_by_the_commands(tmp_path, clips, capsys):
    folder, chosen = clips
    data = Planted(tmp_path / "dataset", n_items=N).write()
    rows = [f"i{n}\t{' '.join(GENRES[g] for g in genres)}" for n, genres in enumerate(chosen)]
    (data.folder / "planted.item").write_text("\n".join(["item_id:token\tclass:token_seq", *rows]) + "\n")
    weights = {"video": checkpoints.timesformer(tmp_path / "t"), "audio": checkpoints.wav2vec2(tmp_path / "w")}
    for modality, checkpoint in weights.items():
        where = ["--dataset", "planted", "--data-path", data.root]
        run("extract", modality, *where, "--media", folder, "--checkpoint", checkpoint, "--segments", 2)
        run("extract", "genre", *where, "--source", modality, "--held-out", 0.25)
        out = capsys.readouterr().out
        sys.stdout.write(out)  # the figures of docs/extraction.md, which pytest -rP shows
        assert f"registered '{modality}_genre' for 'planted': 60 of 60 items, width 512" in out
        features = open_feature_file(data.file(f"{modality}_genre"))
        assert features.segments.vectors.shape == (60, 512)  # a second is one clip, one chunk
        said = features.provenance["held_out"]
        assert said.startswith("15 held-out movies (45 to learn from): mAP ")
        found, chance = (float(said.split(f"{word} ")[1].split()[0].strip("),")) for word in ("mAP", "chance"))
        assert chance < 0.5
        assert found > chance + 0.3, said
        # a new movie gets the embedding that the file has for it
        again = encoder_from_provenance(features.provenance, checkpoint=checkpoint)
        got = again.encode([folder / "i7.mp4"]).vectors[0]
        expected = np.asarray(features.vectors[features.tokens.index("i7")], np.float32)
        assert got @ expected / np.linalg.norm(got) / np.linalg.norm(expected) > 0.999


def test_scores_are_scikit_learns_and_the_slow_formulas():
    draw = np.random.default_rng(1)
    labels = (draw.random((40, 5)) < 0.3).astype(np.float32)
    labels[:, 4] = 0
    predicted = draw.random((40, 5)).astype(np.float32)
    scores = score_genres(predicted, labels, n_train=9)
    slow = []
    for genre in range(4):
        ranked = labels[np.argsort(-predicted[:, genre]), genre]
        hits = [ranked[: i + 1].mean() for i in range(40) if ranked[i]]
        slow.append(np.mean(hits))
        assert slow[-1] == pytest.approx(average_precision_score(labels[:, genre], predicted[:, genre]))
    said = predicted >= 0.5
    true = (said * labels).sum()
    assert scores.mean_average_precision == pytest.approx(np.mean(slow))
    assert scores.micro_f1 == pytest.approx(2 * true / (said.sum() + labels.sum()))


def test_training_is_repeatable_and_noise_is_not_told():
    draw = np.random.default_rng(2)
    labels = (draw.random((80, 4)) < 0.4).astype(np.float32)
    vectors = draw.normal(size=(80, 10)).astype(np.float32)
    one, scores = train_genres(vectors, labels, seed=3, held_out=0.25, epochs=20)
    two, same = train_genres(vectors, labels, seed=3, held_out=0.25, epochs=20)
    assert scores == same
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert abs(scores.mean_average_precision - scores.chance) < 0.25
    with pytest.raises(ExtractionError, match="0 genres have at least 5 movies"):
        multi_hot([["a"], ["b"]])
