"""RecBole data sets with modalities: features joined to RecBole's item ids, memory-mapped until a model asks."""

from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm import compat
from recbole_mm.data.facts import read_fact, read_item_column
from recbole_mm.errors import FeatureError, nearest
from recbole_mm.feature_formats import read_features
from recbole_mm.features import AlignedFeatures, Features, align
from recbole_mm.modality import ModalitySpec, parse_modalities

compat.apply()

from recbole.data.interaction import Interaction  # noqa: E402
from recbole.utils import FeatureSource, FeatureType  # noqa: E402


class MultimodalMixin:
    """Adds modalities to any RecBole data set class.

    ``modalities`` maps names to :class:`AlignedFeatures`. ``get_preload_weight(name)`` answers their vectors by item
    id, as RecBole documents it for preloaded item features. They stay out of the training batches, unless
    ``modality_fields`` names them: then they are ``float_seq`` item fields as well.
    """

    modalities: dict[str, AlignedFeatures]

    def _load_data(self, token: str, dataset_path: str) -> None:
        super()._load_data(token, dataset_path)  # type: ignore[misc]
        # before filtering: a feature of an item that a k-core filter drops is no mistake
        tokens = set(self.inter_feat[self.iid_field].dropna())  # type: ignore[attr-defined]
        item_file = Path(dataset_path) / f"{token}.item"
        if item_file.is_file():
            tokens |= set(read_item_column(item_file, self.iid_field, self.config))  # type: ignore[attr-defined]
        self._catalogue: set[str] = tokens

    def _data_processing(self) -> None:
        super()._data_processing()  # type: ignore[misc]
        item_tokens = [str(t) for t in self.field2id_token[self.iid_field]]  # type: ignore[attr-defined]
        self._matrices: dict[str, NDArray[Any]] = {}
        self.modalities = {}
        for name, spec in parse_modalities(self.config["modalities"]).items():  # type: ignore[attr-defined]
            features = self._read_modality(spec)
            self.modalities[name] = align(features, item_tokens)
            self._report_unknown(name, spec, features)
            getLogger(__name__).info(
                "modality %s: %d of %d items, width %d", name, int(self.modalities[name].mask.sum()),
                len(item_tokens) - 1, features.width,
            )  # fmt: skip
        del self._catalogue
        for name in self.config["modality_fields"] or ():  # type: ignore[attr-defined]
            self._declare_field(name)

    def _read_modality(self, spec: ModalitySpec) -> Features:
        folder = Path(self.dataset_path)  # type: ignore[attr-defined]
        if spec.field is not None:
            return read_fact(
                folder / f"{self.dataset_name}.item", self.iid_field, spec, self.config,  # type: ignore[attr-defined]
            )  # fmt: skip
        assert spec.file is not None  # held by ModalitySpec
        return read_features(folder / spec.file, folder / spec.ids if spec.ids else None)

    def _report_unknown(self, name: str, spec: ModalitySpec, features: Features) -> None:
        if spec.field is not None or spec.allow_unknown:
            return
        unknown = [t for t in features.tokens if t not in self._catalogue]
        if unknown:
            raise FeatureError(
                f"{features.name}: {len(unknown)} of {len(features.tokens)} item tokens are not items of "
                f"'{self.dataset_name}' (first: '{unknown[0]}'); if the file covers more than this data set, "  # type: ignore[attr-defined]
                f"set modalities.{name}.allow_unknown: true"
            )

    def modality(self, name: str) -> AlignedFeatures:
        """The features of one modality, joined to item ids.

        Raises:
            FeatureError: the modality is not registered.
        """
        if name not in self.modalities:
            have = ", ".join(self.modalities) or "none"
            raise FeatureError(
                f"modality '{name}' is not registered (registered: {have}){nearest(name, self.modalities)}"
            )
        return self.modalities[name]

    def get_preload_weight(self, field: str) -> NDArray[Any]:
        """Vectors by item id, [I, F]; row 0 is padding, items without a vector are zero (see ``modality().mask``)."""
        if field not in self.modalities:
            result: NDArray[Any] = super().get_preload_weight(field)  # type: ignore[misc]
            return result
        if field not in self._matrices:
            self._matrices[field] = self.modalities[field].matrix()
        return self._matrices[field]

    def _declare_field(self, name: str) -> None:
        """Declare a float_seq field in RecBole's sense, with an embedding of its own for each position.

        RecBole gives all positions one embedding unless they are discretised: of a vector, only its mean would reach
        a context-aware model.
        """
        width = self.modality(name).width
        self.set_field_property(name, FeatureType.FLOAT_SEQ, FeatureSource.ITEM, width)  # type: ignore[attr-defined]
        self.field2bucketnum[name] = width + 1  # type: ignore[attr-defined]
        self.config["numerical_features"] = [*(self.config["numerical_features"] or []), name]  # type: ignore[attr-defined]

    def _change_feat_format(self) -> None:
        super()._change_feat_format()  # type: ignore[misc]
        names = self.config["modality_fields"] or ()  # type: ignore[attr-defined]
        if not names:
            return
        item_feat = self.get_item_feature()  # type: ignore[attr-defined]
        item_feat.update(Interaction({name: self._field_tensor(name) for name in names}))
        self.item_feat = item_feat

    def _field_tensor(self, name: str) -> torch.Tensor:
        """[I, F, 2]: RecBole's (value, position) pairs; position 0 masks, and so do items without a vector.

        Scaled so that the mean over positions, which RecBole's models take, has unit order.
        """
        aligned = self.modality(name)
        values = torch.from_numpy(np.asarray(self.get_preload_weight(name), dtype=np.float32))
        values = torch.nn.functional.normalize(values, dim=-1) * aligned.width
        positions = torch.arange(1, aligned.width + 1, dtype=torch.float32).expand_as(values)
        positions = positions * torch.from_numpy(aligned.mask)[:, None]
        return torch.stack([values, positions], dim=-1)


@cache
def multimodal(base: type) -> type:
    """``base``, a RecBole data set class, with modalities."""
    return type(f"Multimodal{base.__name__}", (MultimodalMixin, base), {})
