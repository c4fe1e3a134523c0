"""The pictures of a tune: the columns of the report side by side, and the frontier of defect against style."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from loratools.imaging.figure import new_figure, save_figure
from loratools.preview.sheet.strip import Column as StripColumn
from loratools.preview.sheet.strip import write_strip
from loratools.tune.problem.goals import STYLE
from loratools.tune.problem.prompts import Shot
from loratools.tune.report.columns import BASE, BEFORE, GUIDE, STRENGTH, TUNED

if TYPE_CHECKING:
    from loratools.tune.report.result import TuneResult

_ROWS = 8  # pictures of a column that the sheet shows, spread over prompts and seeds; the figures are of all
_COLOURS = {BASE: "#77757a", BEFORE: "#b3452c", GUIDE: "#c98b3c", STRENGTH: "#3b6ea5", TUNED: "#2c7a4b"}
_DESCENT = "#b9b6af"
_LATER = ("#7b4fa3", "#c2528b", "#1f8a8a", "#8a6d1f", "#4b5bc2", "#a33b3b")  # ways that followed the search


def write_sheet(result: TuneResult) -> None:
    """Draw ``sheet.png``: each column's label, pictures, and below them its figures with their standard errors."""
    held = result.held
    shown = _rows(held.shots)
    columns = [
        StripColumn(
            column.label,
            tuple(column.pictures[number] for number in shown),
            figures=tuple(f"{name} {own.text()}" for name, own in held.estimates(column.name).items()),
        )
        for column in held.columns
    ]
    symptoms = " and ".join(result.request.symptoms)
    title = f"{symptoms}: held-out prompts and seeds, {len(held.shots)} pictures a column"
    write_strip(result.sheet, title, columns)


def write_frontier(result: TuneResult) -> None:
    """Draw ``frontier.png``: every vector of the search, plain strengths, and the report's columns with errors."""
    across, down = _axes(result)
    figure = new_figure(7, 5, layout=None, dpi=130)
    axes = figure.add_subplot()
    clouds = {"screening": "#d9d6cf", "search": "#b9b6af", "check": "#77757a"}
    for kind, colour in clouds.items():
        points = _means(result, (kind,), across, down)
        if len(points):
            axes.scatter(
                points[:, 0],
                points[:, 1],
                s=14 if kind == "check" else 7,
                color=colour,
                label=f"{kind}, search pictures",
            )
    ladder = _means(result, ("whole", "ladder"), across, down)
    axes.plot(
        ladder[:, 0], ladder[:, 1], "-", color=_COLOURS[STRENGTH], linewidth=1, label="plain strengths, search pictures"
    )
    if result.steps and across in result.steps[0].values:
        path = np.array([[step.values[across], step.values[down]] for step in result.steps])
        axes.plot(path[:, 0], path[:, 1], "-", color=_DESCENT, linewidth=0.8, alpha=0.6, label="down the gradient")
    later = iter(_LATER)
    for column in result.held.columns:
        own = result.held.estimates(column.name)
        x, y = own[across], own[down]
        axes.errorbar(
            x.mean,
            y.mean,
            xerr=np.nan_to_num(x.standard_error),
            yerr=np.nan_to_num(y.standard_error),
            fmt="o",
            markersize=7,
            capsize=3,
            color=_COLOURS.get(column.name) or next(later),
            label=f"{column.label}, held out",
        )
    _dress(axes, across, down, result)
    save_figure(figure, result.frontier, tight=True)


def write_both(result: TuneResult) -> None:
    """The sheet and the frontier."""
    write_sheet(result)
    write_frontier(result)


def _axes(result: TuneResult) -> tuple[str, str]:
    """The measures across (what is kept, the style if it is) and down (what is to become better)."""
    down = result.goals.targets[0].name
    kept = [each.name for each in result.goals.constraints]
    across = STYLE if STYLE in kept else next(iter(kept), down)
    return across, down


def _means(result: TuneResult, kinds: Sequence[str], across: str, down: str) -> Any:
    """(n, 2): the mean of each vector's own pictures."""
    rows = [
        [float(np.nanmean(own[across])), float(np.nanmean(own[down]))]
        for generation in result.history.generations
        if generation.kind in kinds
        for own in map(generation.of_point, range(len(generation.points)))
        if not (np.isnan(own[across]).all() or np.isnan(own[down]).all())
    ]
    return np.array(rows).reshape(-1, 2)


def _dress(axes: Any, across: str, down: str, result: TuneResult) -> None:
    target = result.goals.targets[0]
    bounds = {each.name: each.bound for each in result.goals.constraints}
    if across in bounds:
        axes.axvline(bounds[across], color="#77757a", linewidth=0.8, linestyle="--", label=f"{across} that must stay")
    better = {each.name: each.better for each in result.goals.measures}
    axes.set_xlabel(f"{across} ({better[across]} is better)")
    axes.set_ylabel(f"{target.name} ({target.better} is better)")
    axes.grid(color="#e8e5de", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7, frameon=False)


def _rows(shots: Sequence[Shot]) -> list[int]:
    """Which shots the sheet shows: every prompt once, each with another seed, then more of them."""
    places: dict[str, list[int]] = {}
    for number, shot in enumerate(shots):
        places.setdefault(shot.prompt, []).append(number)
    turned = [own[turn % len(own) :] + own[: turn % len(own)] for turn, own in enumerate(places.values())]
    rounds = [number for same in zip_longest(*turned) for number in same if number is not None]
    return sorted(rounds[:_ROWS])
