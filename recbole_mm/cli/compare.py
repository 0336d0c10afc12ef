"""``recbole-mm compare``."""

import click


@click.command()
def compare() -> None:
    """Compare models."""
