"""The 0.9 test of all rows of a grid, made while their pictures come."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.adapter.parallel import in_order
from loratools.preview.judge.verdict import PictureMeasures, Verdict, judge_pictures, read_pixels, reduced
from loratools.preview.record.grid import Grid

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST = 256 << 20  # bytes of reduced pictures that are kept until the rest of their row has come


class GridVerdicts:
    """Measures pictures as they come, from any thread, and judges a row when its last one is there.

    Rows that are of the same LoRA at different weights, as tags in prompts make them, are judged as one.

    Args:
        folder: where the grid's pictures lie.
        grid: as far as it is known: its rows, and what its pictures are.
    """

    def __init__(self, folder: Path, grid: Grid) -> None:
        self._folder = folder
        self._groups = {row.tested: _by_weight(grid, row.tested) for row in grid.rows if row.times is not None}
        self._lacking = {name: _files(files) for name, files in self._groups.items()}
        self._wanted_by: dict[str, list[str]] = defaultdict(list)  # a file -> the rows that are not judged yet
        for name, files in self._lacking.items():
            for file in files:
                self._wanted_by[file].append(name)
        self._waiting = set(self._wanted_by)
        self._kept: dict[str, PictureMeasures] = {}
        self._bytes = 0
        self._made: dict[str, Verdict | None] = {}
        self._lock = threading.Lock()

    def add(self, file: str, image: Image) -> None:
        """Measure a picture that lies in the folder; one that no row needs, or that came before, is passed over."""
        if file not in self._waiting:
            return
        measures = PictureMeasures(reduced(image)).measure()
        with self._lock:
            if file not in self._waiting:
                return
            self._waiting.remove(file)
            if self._bytes < _MOST:
                self._keep(file, measures)
            complete = []
            for name in self._wanted_by[file]:
                self._lacking[name].remove(file)
                if not self._lacking[name]:
                    complete.append(name)
        for name in complete:
            self._judge(name)

    def verdicts(self, grid: Grid) -> list[Verdict | None]:
        """A verdict for every row that has pictures beside the base's; what has not come is read by several threads."""

        def read(file: str) -> PictureMeasures:
            return PictureMeasures(read_pixels(self._folder / file)).measure()

        left = [name for name in self._groups if name not in self._made]
        uses = Counter(file for name in left for file in _files(self._groups[name]))
        shared = [file for file, count in uses.items() if count > 1 and file not in self._kept]
        for file, measures in zip(shared, in_order(read, shared), strict=True):
            self._keep(file, measures)
        for _ in in_order(self._judge, left):
            pass
        return [self._made[row.tested] if row.times is not None else None for row in grid.rows]

    def _keep(self, file: str, measures: PictureMeasures) -> None:
        self._kept[file] = measures
        self._bytes += measures.kept.nbytes

    def _judge(self, name: str) -> None:
        """Judge one LoRA's pictures, and let go of those that no other needs."""

        def look(file: str) -> PictureMeasures:
            return self._kept.get(file) or PictureMeasures(read_pixels(self._folder / file))

        files = self._groups[name]
        looks = {weight: [look(file) for file in own] for weight, own in files.items()}
        self._made[name] = judge_pictures(looks) if looks else None
        with self._lock:
            for file in _files(files):
                self._wanted_by[file].remove(name)
                if not self._wanted_by[file] and file in self._kept:
                    self._bytes -= self._kept.pop(file).kept.nbytes


def with_verdicts(folder: Path, grid: Grid, verdicts: GridVerdicts | None = None) -> Grid:
    """``grid`` with every row's verdict, from the pictures in ``folder``.

    Args:
        verdicts: as far as they were made while the pictures came.
    """
    judged = (verdicts or GridVerdicts(folder, grid)).verdicts(grid)
    rows = tuple(
        replace(row, verdict=(own.level, own.text) if own else None) for row, own in zip(grid.rows, judged, strict=True)
    )
    return replace(grid, rows=rows)


def _files(by_weight: Mapping[float, list[str]]) -> set[str]:
    return {file for own in by_weight.values() for file in own}


def _by_weight(grid: Grid, tested: str) -> dict[float, list[str]]:
    """The files of what is tested by weight, in one order of the base's pictures, those at 0; empty without both."""
    file_at = {grid.place(picture): picture.file for picture in grid.pictures}
    times = {n: row.times for n, row in enumerate(grid.rows) if row.tested == tested and row.times is not None}
    by_weight: dict[float, dict[str, str]] = {}
    for picture in grid.pictures:
        base = grid.base_place(picture)
        weight = round(picture.weight * times.get(picture.row, 0.0), 10)
        if weight != 0 and base in file_at and base is not None and base != grid.place(picture):
            by_weight.setdefault(weight, {})[file_at[base]] = picture.file
    if not by_weight:
        plain = [picture.file for row in times for picture in grid.cell(row, 0.0)]
        return {0.0: plain} if plain and not grid.axes else {}
    common = sorted(set.intersection(*(set(own) for own in by_weight.values())))
    if not common:
        return {}
    return {0.0: common, **{weight: [own[base] for base in common] for weight, own in by_weight.items()}}
