"""What can go wrong, each with one clear line: what was got, what was expected, where to mend it."""

import difflib
from collections.abc import Iterable


class RecBoleMMError(Exception):
    """Base of every error that the command line answers with one line and a non-zero exit status."""


class ConfigError(RecBoleMMError):
    """A model, data set, YAML key, option or value that cannot be used."""


class DataError(RecBoleMMError):
    """Interactions or atomic files that cannot be used."""


class FeatureError(RecBoleMMError):
    """A feature file, or its join with the items, that cannot be used."""


class ExtractionError(RecBoleMMError):
    """An encoder, a source of items or a run of the extraction that cannot be used."""


class CheckpointError(RecBoleMMError):
    """A checkpoint or run directory that cannot be written, read or resumed."""


class RequestError(RecBoleMMError):
    """A question to a recommender that cannot be answered: an unknown film or person, nothing to go by."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, ignoring case, or an empty string."""
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[found[0]]}'?" if found else ""
