"""A movie's task-specific embedding: the layer before the genres of a network trained to tell them.

Mondal et al., IEEE Transactions on Consumer Electronics 2023, DOI 10.1109/TCE.2023.3324009.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score
from torch import nn

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.encoder import Card, Encoder, Prepared, Source, Unit
from recbole_mm.extraction.weights import digest
from recbole_mm.features import Segments
from recbole_mm.files import replacing

WIDTH = 512
HELD_OUT = 60 / 510  # the paper's split: 450 movies to learn from, 60 to test on
EPOCHS = 100
MIN_MOVIES = 5  # a genre with fewer is left out
_BATCH = 32
_LEARNING_RATE = 1e-3


class GenreNetwork(nn.Module):
    """``e = tanh(W3 tanh(W2 tanh(W1 z)))``, ``p = sigmoid(W4 e)``; biases left out here.

    z is the feature [B, F], standardised by the training movies; e [B, 512] the embedding; p [B, G] the genres.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, width: int, n_genres: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.hidden = nn.Sequential(
            nn.Linear(width, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()
        )
        self.genres = nn.Linear(WIDTH, n_genres)

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings, [B, 512]."""
        return torch.as_tensor(self.hidden((features - self.mean) / self.std))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of the genres, [B, G]."""
        return torch.as_tensor(self.genres(self.embed(features)))


@dataclass(frozen=True)
class GenreScores:
    """How well the genres of movies that were held out are told; ``chance`` is a random ranking's mAP."""

    mean_average_precision: float
    chance: float
    micro_f1: float
    macro_f1: float
    n_train: int
    n_test: int

    def __str__(self) -> str:
        return (
            f"{self.n_test} held-out movies ({self.n_train} to learn from): mAP {self.mean_average_precision:.3f} "
            f"(chance {self.chance:.3f}), micro-F1 {self.micro_f1:.3f}, macro-F1 {self.macro_f1:.3f}"
        )


def multi_hot(genres: Sequence[Sequence[str]], least: int = MIN_MOVIES) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Genres by movie [n, G], and the names of the G that at least ``least`` movies have.

    Raises:
        ExtractionError: there are not two.
    """
    counts: dict[str, int] = {}
    for names in genres:
        for name in set(names):
            counts[name] = counts.get(name, 0) + 1
    kept = tuple(sorted(name for name, count in counts.items() if count >= least))
    if len(kept) < 2:
        raise ExtractionError(f"{len(kept)} genres have at least {least} movies each; expected two or more")
    return np.array([[name in names for name in kept] for names in genres], dtype=np.float32), kept


def train_genres(
    vectors: NDArray[Any], labels: NDArray[np.float32], *, seed: int, held_out: float = HELD_OUT, epochs: int = EPOCHS
) -> tuple[GenreNetwork, GenreScores]:
    """Train by Adam and binary cross-entropy on all but a random share of the movies, and score on that share.

    Args:
        vectors: features [n, F].
        labels: genres [n, G], multi-hot.
        seed: of the split, the initial weights and the order of the batches.
        held_out: share of the movies to score on; nothing is selected by them.
        epochs: passes over the training movies.

    Raises:
        ExtractionError: there are too few movies to learn from or to score on.
    """
    n_test = round(held_out * len(vectors))
    if n_test < 1 or len(vectors) - n_test < 2:
        raise ExtractionError(f"{len(vectors)} movies with genres; too few to hold out {held_out:.0%} of them")
    order = np.random.default_rng(seed).permutation(len(vectors))
    test, train = order[:n_test], order[n_test:]
    inputs, targets = torch.from_numpy(np.asarray(vectors, np.float32)), torch.from_numpy(labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GenreNetwork(inputs.shape[1], targets.shape[1])
        network.mean.copy_(inputs[train].mean(0))
        network.std.copy_(inputs[train].std(0).clamp_min(1e-6))
        optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
        for _ in range(epochs):
            shuffled = torch.from_numpy(train)[torch.randperm(len(train))]
            for batch in shuffled.split(_BATCH):  # type: ignore[no-untyped-call]
                loss = nn.functional.binary_cross_entropy_with_logits(network(inputs[batch]), targets[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    network.eval().requires_grad_(False)
    predicted = torch.sigmoid(network(inputs[test])).numpy()
    return network, score_genres(predicted, labels[test], n_train=len(train))


def score_genres(predicted: NDArray[np.float32], labels: NDArray[np.float32], *, n_train: int) -> GenreScores:
    """MAP over the genres that occur, and F1 at probability one half; both arguments [n, G]."""
    occurs = labels.any(axis=0)
    said = predicted >= 0.5
    return GenreScores(
        mean_average_precision=float(average_precision_score(labels[:, occurs], predicted[:, occurs], average="macro")),
        chance=float(labels[:, occurs].mean()),
        micro_f1=float(f1_score(labels, said, average="micro", zero_division=0)),
        macro_f1=float(f1_score(labels[:, occurs], said[:, occurs], average="macro", zero_division=0)),
        n_train=n_train,
        n_test=len(labels),
    )


def save_network(path: Path, network: GenreNetwork, genres: Sequence[str]) -> None:
    """Write the weights and the genres' names."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(network.state_dict(), temporary, metadata={"genres": json.dumps(list(genres))})


def load_network(path: Path) -> GenreNetwork:
    """The network that :func:`save_network` wrote.

    Raises:
        ExtractionError: it is not there, or not one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
        network = GenreNetwork(state["mean"].shape[0], state["genres.weight"].shape[0])
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ExtractionError(f"{path}: no genre embedder ({error}); expected what 'extract genre' wrote") from error
    return network.eval().requires_grad_(False)


class GenreEncoder(Encoder):
    """The embedding of a new movie: the base encoder's vector, put through a trained :class:`GenreNetwork`; [N, 512].

    Args:
        base: the encoder of the features that the network was trained on.
        checkpoint: the network's file.
        provenance: of the features that the network was trained on.
    """

    def __init__(self, base: Encoder, checkpoint: str, provenance: Mapping[str, str]) -> None:
        self._base = base
        self._network = load_network(Path(checkpoint))
        self.batch_size, self.block_size = base.batch_size, base.block_size
        self.card = genre_card(Path(checkpoint), base.modality, provenance)
        self.device, self.precision, self.dtype, self.model = base.device, base.precision, base.dtype, base.model

    def prepare(self, source: Source) -> Prepared:
        """As the base encoder does."""
        return self._base.prepare(source)

    def forward(self, units: Sequence[Unit]) -> torch.Tensor:
        """As the base encoder does, [B, F] of the base."""
        return self._base.forward(units)

    def encode_parts(self, prepared: Sequence[Prepared], most: int) -> tuple[NDArray[np.float32], Segments]:
        """One embedding a source [N, 512], and those of its segments."""
        vectors, parts = self._base.encode_parts(prepared, most)
        return embed(self._network, vectors), Segments(embed(self._network, parts.vectors), parts.starts)


def embed(network: GenreNetwork, vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Embeddings of features [N, F], [N, 512]."""
    with torch.inference_mode():
        return np.asarray(network.embed(torch.from_numpy(np.array(vectors, dtype=np.float32))).numpy())


def genre_card(path: Path, modality: str, provenance: Mapping[str, str]) -> Card:
    """The card of a trained network, whose settings hold the provenance of the features below it."""
    return Card(
        modality=modality,
        encoder=f"genre embedder {WIDTH}-{WIDTH}-{WIDTH} over {provenance.get('encoder', 'features')}",
        checkpoint=str(path),
        revision=digest(path),
        licence=provenance.get("licence", "not stated"),
        width=WIDTH,
        pooling=f"last hidden layer (tanh); below it: {provenance.get('pooling', 'not stated')}",
        preprocessing=f"standardised by the training movies; below it: {provenance.get('preprocessing', 'not stated')}",
        settings={"kind": "genre", "base": dict(provenance)},
    )
