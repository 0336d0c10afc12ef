"""RecBole data sets of three-class labels: read or derived, divided by a protocol, known to a part or not."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from recbole_mm.data.dataset import multimodal
from recbole_mm.data.facts import read_fact
from recbole_mm.data.protocol import ProtocolConfig, divide
from recbole_mm.errors import ConfigError, DataError, nearest
from recbole_mm.features import align
from recbole_mm.known_labels import Ids, KnownLabels, to_classes
from recbole_mm.modality import ModalitySpec, first_problem


class LabelRule(BaseModel):
    """``label_from``: a number's field and the thresholds of the classes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    field: str
    dislike_at_most: float
    like_at_least: float

    @model_validator(mode="after")
    def _ordered(self) -> "LabelRule":
        if self.dislike_at_most >= self.like_at_least:
            raise ValueError(
                f"dislike_at_most={self.dislike_at_most:g} is not below like_at_least={self.like_at_least:g}"
            )
        return self

    def labels(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """-1, 0 or 1 of each value."""
        return (values >= self.like_at_least).astype(float) - (values <= self.dislike_at_most)


class LabelledMixin:
    """Adds labels to a multimodal data set.

    ``known`` are the labels that predictions of this part may rest on, ``genres`` the multi-hot genres [I, G].
    Where RecBole ranks (``eval_args.mode: full``), its own split of the interactions stands; labels that a
    ``val_interval`` drops from it (neutral, dislike) stay known in training.
    """

    known: KnownLabels

    # -- labels -----------------------------------------------------------------------------------------------

    def _load_data(self, token: str, dataset_path: str) -> None:
        super()._load_data(token, dataset_path)  # type: ignore[misc]
        self._label_interactions()

    def _label_interactions(self) -> None:
        from recbole.utils import FeatureSource, FeatureType

        name, given = self.label_field, self.config["label_from"]  # type: ignore[attr-defined]
        table: pd.DataFrame = self.inter_feat  # type: ignore[attr-defined]
        if given is None:
            if name not in table:
                have = [str(c) for c in table.columns]
                raise DataError(
                    f"data set '{self.dataset_name}': no label field '{name}' (fields: {', '.join(have)}); load it "  # type: ignore[attr-defined]
                    "with load_col, or derive it: label_from: {field: rating, dislike_at_most: 2, like_at_least: 4}"
                )
        else:
            try:
                rule = LabelRule(**given)
            except (ValidationError, TypeError) as error:
                why = first_problem(error) if isinstance(error, ValidationError) else repr(given)
                raise ConfigError(f"label_from: {why}; expected {{field, dislike_at_most, like_at_least}}") from error
            if rule.field not in table:
                raise DataError(
                    f"label_from: no field '{rule.field}'{nearest(rule.field, map(str, table.columns))}; "
                    "load it with load_col"
                )
            table[name] = rule.labels(table[rule.field].to_numpy(float))
            self.set_field_property(name, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)  # type: ignore[attr-defined]
        to_classes(table[name])

    def _filter_by_field_value(self) -> None:
        before = self.inter_feat[[self.uid_field, self.iid_field, self.label_field]].copy()  # type: ignore[attr-defined]
        super()._filter_by_field_value()  # type: ignore[misc]
        self._dropped = before.loc[before.index.difference(self.inter_feat.index)]  # type: ignore[attr-defined]

    def _data_processing(self) -> None:
        super()._data_processing()  # type: ignore[misc]
        self.genres, self.has_genres = self._read_genres()

    def _read_genres(self) -> tuple[NDArray[np.float32], bool]:
        """Multi-hot genres by item id [I, G]; one column of zeros where the data set has none."""
        from pathlib import Path

        path = Path(self.dataset_path) / f"{self.dataset_name}.item"  # type: ignore[attr-defined]
        field, tokens = self.config["genre_field"], [str(t) for t in self.field2id_token[self.iid_field]]  # type: ignore[attr-defined]
        if field is None:
            return np.zeros((len(tokens), 1), np.float32), False
        spec = ModalitySpec(field=field, encoding="multi_hot")
        aligned = align(read_fact(path, self.iid_field, spec, self.config), tokens)  # type: ignore[attr-defined]
        return np.asarray(aligned.matrix(), dtype=np.float32), True

    # -- parts ------------------------------------------------------------------------------------------------

    def build(self) -> list[Any]:
        """Train, validation and test parts, each with its ``known`` labels."""
        if "full" in self.config["eval_args"]["mode"].values():  # type: ignore[attr-defined]
            return self._build_ranking()
        self._change_feat_format()  # type: ignore[attr-defined]
        users, items, labels = self._columns(self.inter_feat)  # type: ignore[attr-defined]
        division = divide(ProtocolConfig.read(self.config), users, items, to_classes(labels))  # type: ignore[attr-defined]
        in_training, in_test = (
            self._known(users[rows], items[rows], labels[rows], leave_out=division.leave_out)
            for rows in (division.known_in_training, division.known_in_test)
        )
        parts = []
        for rows, known in ((division.train, in_training), (division.valid, in_training), (division.test, in_test)):
            part = self.copy(self.inter_feat[rows])  # type: ignore[attr-defined]
            part.known = known
            parts.append(part)
        return parts

    def _build_ranking(self) -> list[Any]:
        parts: list[Any] = super().build()  # type: ignore[misc]
        users, items, labels = self._columns(parts[0].inter_feat)
        tokens = self._dropped
        ids = [self.field2token_id[f] for f in (self.uid_field, self.iid_field)]  # type: ignore[attr-defined]
        more_users = np.array([ids[0].get(t, 0) for t in tokens.iloc[:, 0]], dtype=np.int64)
        more_items = np.array([ids[1].get(t, 0) for t in tokens.iloc[:, 1]], dtype=np.int64)
        there = (more_users > 0) & (more_items > 0)
        more = more_users[there], more_items[there], tokens.iloc[:, 2].to_numpy(float)[there]
        known = self._known(*(np.concatenate(pair) for pair in zip((users, items, labels), more, strict=True)))
        for part in parts:
            part.known, part.more_labels = known, (*more[:2], to_classes(more[2]))
        return parts

    def _columns(self, inter: Any) -> tuple[Ids, Ids, NDArray[np.float64]]:
        names = (self.uid_field, self.iid_field, self.label_field)  # type: ignore[attr-defined]
        users, items, labels = (np.asarray(inter[name]) for name in names)
        return users.astype(np.int64), items.astype(np.int64), labels.astype(np.float64)

    def _known(self, users: Ids, items: Ids, labels: NDArray[np.float64], *, leave_out: bool = True) -> KnownLabels:
        exchanged = "exchanged_classes" in ProtocolConfig.read(self.config).present_defects  # type: ignore[attr-defined]
        size = self.user_num, self.item_num  # type: ignore[attr-defined]
        return KnownLabels(users, items, labels, *size, leave_out=leave_out, exchanged=exchanged)


@cache
def with_labels(base: type) -> type:
    """``base``, a RecBole data set class, with modalities and labels."""
    return type(f"Labelled{base.__name__}", (LabelledMixin, multimodal(base)), {})
