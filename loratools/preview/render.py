"""Rows x weights -> pictures on disk: every distinct cell once, whole batches, and what is there already stays."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from loratools.base.infotext import Facts, infotext
from loratools.base.model import Base
from loratools.base.patch import Patcher
from loratools.base.sample import check_size, noise, sample
from loratools.base.text import Conditioning, condition
from loratools.errors import GridError, PromptError
from loratools.files import locked
from loratools.preview.cells import Cell, Settings, cell_path, check_seeds, folder_names, with_base_first
from loratools.preview.grid import Grid, Picture, RowInfo, guard, read_grid, write_grid
from loratools.preview.page import write_page
from loratools.preview.rows import Row
from loratools.preview.sheet import write_sheet
from loratools.preview.store import Store, Wanted


@dataclass(frozen=True)
class GridResult:
    """A finished grid: its folder and files, its record, and how many pictures were rendered or found."""

    folder: Path
    grid: Grid
    rendered: int
    reused: int

    @property
    def png(self) -> Path:
        """The labelled sheet."""
        return self.folder / "grid.png"

    @property
    def html(self) -> Path:
        """The page."""
        return self.folder / "grid.html"

    @property
    def json(self) -> Path:
        """The record."""
        return self.folder / "grid.json"

    def paths(self, label: str, weight: float) -> list[Path]:
        """The pictures of one cell, prompts before seeds; weight 0 is the base itself.

        Raises:
            GridError: if the grid has no such row or weight.
        """
        rows = [i for i, row in enumerate(self.grid.rows) if row.label == label]
        if not rows or weight not in self.grid.weights:
            raise GridError(f"the grid has no cell '{label}' at {weight:g}")
        return [self.folder / picture.file for picture in self.grid.cell(rows[0], weight)]


def render_grid(
    base: Base,
    rows: Sequence[Row],
    weights: Sequence[float],
    prompts: Sequence[str],
    *,
    out: Path,
    negative: str = "",
    seeds: Sequence[int] = (1,),
    steps: int | None = None,
    cfg: float | None = None,
    sampler: str | None = None,
    size: tuple[int, int] | None = None,
    clip_skip: int = 1,
    batch_size: int = 8,
    title: str = "",
    notes: Mapping[str, str] | None = None,
    progress: bool = False,
    on_picture: Callable[[int, int], None] | None = None,
    owner: str = "grid",
    force: bool = False,
) -> GridResult:
    """Render every row at every weight, for every prompt and seed, and draw ``grid.png``, ``grid.html``, ``grid.json``.

    The first column is weight 0, the base itself: rendered once and shared by all rows, bit for bit what the base
    alone gives for the same batch. Cells that are the same picture are rendered once; pictures that an earlier or
    interrupted run left in ``out`` are used again if all that determines them is the same.

    Args:
        weights: multiply a row's whole stack; 0 is put in front.
        seeds: noise is a function of seed and size alone.
        steps, cfg, sampler, size: the base's own where None; ``size`` is (height, width) in pixels.
        batch_size: pictures a UNet call; every cell is cut into batches in the same way.
        notes: text under the rows' labels, by label.
        progress: show a bar on stderr. ``on_picture`` is called with (done, all) after every batch.
        owner: who may overwrite the grid in ``out`` without ``force``.
    Raises:
        GridError: for rows, weights, seeds, sizes or a sampler that make no grid; PromptError without a prompt.
        BaseModelError, ShapeError: if a row does not fit the base; raised before anything is rendered.
        FileError: if ``out`` holds another owner's grid.
    """
    settings = Settings(
        base.defaults.steps if steps is None else steps,
        base.defaults.cfg if cfg is None else cfg,
        sampler or base.defaults.sampler,
        size or base.resolution,
        negative,
        clip_skip,
    )
    check_size(base, settings.size)
    if batch_size < 1:
        raise GridError(f"a batch of {batch_size} pictures makes no grid; use 1 or more")
    if not prompts:
        raise PromptError("there is no prompt; give at least one with --prompt")
    guard(out, owner, force)
    grid = Grid(
        owner, title or _title(base, settings), base.name, base.digest, f"{base.dtype}".removeprefix("torch.")
        + f" {base.device.type}", _infos(rows), with_base_first(weights), tuple(dict.fromkeys(prompts)),
        check_seeds(seeds), settings,
    ).annotated(notes)  # fmt: skip
    patcher = Patcher(base)
    for row in rows:
        patcher.check(row.deltas)
    with locked(out / "grid"):
        return _Run(base, patcher, rows, grid, out, batch_size).go(progress, on_picture)


def redraw(
    folder: Path,
    *,
    notes: Mapping[str, str] | None = None,
    badges: Mapping[tuple[str, float], str] | None = None,
    title: str = "",
) -> Grid:
    """Draw the sheet and the page of a rendered grid again, with other texts; nothing is rendered.

    ``notes`` go under row labels, ``badges`` under cells by (row label, weight); both are kept in ``grid.json``.
    """
    grid = read_grid(folder).annotated(notes, badges)
    grid = replace(grid, title=title or grid.title)
    _draw(folder, grid)
    return grid


def _draw(folder: Path, grid: Grid) -> None:
    write_grid(folder, grid)
    write_sheet(folder, grid)
    write_page(folder, grid)


def _title(base: Base, settings: Settings) -> str:
    height, width = settings.size
    return f"{base.name} · {settings.sampler} · {settings.steps} steps · CFG {settings.cfg:g} · {width}x{height}"


def _infos(rows: Sequence[Row]) -> tuple[RowInfo, ...]:
    if not rows:
        raise GridError("there is no row; give at least one LoRA file, stack or run")
    labels = [row.label for row in rows]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise GridError(f"two rows are called '{twice}'; give them different names")
    return tuple(RowInfo(row.label, row.digest(), row.provenance, row.loras) for row in rows)


@dataclass(frozen=True)
class _Place:
    """One distinct cell: the first row that has it, its weight, and the folder of its pictures."""

    row: int
    weight: float
    folder: str


class _Run:
    """One rendering of a grid."""

    def __init__(
        self, base: Base, patcher: Patcher, rows: Sequence[Row], grid: Grid, out: Path, batch_size: int
    ) -> None:
        self.base, self.patcher, self.rows, self.grid, self.out = base, patcher, rows, grid, out
        self.pairs = [(prompt, seed) for prompt in range(len(grid.prompts)) for seed in grid.seeds]
        self.batches = [self.pairs[i : i + batch_size] for i in range(0, len(self.pairs), batch_size)]
        self.base_text: tuple[Conditioning, Conditioning] | None = None

    def go(self, progress: bool, on_picture: Callable[[int, int], None] | None) -> GridResult:
        """Render what lacks, then write the record, the sheet and the page."""
        places = self._places()
        wanted = {place: [self._wanted(place, pair) for pair in self.pairs] for place in places}
        store = Store(self.out)
        store.settle(item for items in wanted.values() for item in items)
        total, done, rendered = len(places) * len(self.pairs), 0, 0
        with _bar(total, progress) as advance:
            for place in places:
                for items, made in self._batches_of(place, wanted[place], store):
                    rendered += len(items) if made else 0
                    done += len(items)
                    advance(len(items))
                    if on_picture:
                        on_picture(done, total)
        self.patcher.forget()
        grid = replace(self.grid, pictures=tuple(self._pictures(places, wanted)))
        _draw(self.out, grid)
        return GridResult(self.out, grid, rendered, total - rendered)

    def _places(self) -> list[_Place]:
        """The distinct cells, base first, then row by row, so that each row's deltas are formed once."""
        names = folder_names([row.label for row in self.rows])
        seen: dict[tuple[str, float], _Place] = {("", 0.0): _Place(0, 0.0, "base")}
        for index, info in enumerate(self.grid.rows):
            for weight in self.grid.weights:
                if weight != 0:
                    seen.setdefault((info.digest, weight), _Place(index, weight, names[index]))
        return list(seen.values())

    def _wanted(self, place: _Place, pair: tuple[int, int]) -> Wanted:
        prompt, seed = pair
        grid, settings = self.grid, self.grid.settings
        info = grid.rows[place.row]
        loras = info.loras if place.weight else ()
        cell = Cell(info.digest, place.weight, grid.prompts[prompt], seed)
        key = cell.key(settings, grid.base_digest, grid.compute)
        facts = Facts(
            cell.prompt, settings.negative, settings.steps, settings.sampler, settings.cfg, seed, settings.size,
            grid.base, grid.base_digest, settings.clip_skip, loras, place.weight,
        )  # fmt: skip
        made = {
            "key": key,
            "base": grid.base_digest,
            "row": info.label if place.weight else "",
            "weight": place.weight,
            "adapter": info.digest if place.weight else "",
            "provenance": info.provenance if place.weight else "",
        }
        path = self.out / cell_path(place.folder, place.weight, prompt + 1, seed)
        return Wanted(path, key, infotext(facts), made)

    def _batches_of(
        self, place: _Place, wanted: Sequence[Wanted], store: Store
    ) -> Iterator[tuple[Sequence[Wanted], bool]]:
        """The cell's batches in order, and whether each had to be rendered; the model is patched only if one has."""
        parts = [wanted[self.pairs.index(batch[0]) :][: len(batch)] for batch in self.batches]
        open_parts = [store.lacks(part) for part in parts]
        with contextlib.ExitStack() as stack:
            if any(open_parts):
                stack.enter_context(self.patcher.applied(self.rows[place.row].deltas, place.weight))
            for batch, part, lacking in zip(self.batches, parts, open_parts, strict=True):
                if lacking:
                    self._render(place, batch, part, store)
                yield part, lacking

    def _render(self, place: _Place, batch: Sequence[tuple[int, int]], wanted: Sequence[Wanted], store: Store) -> None:
        from PIL import Image

        settings = self.grid.settings
        cond, uncond = self._conditioning(place)
        seeds = [seed for _, seed in batch]
        latents = torch.cat([noise(seed, settings.size) for seed in seeds])
        which = [prompt for prompt, _ in batch]
        images = sample(
            self.base, cond[which], uncond[[0] * len(which)], latents, settings.steps, settings.cfg,
            settings.sampler, seeds=seeds,
        )  # fmt: skip
        for item, image in zip(wanted, images, strict=True):
            store.put(item, Image.fromarray(image))

    def _conditioning(self, place: _Place) -> tuple[Conditioning, Conditioning]:
        """The prompts and the negative prompt, encoded under the current patch; the base's own are kept."""
        if place.weight != 0 and self.rows[place.row].touches_text():
            return self._encode()
        if self.base_text is None:
            self.base_text = self._encode()
        return self.base_text

    def _encode(self) -> tuple[Conditioning, Conditioning]:
        skip = self.grid.settings.clip_skip
        return (
            condition(self.base, self.grid.prompts, skip),
            condition(self.base, [self.grid.settings.negative], skip),
        )

    def _pictures(self, places: Sequence[_Place], wanted: Mapping[_Place, Sequence[Wanted]]) -> Iterator[Picture]:
        by_content = {(self.grid.rows[p.row].digest if p.weight else "", p.weight): p for p in places}
        for row, weight in self.grid.cells():
            place = by_content[(self.grid.rows[row].digest if weight else "", weight)]
            for (prompt, seed), item in zip(self.pairs, wanted[place], strict=True):
                file = item.path.relative_to(self.out).as_posix()
                yield Picture(row, weight, prompt, seed, file, item.key)


@contextlib.contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    from tqdm import tqdm

    with tqdm(total=total, file=sys.stderr, disable=None if shown else True, unit="picture") as bar:
        yield bar.update
