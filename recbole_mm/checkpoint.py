"""Checkpoints without pickle: tensors in ``.safetensors``, everything else as JSON in its metadata.

A state is a tree of dicts, lists, numbers, text, torch tensors, numpy arrays and scipy sparse matrices. One file
holds it whole, so that replacing the file is atomic. See docs/adr/0003-checkpoints.md.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_mm.errors import CheckpointError
from recbole_mm.files import replacing

FORMAT = "recbole_mm.checkpoint.1"


def save_state(path: Path, state: dict[str, Any], summary: dict[str, Any]) -> None:
    """Write ``state`` whole or not at all; ``summary`` (JSON) can be read without it.

    Raises:
        CheckpointError: the state holds a type that cannot be stored without pickle, or the place is not writable.
    """
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    tree = _encode(state, tensors, "state")
    metadata = {"format": FORMAT, "summary": json.dumps(summary), "tree": json.dumps(tree)}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error


def read_summary(path: Path) -> dict[str, Any]:
    """What the checkpoint says of itself: model, data set, epoch.

    Raises:
        CheckpointError: the file is missing, truncated or not one of ours.
    """
    summary: dict[str, Any] = json.loads(_open(path)[1]["summary"])
    return summary


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state that :func:`save_state` wrote.

    Raises:
        CheckpointError: the file is missing, truncated or not one of ours.
    """
    tensors, metadata = _open(path)
    state: dict[str, Any] = _decode(json.loads(metadata["tree"]), tensors, torch.device(device))
    return state


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({error}); it is truncated or another file"
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {metadata.get('format')!r}; expected {FORMAT!r}")
    return tensors, metadata


def _encode(value: Any, tensors: dict[str, torch.Tensor], where: str) -> Any:  # noqa: C901, PLR0911
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item(), tensors, where)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, list):
        return [_encode(v, tensors, f"{where}.{i}") for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, tensors, f"{where}.{i}") for i, v in enumerate(value)]}
    if isinstance(value, dict):  # as pairs: JSON has text keys only, optimizers number theirs
        return {"dict": [[_encode(k, tensors, where), _encode(v, tensors, f"{where}.{k}")] for k, v in value.items()]}
    if isinstance(value, torch.nn.Module):
        return {"module": True}  # its tensors are in the model's state_dict already
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            value = value.detach().cpu().coalesce()
            parts = {"indices": value.indices(), "values": value.values()}
            return {"sparse_tensor": _encode(parts, tensors, where), "shape": list(value.shape)}
        tensors[where] = value.detach().cpu().contiguous().clone()
        return {"tensor": where}
    if sp.issparse(value):
        csr = value.tocsr()
        parts = {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr}
        return {"sparse": _encode(parts, tensors, where), "shape": list(csr.shape), "form": value.format}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        # torch has no wide unsigned integers on every version; int64 holds all that RecBole and numpy's RNG keep
        wide = value.astype(np.int64) if value.dtype.kind == "u" else value
        tensors[where] = torch.from_numpy(np.ascontiguousarray(wide).copy())
        return {"array": where, "dtype": str(value.dtype), "matrix": isinstance(value, np.matrix)}
    raise CheckpointError(f"{where}: a {type(value).__name__} cannot be stored without pickle")


def _decode(node: Any, tensors: dict[str, torch.Tensor], device: torch.device) -> Any:  # noqa: PLR0911
    if isinstance(node, list):
        return [_decode(n, tensors, device) for n in node]
    if not isinstance(node, dict):
        return node
    if "float" in node:
        return float(node["float"])
    if "tuple" in node:
        return tuple(_decode(n, tensors, device) for n in node["tuple"])
    if "dict" in node:
        pairs = ((_decode(k, tensors, device), _decode(v, tensors, device)) for k, v in node["dict"])
        return {k: v for k, v in pairs if v is not _MODULE}
    if "module" in node:
        return _MODULE
    if "tensor" in node:
        return tensors[node["tensor"]].to(device)
    if "sparse_tensor" in node:
        parts = _decode(node["sparse_tensor"], tensors, device)
        return torch.sparse_coo_tensor(parts["indices"], parts["values"], node["shape"]).coalesce()
    if "sparse" in node:
        parts = _decode(node["sparse"], tensors, device)
        triple = (parts["data"], parts["indices"], parts["indptr"])
        return sp.csr_matrix(triple, shape=tuple(node["shape"])).asformat(node["form"])
    array = tensors[node["array"]].numpy().astype(node["dtype"])
    return np.asmatrix(array) if node["matrix"] else array


_MODULE = object()
