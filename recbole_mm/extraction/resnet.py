"""Images: ResNet-50 or any other torchvision classifier without its last layer.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from recbole_mm import compat
from recbole_mm.errors import ExtractionError, nearest
from recbole_mm.extraction.encoder import Card, Encoder, Prepared, Source, Unit
from recbole_mm.extraction.images import open_rgb
from recbole_mm.extraction.openvino import CompiledNetwork, choose_engine, convert, read_graph
from recbole_mm.extraction.weights import digest, fill, local_path, read_state_dict

_HEADS = ("fc", "classifier", "heads", "head")


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to the network's input: shorter side to ``resize_px`` and a square cut out, or stretched.

    The input is ``(pixel / 255 - mean) / std`` by channel.
    """

    size_px: int
    resize_px: int | None  # None: stretched to size x size
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_weights(cls, weights: Any) -> Self:
        """As the weights' own transforms say."""
        said = weights.transforms()
        return cls(said.crop_size[0], said.resize_size[0], said.interpolation.value, tuple(said.mean), tuple(said.std))

    @classmethod
    def stretched(cls, size_px: int) -> Self:
        """Stretched to a square by bilinear interpolation, pixels scaled to [-1, 1]."""
        return cls(size_px, None, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """The square of a picture that the network sees, uint8 [H, W, 3]."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as transforms

        if self.resize_px is None:
            image = image.resize((self.size_px, self.size_px), Image.Resampling[self.interpolation.upper()])
        else:
            mode = InterpolationMode(self.interpolation)
            image = transforms.resize(image, [self.resize_px], interpolation=mode, antialias=True)
            image = transforms.center_crop(image, [self.size_px, self.size_px])
        return np.asarray(image)

    def __str__(self) -> str:
        scale = f"mean {list(self.mean)}, std {list(self.std)}"
        if self.resize_px is None:
            return f"stretched to {self.size_px} x {self.size_px} ({self.interpolation}), {scale}"
        return f"shorter side {self.resize_px}, centre {self.size_px} x {self.size_px} ({self.interpolation}), {scale}"


class ResNetEncoder(Encoder):
    """``vector = the last layer's input``: for ResNet-50 the average pool of the last feature map, [N, 2048].

    Args:
        arch: name in ``torchvision.models``.
        checkpoint: local state dict; by default ``weights`` of that name from torchvision's hub.
        weights: torchvision's weights, whose transforms also go with a local checkpoint; by default
            ``IMAGENET1K_V2`` for ResNet-50, torchvision's choice for others.
        stretch_px: instead of the weights' transforms, stretch to this size and scale pixels to [-1, 1].
        device: torch device.
        precision: ``float32``, ``bfloat16``, or ``int8`` with ``quantised``.
        engine: what runs the network, ``torch`` or, on the processor, ``openvino``.
        quantised: for OpenVINO, the network in 8-bit integers; see :mod:`recbole_mm.extraction.int8`.

    Raises:
        ExtractionError: there is no such backbone, or the checkpoint is not one of it.
    """

    block_size = 128
    precisions = ("float32", "bfloat16", "int8")

    def __init__(
        self,
        arch: str = "resnet50",
        *,
        checkpoint: str | None = None,
        weights: str | None = None,
        stretch_px: int | None = None,
        device: str = "cpu",
        precision: str = "float32",
        engine: str = "torch",
        quantised: Path | None = None,
    ) -> None:
        engine = choose_engine(engine, device)
        if precision == "int8" and (engine != "openvino" or quantised is None):
            raise ExtractionError(f"precision int8 with engine {engine}; expected openvino, and a calibrated network")
        named = _named_weights(arch, weights)
        self.preprocessing = Preprocessing.stretched(stretch_px) if stretch_px else Preprocessing.of_weights(named)
        model, width, where, revision = _load(arch, named, checkpoint)
        card = Card(
            modality="image",
            encoder=f"torchvision {arch} ({width})",
            checkpoint=where,
            revision=revision,
            licence="BSD-3-Clause (torchvision); ImageNet's terms of use" if checkpoint is None else "not stated",
            width=width,
            pooling="input of the last layer (average pool)",
            preprocessing=str(self.preprocessing),
            settings={"kind": "resnet", "arch": arch, "weights": named.name, "stretch_px": stretch_px},
            libraries=("torch", "torchvision", "pillow", *(("openvino",) if engine == "openvino" else ())),
        )
        self._scaled = _Scaled(self.preprocessing, torch.device(device))
        self.compiled: CompiledNetwork | None = None
        if engine == "openvino":
            if quantised is not None:
                graph, facts = read_graph(quantised)
                self.compiled = CompiledNetwork(graph, facts["rest"])
                card = replace(card, quantised=f"{digest(quantised.with_suffix('.bin'))}, {facts['extent']}")
            else:
                graph = convert(nn.Sequential(self._scaled, model), self.preprocessing.size_px)
                self.compiled = CompiledNetwork(graph, precision)
            model = nn.Identity()  # the weights are in the compiled network
        super().__init__(card, model, device=device, precision=precision)
        # on a processor, a fifth more a second than batches of 32: the feature maps of 8 stay in its cache
        self.batch_size = 8 if self.device.type == "cpu" else 64
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, source: Source) -> Prepared:
        """The pixels that the network sees."""
        image, note = open_rgb(Path(source))
        return Prepared((Unit(self.preprocessing.pixels(image)),), note)

    def forward(self, units: Sequence[Unit]) -> torch.Tensor:
        """Average pool, [B, F]; [B, H, W, 3] seen as [B, 3, H, W] already lies channels-last in memory."""
        pixels = np.stack([unit.data for unit in units])
        if self.compiled is not None:
            return self.compiled(pixels)
        scaled: torch.Tensor = self._scaled(torch.from_numpy(pixels).to(self.device))
        return torch.as_tensor(self.model(scaled.to(self.dtype)))


class _Scaled(nn.Module):
    """The network's input, float32 [B, 3, H, W], of pixels [B, H, W, 3], as :class:`Preprocessing` says."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        super().__init__()
        std = torch.tensor(preprocessing.std)
        self._scale = (1 / (255 * std)).view(1, 3, 1, 1).to(device)  # no buffers: float32 in every precision
        self._shift = (torch.tensor(preprocessing.mean) / std).view(1, 3, 1, 1).to(device)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.permute(0, 3, 1, 2).float() * self._scale - self._shift


def _named_weights(arch: str, name: str | None) -> Any:
    """An entry of torchvision's weights for ``arch``."""
    compat.ensure_torchvision()
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        raise ExtractionError(
            f"image encoder '{arch}'; expected 'clip' or a torchvision backbone{nearest(arch, known)}"
        )
    entries = models.get_model_weights(arch)
    if name is None:
        return entries.IMAGENET1K_V2 if arch == "resnet50" else entries.DEFAULT
    if name not in entries.__members__:
        raise ExtractionError(f"weights '{name}' of {arch}; expected one of {', '.join(entries.__members__)}")
    return entries[name]


def _load(arch: str, named: Any, checkpoint: str | None) -> tuple[nn.Module, int, str, str]:
    """The headless network, its width, and where its weights are from."""
    from torchvision import models

    model = models.get_model(arch, weights=None)
    head, width = _behead(model, arch)
    if checkpoint is None:
        try:
            state = named.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise ExtractionError(
                f"weights {arch} {named.name} cannot be downloaded ({error}); give a local state dict by --checkpoint"
            ) from error
        where, revision = f"torchvision {arch} {named.name}", Path(named.url).stem
    else:
        path = local_path(checkpoint)
        if path is None or not path.is_file():
            raise ExtractionError(f"checkpoint {checkpoint}: no such file; expected a local state dict of {arch}")
        state, where, revision = read_state_dict(path), checkpoint, digest(path)
    fill(model, state, where, lambda name: name.startswith(f"{head}."))
    return model, width, where, revision


def _behead(model: nn.Module, arch: str) -> tuple[str, int]:
    """Take the last linear layer out; its name and the width of its input."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].split(".")[0] not in _HEADS:
        raise ExtractionError(
            f"image encoder '{arch}' does not end in a linear layer; choose another, such as resnet50"
        )
    name = linear[-1]
    parent, _, leaf = name.rpartition(".")
    width = int(model.get_submodule(name).in_features)  # type: ignore[arg-type]
    setattr(model.get_submodule(parent), leaf, nn.Identity())
    return name, width
