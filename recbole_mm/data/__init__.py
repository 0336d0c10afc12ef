"""Data sets: RecBole's, with modalities, checked before RecBole's own code meets what it cannot handle."""

import importlib
from pathlib import Path
from typing import Any

from recbole_mm.config import Config
from recbole_mm.data import imdb
from recbole_mm.data.dataset import MultimodalMixin, multimodal
from recbole_mm.data.labelled import with_labels
from recbole_mm.errors import ConfigError, DataError, nearest
from recbole_mm.resources import shipped

__all__ = ["MultimodalMixin", "create_dataset", "dataset_class", "prepare_files", "split"]

_IN_RECBOLE = "ml-100k"  # read from RecBole's wheel, whatever data_path is


def known_datasets(data_path: Path) -> list[str]:
    """Names that can be run: folders with a ``.inter`` file of their name, what we build, what RecBole ships."""
    local = [f.parent.name for f in data_path.glob("*/*.inter") if f.name.split(".")[0] == f.parent.name]
    return sorted({*local, *(f.stem for f in shipped("properties/dataset").glob("*.yaml")), _IN_RECBOLE})


def prepare_files(dataset: str, data_path: Path) -> None:
    """Build what we can build, and refuse a name that RecBole could not load.

    Raises:
        DataError: there is no such data set.
    """
    folder = data_path / dataset
    if dataset == imdb.NAME:
        imdb.build(folder)
    elif dataset != _IN_RECBOLE and not any(folder.glob(f"{dataset}*.inter")):
        names = known_datasets(data_path)
        raise DataError(
            f"data set '{dataset}': no {folder / (dataset + '.inter')}{nearest(dataset, names)} "
            f"(known here: {', '.join(names)}; other places by --data_path)"
        )


def dataset_class(config: Config) -> type:
    """The data set class that RecBole would choose for the model, with modalities."""
    module = importlib.import_module("recbole.data.dataset")
    kind = str(config["MODEL_TYPE"]).rsplit(".", 1)[-1]
    by_type = {"SEQUENTIAL": "SequentialDataset", "KNOWLEDGE": "KnowledgeBasedDataset"}
    base = getattr(module, f"{config['model']}Dataset", None) or getattr(module, by_type.get(kind, "Dataset"))
    return with_labels(base) if getattr(config.model_class, "classifies", False) else multimodal(base)


def create_dataset(config: Config) -> Any:
    """Load, filter and index the interactions, and join the features.

    Raises:
        ConfigError: ``topk`` asks for more items than there are, or ``valid_metric`` is none of the metrics.
        DataError: the atomic files cannot be used, or nothing is left after filtering.
        FeatureError: a modality cannot be used.
    """
    nothing = DataError(
        f"data set '{config['dataset']}': no interactions, or none left after filtering; expected rows in the "
        ".inter file: check user_inter_num_interval, item_inter_num_interval and val_interval"
    )
    try:
        dataset = dataset_class(config)(config)
    except (ValueError, KeyError, UnicodeDecodeError, OSError, ZeroDivisionError) as error:
        if "feat is empty" in str(error):  # RecBole's words for it
            raise nothing from error
        raise DataError(f"data set '{config['dataset']}' in {config['data_path']}: {error}") from error
    if len(dataset.inter_feat) == 0:
        raise nothing
    _check_topk(config, dataset.item_num - 1)
    return dataset


def _check_topk(config: Config, n_items: int) -> None:
    from recbole.utils import EvaluatorType

    if config["eval_type"] != EvaluatorType.RANKING:
        return
    if max(config["topk"]) > n_items:
        raise ConfigError(
            f"topk={config['topk']}: expected at most {n_items}, the number of items of '{config['dataset']}'; set "
            "topk, and valid_metric to one of its cutoffs, in a config file or on the command line"
        )
    watched = config["valid_metric"]
    known = {f"{metric}@{k}".lower() for metric in config["metrics"] for k in config["topk"]}
    if "@" in watched and watched.lower() not in known:
        raise ConfigError(
            f"valid_metric={watched}: expected one of metrics={config['metrics']} at one of topk={config['topk']}; set "
            "valid_metric, metrics or topk in a config file or on the command line"
        )


def split(config: Config, dataset: Any) -> tuple[Any, Any, Any]:
    """RecBole's train, validation and test loaders.

    Raises:
        DataError: a part of the split is empty, or the split's arguments do not fit the data.
    """
    from recbole.data import data_preparation

    try:
        train, valid, test = data_preparation(config, dataset)
    except (ValueError, KeyError, IndexError, TypeError, AssertionError, NotImplementedError) as error:
        raise DataError(
            f"data set '{config['dataset']}' ({len(dataset.inter_feat)} interactions) cannot be split by "
            f"eval_args={config['eval_args']}: {error or type(error).__name__}"
        ) from error
    return train, valid, test
