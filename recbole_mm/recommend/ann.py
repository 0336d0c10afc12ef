"""An approximate index for catalogues too large to score exactly: FAISS's inverted file, with its measured recall.

For models that score by a product of vectors plus a bias; the bias is one more dimension. Needs the extra ``faiss``.
"""

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from recbole_mm.errors import ConfigError
from recbole_mm.files import replacing, write_text
from recbole_mm.model.scoring import Array
from recbole_mm.recommend.top_k import top_k

_TRAINED = 100_000  # items that the clusters are found on
_ADDED = 262_144  # items added at a time
_PROBED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass
class VectorIndex:
    """Items by their vectors; ``recall`` is the share of the exact top k that it finds for a sample of users."""

    index: Any
    probed: int  # clusters looked into
    recall: float

    @classmethod
    def build(
        cls, items: Array, users: Array, *, bias: Array | None = None, k: int = 10, recall: float = 0.99, seed: int = 0
    ) -> Self:
        """Cluster items [I, D] and look into as many clusters as the recall on a sample of users [U, D] needs.

        Raises:
            ConfigError: faiss is not installed, or the recall is not reached by any setting.
        """
        faiss = _faiss()
        draw = np.random.default_rng(seed)
        width = items.shape[1] + (bias is not None)
        n_clusters = int(np.clip(4 * np.sqrt(len(items)), 1, max(len(items) // 39, 1)))
        quantizer = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFFlat(quantizer, width, n_clusters, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.min_points_per_centroid = seed + 1, 1
        sample = np.sort(draw.permutation(len(items))[:_TRAINED])
        index.train(_joined(items[sample], None if bias is None else bias[sample]))
        for start in range(0, len(items), _ADDED):
            part = slice(start, start + _ADDED)
            index.add(_joined(items[part], None if bias is None else bias[part]))
        return cls(index, *_probes_for(index, items, users, bias, k, recall))

    def save(self, path: Path) -> None:
        """Write the index in FAISS's own format, and beside it what it is and its digest.

        Raises:
            OSError: the place cannot be written to.
        """
        with replacing(path) as temporary:
            _faiss().write_index(self.index, str(temporary))
        facts = {"probed": self.probed, "recall": self.recall, "sha256": _digest(path)}
        write_text(path.with_suffix(".json"), json.dumps(facts) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What :meth:`save` wrote; None if there is none, or it is damaged or another file."""
        try:
            facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if facts["sha256"] != _digest(path):
                return None
            return cls(_faiss().read_index(str(path)), int(facts["probed"]), float(facts["recall"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def search(self, users: Array, k: int) -> tuple[Array, Array]:
        """Ids and scores of about the k best items, [U, k] each, best first; -1 where fewer were found."""
        self.index.nprobe = self.probed
        scores, ids = self.index.search(_asked(users, self.index.d), k)
        return np.asarray(ids), np.asarray(scores)


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigError("an approximate index needs faiss; pip install 'recbole-mm[faiss]'") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _probes_for(index: Any, items: Array, users: Array, bias: Array | None, k: int, recall: float) -> tuple[int, float]:
    exact = top_k(users, items, k, bias)[0]
    found = 0.0
    for probed in _PROBED:
        index.nprobe = probed
        near = index.search(_asked(users, index.d), k)[1]
        found = float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(exact, near, strict=True)]))
        if found >= recall:
            return probed, found
        if probed >= index.nlist:
            break
    raise ConfigError(
        f"recall@{k} of {found:.3f} with {index.nprobe} clusters; expected {recall}: score exactly instead"
    )


def _joined(items: Array, bias: Array | None) -> Array:
    joined = items if bias is None else np.column_stack([items, bias])
    return np.ascontiguousarray(joined, dtype=np.float32)


def _asked(users: Array, width: int) -> Array:
    """User vectors, with a 1 for the bias's dimension where there is one."""
    ones = np.ones((len(users), width - users.shape[1]), dtype=np.float32)
    return np.ascontiguousarray(np.concatenate([users, ones], axis=1), dtype=np.float32)
