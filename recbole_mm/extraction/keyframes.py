"""Which frames stand for a trailer: at equal intervals, one a scene, or those that show most objects.

The three strategies of Mondal et al., IEEE Transactions on Consumer Electronics 2023, DOI 10.1109/TCE.2023.3324009.
A strategy answers times; the frames are then fetched by seeking, so that memory does not grow with the trailer.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.detectors import Detector, make_detector
from recbole_mm.extraction.encoder import ItemError
from recbole_mm.extraction.video import Frame, Video, opened

STRATEGIES = ("uniform", "scene", "scene-objects")
SCENE_DETECTORS = {"content": "ContentDetector", "adaptive": "AdaptiveDetector", "threshold": "ThresholdDetector"}
_DETECTOR_BATCH = 8


@dataclass
class Keyframes:
    """Chooses at most ``n`` keyframes of a video.

    Args:
        n: frames.
        strategy: one of :data:`STRATEGIES`.
        scene_detector: one of :data:`SCENE_DETECTORS`, at PySceneDetect's defaults.
        detector: counts objects, for ``scene-objects``.
        object_fps: frames a second that are shown to the detector, at least one a scene.
    """

    n: int
    strategy: str = "uniform"
    scene_detector: str = "content"
    detector: Detector | None = None
    object_fps: float = 2.0
    _chosen: dict[Path, list[float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ExtractionError(f"{self.n} keyframes; expected at least one")
        if self.strategy not in STRATEGIES:
            raise ExtractionError(f"keyframes '{self.strategy}'; expected one of {', '.join(STRATEGIES)}")
        if self.scene_detector not in SCENE_DETECTORS:
            raise ExtractionError(f"scene detector '{self.scene_detector}'; expected {', '.join(SCENE_DETECTORS)}")
        if (self.strategy == "scene-objects") != (self.detector is not None):
            raise ExtractionError("a detector of objects goes with keyframes 'scene-objects', and only with it")

    def __str__(self) -> str:
        if self.strategy == "uniform":
            return f"{self.n} frames at equal intervals"
        scenes = f"scenes by {SCENE_DETECTORS[self.scene_detector]}"
        if self.strategy == "scene":
            return f"{scenes}, the {self.n} in the middle, one frame each"
        return f"{scenes}, the {self.n} frames with most objects ({self.detector}, {self.object_fps:g} a second)"

    def settings(self) -> dict[str, Any]:
        """What makes the same choice again."""
        return {
            "frames": self.n, "keyframes": self.strategy, "scene_detector": self.scene_detector,
            "object_fps": self.object_fps, "detector": self.detector.name if self.detector else None,
        }  # fmt: skip

    def times_s(self, path: Path) -> list[float]:
        """Times of the keyframes, ascending.

        Raises:
            ItemError: the video cannot be decoded.
        """
        if path not in self._chosen:
            if self.strategy == "uniform":
                times = self._uniform(path)
            else:
                scenes = find_scenes(path, self.scene_detector)
                times = self._middle(scenes) if self.strategy == "scene" else self._objects(path, scenes)
            self._chosen[path] = times
        return self._chosen[path]

    def frames(self, path: Path, notes: list[str]) -> Iterator[Frame]:
        """The keyframes, decoded one at a time; what is to be noted of them is added to ``notes``.

        Raises:
            ItemError: the video cannot be decoded.
        """
        times = self.times_s(path)
        with opened(path) as container:
            video = Video(container)
            found = 0
            for frame in video.frames_at(times):
                found += 1
                yield frame
            if not found:
                raise ItemError(f"no frame can be decoded ({video.broken} broken packets)")
            if found < self.n:
                notes.append(f"{found} keyframes instead of {self.n}")
            if video.broken or video.damaged:
                notes.append(f"{video.broken} broken packets passed over, {video.damaged} keyframes damaged")

    def _uniform(self, path: Path) -> list[float]:
        """The centres of n equal intervals."""
        with opened(path) as container:
            duration = Video(container).duration_s()
        return [(i + 0.5) / self.n * duration for i in range(self.n)]

    def _middle(self, scenes: Sequence[tuple[float, float]]) -> list[float]:
        """The middle frame of each of the n scenes in the middle."""
        skipped = max(len(scenes) - self.n, 0) // 2
        return [(start + end) / 2 for start, end in scenes[skipped : skipped + self.n]]

    def _objects(self, path: Path, scenes: Sequence[tuple[float, float]]) -> list[float]:
        """The n candidate frames with most objects; of equal ones the earlier."""
        assert self.detector is not None
        candidates = [time for start, end in scenes for time in _spread(start, end, self.object_fps)]
        best: list[tuple[int, float]] = []
        with opened(path) as container:
            waiting: list[Frame] = []
            for frame in Video(container).frames_at(candidates):
                waiting.append(frame)
                if len(waiting) == _DETECTOR_BATCH:
                    best = self._keep_best(best, waiting)
                    waiting = []
            best = self._keep_best(best, waiting)
        return sorted(-time for _, time in best)

    def _keep_best(self, best: list[tuple[int, float]], frames: Sequence[Frame]) -> list[tuple[int, float]]:
        """The n largest (objects, -time)."""
        assert self.detector is not None
        counts = self.detector.count([frame.image for frame in frames]) if frames else []
        found = {(count, -frame.time_s) for count, frame in zip(counts, frames, strict=True)}
        return heapq.nlargest(self.n, found | set(best))


def choose(
    n: int, strategy: str, *, scene_detector: str, detector: str | None, object_fps: float, device: str
) -> Keyframes:
    """Keyframes with the detector loaded, where the strategy has one.

    Raises:
        ExtractionError: the parts do not fit, or the detector cannot be loaded.
    """
    counts = strategy == "scene-objects" or detector is not None
    loaded = make_detector(detector, device=device) if counts else None
    return Keyframes(n, strategy, scene_detector, loaded, object_fps)


def _spread(start: float, end: float, per_second: float) -> list[float]:
    """Centres of equal intervals of a scene, one at least."""
    many = max(int((end - start) * per_second), 1)
    return [start + (i + 0.5) / many * (end - start) for i in range(many)]


def find_scenes(path: Path, detector: str = "content") -> list[tuple[float, float]]:
    """Start and end of every scene, in seconds; the whole video is one scene where there is no cut.

    Raises:
        ExtractionError: PySceneDetect is not installed.
        ItemError: the video cannot be decoded.
    """
    try:
        import scenedetect
        from scenedetect.backends.pyav import VideoStreamAv
        from scenedetect.video_stream import VideoOpenFailure
    except ImportError as error:
        raise ExtractionError(
            f"keyframes by scene need PySceneDetect with PyAV ({error}): pip install 'recbole-mm[video]'"
        ) from error
    with opened(path) as container:  # the checks and reasons are ours
        duration = Video(container).duration_s()
    try:
        video = VideoStreamAv(str(path), suppress_output=True)
        manager = scenedetect.SceneManager()
        manager.add_detector(getattr(scenedetect, SCENE_DETECTORS[detector])())
        manager.detect_scenes(video)
    except (VideoOpenFailure, OSError, ValueError) as error:
        raise ItemError(f"scenes cannot be found: {error}") from None
    scenes = [(start.seconds, end.seconds) for start, end in manager.get_scene_list()]
    return scenes or [(0.0, duration)]
