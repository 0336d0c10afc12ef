"""Results as pictures: curves, intervals, confusion."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_mm.files import replacing


def plot_curves(path: Path, history: Sequence[Any], *, title: str, valid_metric: str) -> None:
    """Loss and validation metric by epoch, as a PNG; ``history`` holds the trainer's epoch records."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    epochs = [record.epoch + 1 for record in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    style = {"marker": "o", "markersize": 3} if len(epochs) < 40 else {}
    left.plot(epochs, [r.loss for r in history], color="#1f6f8b", **style)
    left.set_title("training loss", loc="left")
    left.set_xlabel("epoch")
    scored = [(r.epoch + 1, r.valid_score) for r in history if r.valid_score is not None]
    if scored:
        right.plot(*zip(*scored, strict=True), color="#c4572e", **style)
        best = max(scored, key=lambda point: point[1] if math.isfinite(point[1]) else -math.inf)
        right.axhline(best[1], color="#8a8a8a", linewidth=0.8, linestyle=":")
        right.plot(*best, marker="o", markersize=6, color="#8c2d12")
        right.set_title(f"best {best[1]:.4f} in epoch {best[0]}", loc="right", fontsize="small", color="#8c2d12")
    right.set_title(f"validation {valid_metric}", loc="left")
    right.set_xlabel("epoch")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)


def plot_intervals(path: Path, panels: Mapping[str, Mapping[str, Mapping[str, Any]]], *, title: str, x: str) -> None:
    """Means with their intervals as a PNG: a panel each, rows down, one colour a column.

    Args:
        path: of the PNG.
        panels: panel -> row -> column -> an interval with ``mean``, ``low`` and ``high``; a row may lack columns.
        title: above all of it.
        x: what is measured.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = list(next(iter(panels.values())))
    columns = list(dict.fromkeys(c for panel in panels.values() for row in panel.values() for c in row))
    size = (1.5 + 4.2 * len(panels), 1.6 + max(0.3, 0.13 * len(columns)) * len(rows))
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for axis, (name, panel) in zip(axes[0], panels.items(), strict=True):
        for number, column in enumerate(columns):
            there = [at for at, row in enumerate(rows) if column in panel[row]]
            found = [panel[rows[at]][column] for at in there]
            means = [i.mean for i in found]
            spans = [[i.mean - i.low for i in found], [i.high - i.mean for i in found]]
            own = [list(panel[rows[at]]) for at in there]  # a row's marks stand around its name
            places = [
                at + (has.index(column) - (len(has) - 1) / 2) * 0.8 / len(columns)
                for at, has in zip(there, own, strict=True)
            ]
            axis.errorbar(means, places, xerr=spans, fmt="o", markersize=4, color=f"C{number % 10}", label=column)
        axis.set_title(name, loc="left", fontsize="medium")
        axis.set_xlabel(x)
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(range(len(rows)), rows)
    axes[0][0].invert_yaxis()
    if len(columns) > 1:
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)


def plot_confusion(path: Path, counts: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> None:
    """A confusion matrix as a PNG: labels by row, predictions by column, shares of the row as colour."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
    totals = [max(1, sum(row)) for row in counts]
    shares = [[n / total for n in row] for row, total in zip(counts, totals, strict=True)]
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for r, row in enumerate(counts):
        for c, number in enumerate(row):
            colour = "white" if shares[r][c] > 0.55 else "black"
            axis.text(c, r, f"{number:,}\n{shares[r][c]:.0%}", ha="center", va="center", color=colour)
    names = list(classes)
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="label")
    axis.set_title(title, fontsize="medium")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
