"""A run's epochs as curves: losses, norm and drift."""

from __future__ import annotations

import math
from pathlib import Path

from loratools.imaging.figure import new_figure, save_figure
from loratools.train.output.epoch_report import FOLK_BAND, RunReport


def plot(report: RunReport, path: Path | str) -> None:
    """Draw losses above, norm and drift below, the shortlist marked; the format is the suffix's.

    Raises:
        FileError: if the picture cannot be written.
    """
    numbers = [own.number for own in report.epochs]
    figure = new_figure(8, 6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for name, colour, values in (
        ("training loss", "#35618f", [own.loss for own in report.epochs]),
        ("validation loss", "#b5533c", [own.validation for own in report.epochs]),
    ):
        if any(value is not None for value in values):
            upper.plot(numbers, [math.nan if v is None else v for v in values], "o-", color=colour, label=name)
    if upper.lines:
        upper.axhspan(*FOLK_BAND, color="#999", alpha=0.15, label="guides' band (folk evidence)")
        low, high = upper.dataLim.intervaly
        upper.set_ylim(low - 0.1 * (high - low or 1), high + 0.1 * (high - low or 1))
        upper.legend(frameon=False, fontsize=9)
    upper.set_ylabel("loss")
    lower.plot(numbers, [own.norm for own in report.epochs], "o-", color="#4d7a4a", label="norm")
    lower.set_ylabel("norm")
    lower.set_ylim(bottom=0)
    right = lower.twinx()
    drifts = [math.nan if own.drift is None else 100 * own.drift for own in report.epochs]
    right.plot(numbers, drifts, "s--", color="#8a6bb0", label="drift")
    right.set_ylabel("drift from the epoch before, %")
    right.set_ylim(bottom=0)
    lower.legend(handles=[*lower.lines, *right.lines], frameon=False, fontsize=9)
    lower.set_xlabel("epoch")
    lower.xaxis.get_major_locator().set_params(integer=True)
    for axes in (upper, lower):
        for pick in report.shortlist:
            axes.axvline(pick.number, color="#d9a520", lw=6, alpha=0.25, zorder=0)
    figure.suptitle(f"{report.run}: shortlist {', '.join(str(pick.number) for pick in report.shortlist)}", fontsize=11)
    save_figure(figure, path)
