"""Rows x weights -> pictures on disk: every distinct cell once, whole batches, and what is there already stays."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.adapter.parallel import in_order
from loratools.base.infotext import Facts, infotext
from loratools.base.model import Base
from loratools.base.sample import check_size
from loratools.errors import GridError, PromptError
from loratools.files import locked
from loratools.preview.cells import Cell, Settings, cell_path, check_seeds, folder_names, with_base_first
from loratools.preview.engine import Engine, Job, Options, Stack, marks_of
from loratools.preview.grid import Grid, Picture, RowInfo, guard, read_grid, write_grid
from loratools.preview.page import write_page
from loratools.preview.rows import Row
from loratools.preview.shard import Rank, Shard
from loratools.preview.sheet import write_sheet
from loratools.preview.store import Store, Wanted
from loratools.preview.verdict import with_verdicts


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
    options: Options | None = None,
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
        options: how the engine works, ``batch_size`` aside.
        notes: text under the rows' labels, by label.
        progress: show a bar, and what memory is needed, on stderr.
        on_picture: called with (done, all) after every batch.
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
    if not prompts:
        raise PromptError("there is no prompt; give at least one with --prompt")
    guard(out, owner, force)
    grid = Grid(
        owner, title or _title(base, settings), base.name, base.digest, f"{base.dtype}".removeprefix("torch.")
        + f" {base.device.type}", _infos(rows), with_base_first(weights), tuple(dict.fromkeys(prompts)),
        check_seeds(seeds), settings,
    ).annotated(notes)  # fmt: skip
    rank = Rank.here()
    options = replace(options or Options(), batch=batch_size)
    with Engine(base, options, say=_say if progress and rank.main else None) as engine:
        engine.check(Stack(row.deltas) for row in rows)
        with locked(out / "grid") if rank.main else contextlib.nullcontext():
            return _Run(engine, rows, grid, out, rank).go(progress and rank.main, on_picture)


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
    digests = in_order(lambda row: row.digest(), rows)
    return tuple(RowInfo(row.label, own, row.provenance, row.loras) for row, own in zip(rows, digests, strict=True))


@dataclass(frozen=True)
class _Place:
    """One distinct cell: the first row that has it, its weight, and the folder of its pictures."""

    row: int
    weight: float
    folder: str


class _Run:
    """One rendering of a grid."""

    def __init__(self, engine: Engine, rows: Sequence[Row], grid: Grid, out: Path, rank: Rank) -> None:
        self.engine, self.rows, self.grid, self.out, self.rank = engine, rows, grid, out, rank
        self.marks = [marks_of(row.deltas) for row in rows]
        self.pairs = [(prompt, seed) for prompt in range(len(grid.prompts)) for seed in grid.seeds]

    def go(self, progress: bool, on_picture: Callable[[int, int], None] | None) -> GridResult:
        """Render what lacks, then write the record, the sheet and the page."""
        places = self._places()
        jobs = {place: self._jobs(place) for place in places}
        every = [job for own in jobs.values() for job in own]
        shard = Shard(self.out, self.rank) if self.rank.world > 1 else None
        with shard.settling() if shard else contextlib.nullcontext():
            store = Store(self.out)
            store.settle(job.wanted for job in every)
        done = 0
        with _bar(len(every), progress) as advance:

            def told(count: int) -> None:
                nonlocal done
                done += count
                advance(count)
                if on_picture and count:
                    on_picture(done, len(every))

            rendered = self.engine.render(every, store, on_done=told, claims=shard)
        grid = replace(self.grid, pictures=tuple(self._pictures(places, jobs)))
        if self.rank.main:
            grid = with_verdicts(self.out, grid)
            _draw(self.out, grid)
        if shard:
            shard.clear()
        return GridResult(self.out, grid, rendered, len(every) - rendered)

    def _places(self) -> list[_Place]:
        """The distinct cells, base first, then row by row."""
        names = folder_names([row.label for row in self.rows])
        seen: dict[tuple[str, float], _Place] = {("", 0.0): _Place(0, 0.0, "base")}
        for index, info in enumerate(self.grid.rows):
            for weight in self.grid.weights:
                if weight != 0:
                    seen.setdefault((info.digest, weight), _Place(index, weight, names[index]))
        return list(seen.values())

    def _jobs(self, place: _Place) -> list[Job]:
        """The cell's pictures, prompts before seeds."""
        grid, settings = self.grid, self.grid.settings
        stack = Stack(self.rows[place.row].deltas, place.weight, grid.rows[place.row].digest, self.marks[place.row])
        return [
            Job(stack, grid.prompts[prompt], seed, self._wanted(place, (prompt, seed)), settings.steps, settings.cfg,
                settings.sampler, settings.size, settings.negative, settings.clip_skip)
            for prompt, seed in self.pairs
        ]  # fmt: skip

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

    def _pictures(self, places: Sequence[_Place], jobs: Mapping[_Place, Sequence[Job]]) -> Iterator[Picture]:
        by_content = {(self.grid.rows[p.row].digest if p.weight else "", p.weight): p for p in places}
        for row, weight in self.grid.cells():
            place = by_content[(self.grid.rows[row].digest if weight else "", weight)]
            for (prompt, seed), job in zip(self.pairs, jobs[place], strict=True):
                file = job.wanted.path.relative_to(self.out).as_posix()
                yield Picture(row, weight, prompt, seed, file, job.wanted.key)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextlib.contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    from tqdm import tqdm

    with tqdm(total=total, file=sys.stderr, disable=None if shown else True, unit="picture") as bar:
        yield bar.update
