"""The pictures of a run's epochs: a grid in ``NAME-verdict``, so that they stay, and are looked at and voted on like
those of any other grid.

Weight 1 (or what is asked for) is drawn for every epoch. The 0.9 test needs pictures at 0.9 of those epochs alone that
do not hold at a greater weight: a second, small grid in ``NAME-verdict/at-0.9``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from loratools.adapter.files.epoch_files import Epoch
from loratools.adapter.files.file import read
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.errors import NeedsBaseError
from loratools.measures.measure import Shown
from loratools.preview.judge.verdict import TESTED, PictureMeasures, Verdict, judge_pictures, reduced
from loratools.preview.record.grid import Grid
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import GridResult, render_grid
from loratools.preview.session import Session
from loratools.tune.epochs.decide import WeightTest

if TYPE_CHECKING:
    from torch import Tensor

    from loratools.base.model import LoadedBase

OnPicture = Callable[[int, int], None]


@dataclass(frozen=True)
class Drawing:
    """How the epochs are drawn.

    Args:
        folder: of the pictures.
        owner: who may write there.
        keys: what becomes of keys of a LoRA file that no table knows.
        base_weights: opens the base's weights by canonical name, which the differences of a DoRA depend on.
        on_picture: called with (done, all).
        session: keeps the engine from one grid of a run to the next.
    """

    folder: Path
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    weight: float = 1.0
    sampling: SamplingRequest = field(default_factory=SamplingRequest)
    engine: EngineOptions = field(default_factory=EngineOptions)
    owner: str = "epochs"
    keys: KeyRules = STRICT
    base_weights: Callable[[], Mapping[str, Tensor]] | None = None
    force: bool = False
    progress: bool = False
    on_picture: OnPicture | None = None
    session: Session | None = None


@dataclass(frozen=True, eq=False)
class DrawnEpochs:
    """A run's pictures: ``base`` and, for each epoch, as many of the same prompts and seeds in the same order.

    Attributes:
        numbers: the epochs' own.
        tested: what the 0.9 test says of each epoch.
        rendered: how many pictures were drawn now, and not found.
    """

    grid: Grid
    folder: Path
    numbers: tuple[int, ...]
    base: tuple[Shown, ...]
    epochs: tuple[tuple[Shown, ...], ...]
    files: tuple[tuple[str, ...], ...]
    tested: tuple[WeightTest, ...]
    rendered: int


def draw_epochs(base: LoadedBase, name: str, run: Sequence[Epoch], drawing: Drawing) -> DrawnEpochs:
    """Draw every epoch of ``run``, and the base once; what lies in the folder already is used again.

    Raises:
        LoratoolsError: as :func:`loratools.preview.run.render_grid`; FormatError for an epoch file that cannot be read.
    """
    rows = [_row(name, epoch, drawing) for epoch in run]
    result = _render(base, rows, drawing.weight, drawing.folder, drawing)
    own = _shown(result, 0, 0.0)
    pictures = [_shown(result, n, drawing.weight) for n in range(len(rows))]
    judged = _judged(own, pictures, drawing.weight)
    again = [n for n, verdict in enumerate(judged) if not _settled(verdict, drawing.weight)]
    rendered = result.rendered
    if again:
        more = _render(base, [rows[n] for n in again], TESTED, drawing.folder / f"at-{TESTED:g}", drawing)
        rendered += more.rendered
        weaker = [_shown(more, n, TESTED) for n in range(len(again))]
        for n, verdict in zip(again, _judged(own, weaker, TESTED), strict=True):
            judged[n] = verdict
    files = [tuple(picture.file for picture in result.grid.cell(n, drawing.weight)) for n in range(len(rows))]
    tested = tuple(map(_tested, judged))
    numbers = tuple(epoch.number for epoch in run)
    return DrawnEpochs(result.grid, drawing.folder, numbers, own, tuple(pictures), tuple(files), tested, rendered)


def _judged(base: Sequence[Shown], epochs: Sequence[Sequence[Shown]], weight: float) -> list[Verdict]:
    """The 0.9 test of each epoch's pictures at ``weight`` beside the base's."""
    measured = [PictureMeasures(reduced(picture.image)) for picture in base]
    return [
        judge_pictures({0.0: measured, weight: [PictureMeasures(reduced(picture.image)) for picture in own]})
        for own in epochs
    ]


def _row(name: str, epoch: Epoch, drawing: Drawing) -> GridRow:
    try:
        adapter = read(epoch.path, None, drawing.keys.allow_unknown, drawing.keys.drop)
    except NeedsBaseError:
        if drawing.base_weights is None:
            raise
        adapter = read(epoch.path, drawing.base_weights(), drawing.keys.allow_unknown, drawing.keys.drop)
    return GridRow.of_file(adapter, f"{name}@{epoch.number}")


def _render(base: LoadedBase, rows: Sequence[GridRow], weight: float, folder: Path, drawing: Drawing) -> GridResult:
    return render_grid(
        base,
        rows,
        [weight],
        drawing.prompts,
        out=folder,
        sampling=drawing.sampling,
        seeds=drawing.seeds,
        options=drawing.engine,
        title=f"{drawing.owner.partition(':')[2]}: base and every epoch at {weight:g}",
        owner=drawing.owner,
        force=drawing.force,
        progress=drawing.progress,
        on_picture=drawing.on_picture,
        session=drawing.session,
    )


def _shown(result: GridResult, row: int, weight: float) -> tuple[Shown, ...]:
    prompts = result.grid.prompts
    return tuple(
        Shown(_pixels(result.folder / picture.file), prompts[picture.prompt], picture.seed)
        for picture in result.grid.cell(row, weight)
    )


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _settled(verdict: Verdict, weight: float) -> bool:
    """Whether pictures at ``weight`` say how the 0.9 test ends: they break at 0.9 or less, or hold there or above."""
    return weight == TESTED or (verdict.breaks is not None) == (weight < TESTED)


def _tested(verdict: Verdict) -> WeightTest:
    breaks = verdict.breaks if verdict.breaks is not None and verdict.breaks <= TESTED else None
    return WeightTest(breaks, f"{verdict.why} at {breaks:g}" if breaks is not None else verdict.text)
