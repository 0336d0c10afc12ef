"""How labels are divided into training, validation and test, and which labels each part's predictions may rest on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from recbole_mm.errors import ConfigError, DataError
from recbole_mm.known_labels import CLASSES, Ids
from recbole_mm.modality import first_problem

ProtocolName = Literal["honest", "new_user", "new_movie", "published"]
Defect = Literal["leaking_score", "duplicates", "one_test_split", "exchanged_classes"]
DEFECTS: tuple[Defect, ...] = ("leaking_score", "duplicates", "one_test_split", "exchanged_classes")


class ProtocolConfig(BaseModel):
    """What ``properties/classification.yaml`` says of the division."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    protocol: ProtocolName
    defects: list[Defect]  # of the published evaluation, one at a time: for the audit
    folds: int = Field(ge=2)
    fold: PositiveInt | None  # one fold alone, from 1; all of them if empty
    split_seed: int
    valid_share: float = Field(gt=0.0, lt=0.5)  # of the training part
    known_labels: int = Field(ge=0)  # that a new user gives first

    @classmethod
    def read(cls, config: object) -> "ProtocolConfig":
        """From RecBole's configuration.

        Raises:
            ConfigError: a value out of its range.
        """
        try:
            found = cls(**{name: config[name] for name in cls.model_fields})  # type: ignore[index]
        except ValidationError as error:
            raise ConfigError(
                f"{first_problem(error)}; mend it in properties/classification.yaml or on the command line"
            ) from error
        if found.fold is not None and found.fold > found.folds:
            raise ConfigError(f"fold={found.fold}; expected 1 to folds={found.folds}")
        return found

    @property
    def present_defects(self) -> tuple[Defect, ...]:
        """The defects that this evaluation has."""
        return DEFECTS if self.protocol == "published" else tuple(self.defects)

    @property
    def leaky(self) -> bool:
        """Whether test labels reach the training or the input."""
        return bool({"leaking_score", "duplicates"} & set(self.present_defects))


@dataclass(frozen=True)
class Division:
    """Rows of each part, and rows of the labels that are known when it is predicted."""

    train: Ids
    valid: Ids
    test: Ids
    known_in_training: Ids
    known_in_test: Ids
    leave_out: bool = True  # a known pair's own label out of its own input


def divide(setting: ProtocolConfig, users: Ids, items: Ids, classes: Ids) -> Division:
    """Divide rows 0 .. N - 1 for fold ``setting.fold`` (the first if empty).

    Raises:
        DataError: a class has fewer labels than there are folds, or there are fewer users or movies than folds.
    """
    counts = np.bincount(classes, minlength=3)
    for name, count in zip(CLASSES, counts, strict=True):
        if count < setting.folds:
            raise DataError(
                f"class '{name}' has {count} labels, {setting.folds} folds want one each; lower folds, or check "
                "the label field and label_from"
            )
    fold = (setting.fold or 1) - 1
    if setting.protocol in ("new_user", "new_movie"):
        return _by_group(setting, users, items, classes, fold)
    defects = setting.present_defects
    rows = np.arange(len(classes))
    if "duplicates" in defects:
        rows = _with_copies(classes, setting.split_seed)
    test_fold = 0 if "one_test_split" in defects else fold
    fit, test = _stratified(classes[rows], setting.folds, test_fold, setting.split_seed)
    # with one test split the folds differ in their validation part, as published
    parts = max(2, round(1 / setting.valid_share))
    inner, valid = _stratified(classes[rows[fit]], parts, fold % parts, setting.split_seed + 1)
    train, valid, test = rows[fit[inner]], rows[fit[valid]], rows[test]
    if "leaking_score" in defects:
        everything = np.arange(len(classes))
        return Division(train, valid, test, everything, everything, leave_out=False)
    known, later = np.unique(train), np.unique(np.concatenate([train, valid]))
    return Division(train, valid, test, known, later)


def _stratified(classes: Ids, parts: int, which: int, seed: int) -> tuple[Ids, Ids]:
    from sklearn.model_selection import StratifiedKFold

    least = int(np.bincount(classes)[np.bincount(classes) > 0].min())
    parts = max(2, min(parts, least))
    divided = StratifiedKFold(parts, shuffle=True, random_state=seed).split(np.zeros(len(classes)), classes)
    rest, chosen = list(divided)[which % parts]
    return np.asarray(rest, np.int64), np.asarray(chosen, np.int64)


def _with_copies(classes: Ids, seed: int) -> Ids:
    """All rows, and copies of dislikes until there are as many to a like as published (6,625 to 6,981)."""
    dislikes = np.flatnonzero(classes == 0)
    wanted = round((classes == 2).sum() * 6625 / 6981)
    more = max(0, wanted - len(dislikes))
    copies = np.random.default_rng(seed).choice(dislikes, more)
    return np.concatenate([np.arange(len(classes)), copies])


def _by_group(setting: ProtocolConfig, users: Ids, items: Ids, classes: Ids, fold: int) -> Division:
    """Whole users, or whole movies, held out."""
    ids = users if setting.protocol == "new_user" else items
    draw = np.random.default_rng(setting.split_seed)
    present = draw.permutation(np.unique(ids))
    if len(present) < setting.folds * 2:
        raise DataError(f"{len(present)} {setting.protocol[4:]}s are too few for {setting.folds} folds; lower folds")
    held = present[fold :: setting.folds]
    others = np.setdiff1d(present, held)
    valid_ids = draw.permutation(others)[: max(1, round(setting.valid_share * len(others)))]
    test, valid = np.flatnonzero(np.isin(ids, held)), np.flatnonzero(np.isin(ids, valid_ids))
    train = np.flatnonzero(~np.isin(ids, np.concatenate([held, valid_ids])))
    if setting.protocol == "new_movie":
        return Division(train, valid, test, train, np.sort(np.concatenate([train, valid])))
    first_valid, valid = _first_labels(valid, users, setting.known_labels, draw)
    first_test, test = _first_labels(test, users, setting.known_labels, draw)
    if not len(test) or not len(valid):
        raise DataError(f"no new user has more than known_labels={setting.known_labels} labels; lower it")
    known = np.sort(np.concatenate([train, first_valid]))
    return Division(train, valid, test, known, np.sort(np.concatenate([train, first_valid, valid, first_test])))


def _first_labels(rows: Ids, users: Ids, k: int, draw: np.random.Generator) -> tuple[Ids, Ids]:
    """Random k labels of each user, and the others."""
    shuffled = draw.permutation(rows)
    order = shuffled[np.argsort(users[shuffled], kind="stable")]
    _, start, count = np.unique(users[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(start, count)
    return order[rank < k], np.sort(order[rank >= k])
