"""A verdict's figures by epoch, each with the standard error of its difference from the recommended epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.imaging.figure import new_figure, save_figure
from loratools.tune.epochs.reasons import RULED_OUT

if TYPE_CHECKING:
    from loratools.tune.epochs.figures import Figure
    from loratools.tune.epochs.result import EpochVerdict

FIGURES = "figures.png"  # in the folder of the pictures
_GOOD, _OUT, _BASE = "#35618f", "#b5533c", "#777"


def plot(verdict: EpochVerdict, path: Path | str) -> None:
    """Draw one panel a figure, the recommended epoch marked; the format is the suffix's.

    An epoch's bar is the standard error of its difference from the recommended one, picture by picture: two epochs
    whose bars do not reach each other differ. The recommended one has none, and epochs that are ruled out are red.

    Raises:
        FileError: if the picture cannot be written.
    """
    figures = verdict.figures
    sheet = new_figure(8, 1.2 + 1.7 * max(1, len(figures)))
    panels = sheet.subplots(max(1, len(figures)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, figure in zip(panels, figures, strict=False):
        _panel(axes, figure, verdict)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    sheet.suptitle(_wrapped(verdict.decision.sentence), fontsize=10)
    save_figure(sheet, path)


def _panel(axes: Any, figure: Figure, verdict: EpochVerdict) -> None:
    numbers = [epoch.number for epoch in verdict.files.epochs]
    chosen = numbers.index(verdict.decision.epoch)
    means = [figure.own(index).mean for index in range(len(numbers))]
    errors = [
        0.0 if index == chosen else figure.difference(index, chosen).standard_error for index in range(len(numbers))
    ]
    axes.plot(numbers, means, "-", color="#bbb", lw=1, zorder=1)
    for number, mean, error in zip(numbers, means, errors, strict=True):
        colour = _OUT if verdict.decision.reasons[number].why in RULED_OUT else _GOOD
        axes.errorbar([number], [mean], [error], fmt="o", color=colour, capsize=3, zorder=2)
    base = figure.of_base()
    if base is not None:
        axes.axhline(base.mean, color=_BASE, ls="--", lw=1)
        axes.annotate(
            "base", (0.995, base.mean), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
        )
    axes.axvline(verdict.decision.epoch, color="#d9a520", lw=6, alpha=0.25, zorder=0)
    better = "more is better" if figure.better == "higher" else "less is better"
    axes.set_ylabel(f"{figure.name}\n({better})", fontsize=9)


def _wrapped(text: str) -> str:
    from textwrap import fill

    return fill(text, 95)
