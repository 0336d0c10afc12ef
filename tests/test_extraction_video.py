"""Frames of a video: by time, upright, by seeking; keyframes by each strategy; what is broken is told."""

from fractions import Fraction

import checkpoints
import media
import numpy as np
import pytest
import torch
from PIL import Image

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.contact_sheet import draw_contact_sheet
from recbole_mm.extraction.detectors import MIN_SCORE, Detector, YolosDetector, make_detector
from recbole_mm.extraction.encoder import ItemError
from recbole_mm.extraction.keyframes import Keyframes, find_scenes
from recbole_mm.extraction.video import Video, opened

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def hue(image: np.ndarray) -> int:
    """0, 1, 2: mostly red, green or blue."""
    return int(image.reshape(-1, 3).mean(0).argmax())


def textured(seed: int, shade: int) -> np.ndarray:
    """A scene of its own: blocks of colours around a shade."""
    draw = np.random.default_rng(seed)
    blocks = np.clip(draw.integers(-60, 60, (4, 6, 3)) + shade, 0, 255).astype(np.uint8)
    return blocks.repeat(16, 0).repeat(16, 1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Five scenes of 3 s each, 10 frames a second."""
    frames = [image for seed, shade in enumerate((40, 220, 90, 240, 30)) for image in [textured(seed, shade)] * 30]
    return media.write_clip(tmp_path_factory.mktemp("scenes") / "s.mp4", frames, fps=10, gop=10)


def test_uniform_goes_by_time_not_by_frame_number(tmp_path):
    times = [Fraction(0), *(Fraction(i, 20) for i in range(1, 9)), Fraction(4), Fraction(8)]
    frames = [media.plain(RED)] * 9 + [media.plain(GREEN), media.plain(BLUE)]
    clip = media.write_clip(tmp_path / "vfr.mp4", frames, times=[*times], fps=1)
    got = list(Keyframes(9).frames(clip, []))
    assert [hue(frame.image) for frame in got] == [0, 0, 0, 0, 1, 1, 1, 1, 2]


def test_a_turned_video_is_shown_upright(tmp_path):
    image = media.plain(BLUE)
    image[:32] = RED
    clip = media.write_clip(tmp_path / "phone.mp4", [image] * 8)
    right, left, below = np.s_[:, 40:], np.s_[:, :24], np.s_[40:]
    for matrix, bright in (((0, 1, -1, 0), right), ((0, -1, 1, 0), left), ((-1, 0, 0, -1), below)):
        media.turn(clip, matrix)
        (frame,) = Keyframes(1).frames(clip, [])
        assert frame.image.shape == ((64, 96, 3) if matrix[0] else (96, 64, 3))
        assert hue(frame.image[bright]) == 0


def test_it_seeks_instead_of_decoding_all(scenes):
    with opened(scenes) as container:
        video = Video(container)
        got = list(video.frames_at([0.55, 7.55, 14.25]))
    assert [round(frame.time_s, 2) for frame in got] == [0.5, 7.5, 14.2]
    assert video.decoded < 75  # of 150


def test_scenes_are_found_and_the_middle_ones_taken(scenes):
    found = find_scenes(scenes)
    assert [round(start, 1) for start, _ in found] == [0, 3, 6, 9, 12]
    assert [round(t, 1) for t in Keyframes(3, "scene").times_s(scenes)] == [4.5, 7.5, 10.5]
    notes = []
    assert len(list(Keyframes(9, "scene").frames(scenes, notes))) == 5
    assert notes == ["5 keyframes instead of 9"]


class Brightness(Detector):
    """As many objects as the frame is bright."""

    def __init__(self):
        super().__init__("brightness", "none")
        self.seen = []

    def _count(self, images):
        self.seen += [len(images)]
        return [int(image.mean()) for image in images]


def test_the_frames_with_most_objects_are_taken_in_order(scenes):
    detector = Brightness()
    keyframes = Keyframes(5, "scene-objects", detector=detector, object_fps=1)
    times = keyframes.times_s(scenes)
    assert [round(t, 1) for t in times] == [3.5, 4.5, 9.5, 10.5, 11.5]  # shade 240, then the earlier ones of 220
    assert sum(detector.seen) == 15
    assert max(detector.seen) <= 8
    assert keyframes.times_s(scenes) is times


def test_yolos_counts_what_its_own_scores_say(tmp_path, scenes):
    from transformers import YolosForObjectDetection, YolosImageProcessor

    folder = checkpoints.yolos(tmp_path / "yolos")
    detector = make_detector(str(folder))
    assert isinstance(detector, YolosDetector)
    images = [frame.image for frame in Keyframes(4).frames(scenes, [])]
    model, processor = YolosForObjectDetection.from_pretrained(folder), YolosImageProcessor.from_pretrained(folder)
    expected = []
    for image in images:
        with torch.no_grad():
            logits = model(**processor(images=image, return_tensors="pt")).logits[0]
        expected.append(int((logits.softmax(-1)[:, :-1].max(-1).values > MIN_SCORE).sum()))
    assert detector.count(images) == expected
    assert detector.revision.startswith("sha256:")


def test_a_detector_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ultralytics", None)
    with pytest.raises(ExtractionError, match="pip install ultralytics"):
        make_detector("ultralytics:yolov5n.pt")


def test_broken_videos_are_told_apart(tmp_path, scenes):
    data = scenes.read_bytes()
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 3])
    sound = media.write_sound(tmp_path / "sound.wav", media.tone(440, 1))
    for path, words in (
        (tmp_path / "zero.mp4", "zero bytes"), (tmp_path / "cut.mp4", "cannot be opened"),
        (sound, "no video stream"), (tmp_path / "absent.mp4", "no such file"),
    ):  # fmt: skip
        with pytest.raises(ItemError, match=words):
            list(Keyframes(4).frames(path, []))


def test_damaged_packets_are_passed_over_and_noted(tmp_path, scenes):
    import av

    with av.open(str(scenes)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.is_keyframe]
    data = bytearray(scenes.read_bytes())
    for position, size in places[5:]:
        data[position : position + size] = b"\x00" * size
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    notes = []
    frames = list(Keyframes(6).frames(damaged, notes))
    assert frames
    assert "broken packets" in notes[-1]
    for position, size in places:
        data[position : position + size] = b"\x00" * size
    damaged.write_bytes(data)
    with pytest.raises(ItemError, match="no frame can be decoded"):
        list(Keyframes(6).frames(damaged, []))


def test_the_contact_sheet_shows_the_frames_in_order(tmp_path):
    frames = [media.plain(c) for c in (RED, GREEN, BLUE) for _ in range(8)]
    clip = media.write_clip(tmp_path / "c.mp4", frames)
    draw_contact_sheet(tmp_path / "sheets" / "c.jpg", Keyframes(6), clip, "c")
    with Image.open(tmp_path / "sheets" / "c.jpg") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[1] > pixels.shape[0]
    thumbs = [pixels[40, 60 + 104 * column] for column in range(4)]
    assert [int(t.argmax()) for t in thumbs] == [0, 0, 1, 1]


def test_settings_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ExtractionError, match="goes with keyframes 'scene-objects'"):
        Keyframes(4, "uniform", detector=Brightness())
    with pytest.raises(ExtractionError, match="expected one of uniform, scene"):
        Keyframes(4, "random")
