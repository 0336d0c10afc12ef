"""What RecBole 1.2.1 needs on today's torch, scipy and torchvision.

Each shim names its reason and does nothing where it is not needed.

Not shimmed on purpose: ``torch.load`` of torch >= 2.6 refuses RecBole's pickled checkpoints. Ours are not pickled
(docs/adr/0003-checkpoints.md), and ours are the only ones that are read.
"""

import importlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any


def apply() -> None:
    """Make RecBole run; call before or after importing it, any number of times."""
    quiet_warnings()
    restore_dok_update()


def quiet_warnings() -> None:
    """RecBole 1.2.1 and what it imports warn of pandas', numpy's and torch's later versions on every run.

    The bounds in ``pyproject.toml`` already keep those versions out, so the warnings say nothing to the user.
    """
    for module in (
        r"recbole\.",
        r"ray\.",
        r"thop",
        r"hyperopt",
        r"torch\.utils\.tensorboard",
        r"pkg_resources",
    ):
        for category in (FutureWarning, DeprecationWarning, UserWarning, SyntaxWarning):
            warnings.filterwarnings("ignore", category=category, module=module)


def restore_dok_update() -> None:
    """Scipy 1.13 removed ``dok_matrix._update``, by which LightGCN, NGCF and others of RecBole build their graph."""
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return

    def _update(self: Any, data: Mapping[tuple[int, int], float]) -> None:
        self._dict.update(data)

    dok_matrix._update = _update


def ensure_torchvision() -> None:
    """Make torchvision, and with it transformers' ``BertModel``, import beside a torch of another build.

    A torchvision built for CUDA does not import beside a CPU-only torch: its C library is not loaded, and the
    operators ``torchvision::nms`` and ``qnms`` that its Python code registers fake kernels for are undefined.

    Declaring their schemas is enough; only detection models would call them. Tried only after a plain import has
    failed for that reason.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            fragment.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _keep_alive.append(fragment)
        for name in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
            del sys.modules[name]  # the half-imported remains of the first try
        importlib.import_module("torchvision")


_keep_alive: list[Any] = []  # a torch library's definitions go when the object does
