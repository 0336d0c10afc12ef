"""Where weights come from: a local folder or file, or a name on a hub. A local path never leads to the network."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from recbole_mm.errors import ExtractionError

# As the checkpoints' own model cards state them.
_LICENCES = {
    "bert-base-uncased": "Apache-2.0",
    "google-bert/bert-base-uncased": "Apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
    "openai/clip-vit-base-patch32": "MIT (code); no licence stated for the weights",
    "facebook/timesformer-base-finetuned-k400": "CC-BY-NC-4.0",
    "facebook/timesformer-base-finetuned-k600": "CC-BY-NC-4.0",
    "facebook/wav2vec2-base": "Apache-2.0",
    "hustvl/yolos-tiny": "Apache-2.0",
}
_WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".h5")
_WRAPPERS = ("state_dict", "model", "model_state_dict")


def local_path(checkpoint: str) -> Path | None:
    """The path if ``checkpoint`` is a local one, None if it is a name on a hub.

    Raises:
        ExtractionError: it is written as a path, and nothing is there.
    """
    path = Path(checkpoint).expanduser()
    if path.exists():
        return path
    if checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1 or checkpoint.endswith(_WEIGHT_FILES):
        raise ExtractionError(f"checkpoint {checkpoint}: no such file or folder; expected local weights or a hub name")
    return None


def digest(path: Path) -> str:
    """A short digest of the weights and the configuration in a folder, or of one file."""
    files = [path]
    if path.is_dir():
        kept = (*_WEIGHT_FILES, ".json", ".txt", ".model")
        files = sorted(f for f in path.iterdir() if f.is_file() and f.suffix in kept)
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return f"sha256:{total.hexdigest()[:16]}"


def licence(checkpoint: str) -> str:
    """What the checkpoint's card says: the folder's README.md, or what is known of the name."""
    path = local_path(checkpoint)
    readme = path / "README.md" if path is not None and path.is_dir() else None
    if readme is not None and readme.is_file():
        found = re.search(r"^license:\s*(\S+)", readme.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if found:
            return found[1]
    return _LICENCES.get(checkpoint, "not stated")


def from_pretrained(loader: Any, checkpoint: str, revision: str | None = None, **options: Any) -> Any:
    """``loader.from_pretrained``, without the network for a local path.

    Raises:
        ExtractionError: the checkpoint is not there, or not one that the loader reads.
    """
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    path = local_path(checkpoint)
    if path is not None and not path.is_dir():
        raise ExtractionError(f"checkpoint {checkpoint}: a file; expected a folder that holds config.json and weights")
    where: Mapping[str, Any] = {"revision": revision} if path is None else {"local_files_only": True}
    try:
        return loader.from_pretrained(str(path or checkpoint), **where, **options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()
        raise ExtractionError(
            f"checkpoint {checkpoint}: {loader.__name__} cannot load it ({reason[0] if reason else error!r}); "
            "expected a Hugging Face name that can be downloaded, or a local folder"
        ) from error


def load_model(
    loader: Any, checkpoint: str, revision: str | None = None, *, optional: tuple[str, ...] = (), **options: Any
) -> Any:
    """A model whose weights are all in the checkpoint; ``optional`` parts may be new.

    Raises:
        ExtractionError: it cannot be loaded, or a part of it would be random.
    """
    model, info = from_pretrained(loader, checkpoint, revision, output_loading_info=True, **options)
    missing = [key for key in sorted(info["missing_keys"]) if not any(part in key for part in optional)]
    wrong = missing or sorted(str(key) for key in info.get("mismatched_keys") or ())
    if wrong:
        raise ExtractionError(
            f"checkpoint {checkpoint}: {len(wrong)} weights of {type(model).__name__} are not in it "
            f"(first: {wrong[0]}); expected a checkpoint of this architecture"
        )
    return model.float()


def read_json(checkpoint: str, name: str, revision: str | None = None) -> Any:
    """A JSON file of a checkpoint, or None without it.

    Raises:
        ExtractionError: it is there and not JSON.
    """
    folder = local_path(checkpoint)
    if folder is not None:
        path = folder / name
    else:
        from transformers.utils import cached_file

        found = cached_file(
            checkpoint, name, revision=revision, _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
        )  # fmt: skip
        if found is None:
            return None
        path = Path(found)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExtractionError(f"checkpoint {checkpoint}: {name} is not JSON ({error})") from error


def resolved_revision(checkpoint: str, model: Any) -> str:
    """The hub's commit, or the digest of local weights."""
    path = local_path(checkpoint)
    if path is not None:
        return digest(path)
    return str(getattr(model.config, "_commit_hash", None) or "not recorded")


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a local ``.safetensors``, ``.pth`` or ``.pt``; nothing but tensors is ever loaded.

    Raises:
        ExtractionError: it is not a state dict.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, UnpicklingError, EOFError) as error:
        # torch's own words here advise to unpickle
        why = "not tensors and nothing else" if isinstance(error, UnpicklingError) else str(error).splitlines()[0]
        raise ExtractionError(
            f"checkpoint {path}: not a readable state dict ({why}); "
            "expected tensors in .safetensors, or in .pth as torch.save writes them"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ExtractionError(f"checkpoint {path}: holds {type(loaded).__name__}; expected names and tensors")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def fill(model: torch.nn.Module, state: Mapping[str, torch.Tensor], where: str, skip: Callable[[str], bool]) -> None:
    """Load ``state`` into ``model``; names for which ``skip`` holds (a head that is not used) are left out.

    Raises:
        ExtractionError: weights are missing, surplus or of another shape.
    """
    kept = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    kept = {name: value for name, value in kept.items() if not skip(name)}
    try:
        missing, surplus = model.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise ExtractionError(
            f"checkpoint {where}: {str(error).splitlines()[-1].strip()}; expected this backbone"
        ) from error
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")] + list(surplus)
    if wrong:
        raise ExtractionError(
            f"checkpoint {where}: {len(wrong)} names differ from {type(model).__name__}'s (first: {wrong[0]}); "
            "expected a state dict of this backbone"
        )
