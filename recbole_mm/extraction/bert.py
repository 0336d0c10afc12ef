"""Text: BERT or any other encoder of Hugging Face; long texts in windows, mean or first-token pooling.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", NAACL 2019.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm import compat
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.encoder import Card, Encoder, NothingToEncode, Prepared, Source, Unit
from recbole_mm.extraction.weights import from_pretrained, licence, load_model, read_json, resolved_revision

DEFAULT = "bert-base-uncased"
MAX_WINDOWS = 64  # of one text; of a longer one, as many windows evenly spread are taken


class BertEncoder(Encoder):
    """``vector = sum_w n_w h_w / sum_w n_w`` over the windows w of a text, n_w tokens each; [N, F].

    h_w is the mean of the last hidden states over the window's tokens, or the state of the first token; with ``cls``
    every window counts alike.

    Args:
        checkpoint: Hugging Face name, or local folder.
        pooling: ``mean`` or ``cls``; by default what the checkpoint's ``1_Pooling/config.json`` says, else mean.
        normalise: scale every vector to length 1; by default what its ``modules.json`` says.
        max_tokens: tokens a window, special ones included; by default as many as the checkpoint takes.
        max_windows: windows a text.
        revision: commit on the hub.
        device: torch device.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        ExtractionError: the checkpoint cannot be used.
    """

    batch_size = 32
    block_size = 512

    def __init__(
        self,
        checkpoint: str = DEFAULT,
        *,
        pooling: str | None = None,
        normalise: bool | None = None,
        max_tokens: int | None = None,
        max_windows: int = MAX_WINDOWS,
        revision: str | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        compat.ensure_torchvision()
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = from_pretrained(AutoTokenizer, checkpoint, revision)
        if not self._tokenizer.is_fast:
            raise ExtractionError(f"checkpoint {checkpoint}: no fast tokenizer (tokenizer.json); windows need one")
        model = load_model(AutoModel, checkpoint, revision, optional=("pooler.",))
        said = _sentence_settings(checkpoint, revision)
        self._pooling = pooling or said.get("pooling", "mean")
        self._normalise = bool(said.get("normalise", False)) if normalise is None else normalise
        if self._pooling not in {"mean", "cls"}:
            raise ExtractionError(f"pooling '{self._pooling}'; expected mean or cls")
        most = _most_tokens(self._tokenizer, model.config, said)
        self._max_tokens = max_tokens or most
        if not 8 <= self._max_tokens <= _positions(model.config):
            raise ExtractionError(
                f"max_tokens={self._max_tokens}; expected 8 to {_positions(model.config)} for {checkpoint}"
            )
        self._max_windows = max_windows
        self._lock = threading.Lock()  # a tokenizer's truncation is state that threads share
        card = Card(
            modality="text",
            encoder=f"{type(model).__name__} ({model.config.num_hidden_layers} layers, {model.config.hidden_size})",
            checkpoint=checkpoint,
            revision=resolved_revision(checkpoint, model),
            licence=licence(checkpoint),
            width=int(model.config.hidden_size),
            pooling=_describe(self._pooling, self._normalise),
            preprocessing=f"windows of at most {self._max_tokens} tokens, at most {max_windows} windows",
            settings={
                "kind": "bert", "pooling": self._pooling, "normalise": self._normalise,
                "max_tokens": self._max_tokens, "max_windows": max_windows,
            },
            libraries=("torch", "transformers", "tokenizers"),
        )  # fmt: skip
        super().__init__(card, model, device=device, precision=precision)
        self._pad = int(self._tokenizer.pad_token_id or 0)

    def prepare(self, source: Source) -> Prepared:
        """Token ids by window."""
        text = str(source).strip()
        if not text:
            raise NothingToEncode("no text")
        with self._lock:
            windows = self._tokenizer(
                text, truncation=True, max_length=self._max_tokens, return_overflowing_tokens=True,
                return_attention_mask=False, return_token_type_ids=False,
            )["input_ids"]  # fmt: skip
        note = ""
        if len(windows) > self._max_windows:
            note = f"{len(text):,} characters are {len(windows):,} windows: {self._max_windows} evenly spread are used"
            spread = np.linspace(0, len(windows) - 1, self._max_windows).round().astype(int)
            windows = [windows[i] for i in spread]
        by_tokens = self._pooling == "mean"
        return Prepared(
            tuple(Unit(np.asarray(w, np.int64), len(w), float(len(w)) if by_tokens else 1.0) for w in windows), note
        )

    def forward(self, units: Sequence[Unit]) -> torch.Tensor:
        """Pooled hidden states, [B, F]."""
        longest = max(unit.size for unit in units)
        ids = torch.full((len(units), longest), self._pad, dtype=torch.int64)
        mask = torch.zeros((len(units), longest), dtype=torch.int64)
        for row, unit in enumerate(units):
            ids[row, : unit.size] = torch.from_numpy(unit.data)
            mask[row, : unit.size] = 1
        mask = mask.to(self.device)
        states = self.model(input_ids=ids.to(self.device), attention_mask=mask).last_hidden_state.float()
        if self._pooling == "cls":
            return torch.as_tensor(states[:, 0])
        weights = mask.unsqueeze(-1).float()
        return torch.as_tensor((states * weights).sum(1) / weights.sum(1))

    def finish(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Length 1, where asked for."""
        if not self._normalise:
            return vectors
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _describe(pooling: str, normalise: bool) -> str:
    tokens = "mean over tokens" if pooling == "mean" else "state of the first token"
    return tokens + ", mean over windows" + (", then L2-normalised" if normalise else "")


def _positions(config: Any) -> int:
    """Tokens that the position embeddings allow; RoBERTa's begin after the padding index."""
    offset = int(config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
    return int(getattr(config, "max_position_embeddings", 0) or 1_000_000) - offset


def _most_tokens(tokenizer: Any, config: Any, said: dict[str, Any]) -> int:
    return int(min(tokenizer.model_max_length, _positions(config), said.get("max_seq_length", 1_000_000)))


def _sentence_settings(checkpoint: str, revision: str | None) -> dict[str, Any]:
    """Pooling, normalisation and window that a sentence-transformers checkpoint states; empty for others."""
    modules = read_json(checkpoint, "modules.json", revision)
    if modules is None:
        return {}
    pooling = read_json(checkpoint, "1_Pooling/config.json", revision) or {}
    window = read_json(checkpoint, "sentence_bert_config.json", revision) or {}
    return {
        "normalise": any(str(module.get("type")).endswith("Normalize") for module in modules),
        "pooling": "cls" if pooling.get("pooling_mode_cls_token") else "mean",
        "max_seq_length": window.get("max_seq_length") or 1_000_000,
    }
