"""Axes -> pictures on disk: every distinct cell once, whole batches, and what is there already stays."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.base.model import Base
from loratools.base.prompt.embeddings import Embeddings, read_embeddings
from loratools.base.sampling.noise_kinds import OWN
from loratools.blocks.vector import Presets
from loratools.errors import GridError, PromptError
from loratools.files import locked
from loratools.launch import Rank
from loratools.preview.judge.verdict import with_verdicts
from loratools.preview.plan.jobs import Job
from loratools.preview.plan.plan import PlannedPictures, title_of
from loratools.preview.plan.resolve import Resolve, Stacks
from loratools.preview.record.grid import AxisInfo, Grid, guard
from loratools.preview.render.claims import FileClaims
from loratools.preview.render.engine import Engine
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.request.arrange import Arrangement, arrange
from loratools.preview.request.numbers import check_seeds, with_base_first
from loratools.preview.request.options import EngineOptions, SheetOptions
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import Setting
from loratools.preview.sheet.write import announce, draw, worded


@dataclass(frozen=True)
class GridResult:
    """A finished grid: its folder and files, its record, and how many pictures were rendered or found.

    ``elsewhere`` counts those that other processes of the same launch rendered.
    """

    folder: Path
    grid: Grid
    rendered: int
    reused: int
    elsewhere: int = 0

    @property
    def counted(self) -> str:
        """Where the pictures come from, for a person."""
        others = f", {self.elsewhere} by other processes" if self.elsewhere else ""
        return f"{self.rendered} pictures rendered{others}, {self.reused} used again"

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
    rows: Sequence[GridRow],
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
    noise: str = OWN,
    embeddings: Path | None = None,
    batch_size: int = 8,
    options: EngineOptions | None = None,
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
        noise: a kind of :mod:`loratools.base.sampling.noise`.
        embeddings: a folder of textual-inversion embeddings that prompts may name.
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
    if not rows:
        raise GridError("there is no row; give at least one LoRA file, stack or run")
    if not prompts:
        raise PromptError("there is no prompt; give at least one with --prompt")
    start = Setting("", 0, negative, None, 1.0, (), steps, cfg, sampler, size, clip_skip, noise=noise)
    found = arrange(
        [],
        start,
        rows=rows,
        weights=with_base_first(weights),
        prompts=prompts,
        seeds=check_seeds(seeds),
        most=sys.maxsize,
    )
    return render_axes(
        base,
        found,
        out=out,
        embeddings=embeddings,
        options=replace(options or EngineOptions(), batch=batch_size),
        title=title,
        notes=notes,
        progress=progress,
        on_picture=on_picture,
        owner=owner,
        force=force,
    )


def render_axes(
    base: Base,
    arrangement: Arrangement,
    *,
    out: Path,
    presets: Presets | None = None,
    resolve: Resolve | None = None,
    load: Callable[[str], Base] | None = None,
    embeddings: Path | None = None,
    options: EngineOptions | None = None,
    title: str = "",
    notes: Mapping[str, str] | None = None,
    progress: bool = False,
    on_picture: Callable[[int, int], None] | None = None,
    owner: str = "grid",
    force: bool = False,
    drawing: SheetOptions | None = None,
) -> GridResult:
    """Render every place of ``arrangement``, as :func:`render_grid` does for rows and weights.

    Args:
        base: for all places, unless an axis names base models.
        presets: named block vectors, for an axis of them and for tags in prompts.
        resolve: a merge string -> its terms, for tags in prompts.
        load: the name of a base model on an axis -> the model; one is held at a time.
        embeddings: a folder of textual-inversion embeddings that prompts may name.
        drawing: what is drawn, and with which words.
    Raises:
        LoratoolsError: as :func:`render_grid`; of several bases only the first is checked before pictures are made.
    """
    guard(out, owner, force)
    rank = Rank.here()
    stacks = Stacks(presets or {}, resolve, base.family)
    names = [str(value) for axis in arrangement.axes if axis.kind == "base" for value in axis.values] or [""]
    if names != [""] and load is None:
        raise GridError("an axis names base models, and nothing tells how they are loaded")
    run = _Run(out, rank, options or EngineOptions(), progress and rank.main, on_picture)

    current = load(names[0]) if names[0] and load else base

    def known(model: Base) -> Embeddings | None:
        return read_embeddings(embeddings, model) if embeddings is not None else None

    plan = PlannedPictures(current, arrangement, stacks, names[0], known(current))
    run.check(current, plan)
    sheet = drawing or SheetOptions()

    def record() -> Grid:
        return worded(run.record(arrangement, owner, title).annotated(notes), sheet)

    def tell() -> None:
        announce(out, record(), sheet, _say)

    with locked(out / "grid") if rank.main else contextlib.nullcontext():
        run.render(current, plan, tell if progress and rank.main and len(names) == 1 else None)
        for name in names[1:]:
            del current, plan  # one base in memory at a time
            current = load(name) if load else base
            plan = PlannedPictures(current, arrangement, stacks, name, known(current))
            run.render(current, plan)
        return run.finish(record(), sheet)


class _Run:
    """One rendering of a grid, base by base."""

    def __init__(
        self,
        out: Path,
        rank: Rank,
        options: EngineOptions,
        progress: bool,
        on_picture: Callable[[int, int], None] | None,
    ) -> None:
        self.out, self.rank, self.options, self.progress, self.on_picture = out, rank, options, progress, on_picture
        self.plans: list[tuple[PlannedPictures, list[Job]]] = []
        self.compute, self.rendered, self.found, self.count = "", 0, 0, 0

    def check(self, base: Base, plan: PlannedPictures) -> None:
        """Raise what cannot be rendered on the plan's base; nothing is touched."""
        with self._engine(base, plan) as engine:
            engine.check(plan.stacks)

    def _engine(self, base: Base, plan: PlannedPictures) -> Engine:
        return Engine(base, self.options, encode=plan.encode, say=_say if self.progress else None)

    def render(self, base: Base, plan: PlannedPictures, before: Callable[[], None] | None = None) -> None:
        """Render what lacks of one base's places; ``before`` is called when it is known what that is."""
        self.compute = f"{base.dtype}".removeprefix("torch.") + f" {base.device.type}"
        with self._engine(base, plan) as engine:
            engine.check(plan.stacks)
            jobs, shown = plan.jobs(self.out, self.compute)
            shard = FileClaims(self.out, self.rank) if self.rank.world > 1 else None
            with shard.settling() if shard else contextlib.nullcontext():
                store = PictureStore(self.out)
                store.settle(job.wanted for job in jobs)
                self.found += sum(not store.lacks([job.wanted]) for job in jobs)
            self.plans.append((plan, shown))
            if before is not None and self.progress:
                before()
            with _bar(len(jobs), self.progress) as advance:
                told = _Teller(len(jobs), advance, self.on_picture)
                self.rendered += engine.render(jobs, store, on_done=told, claims=shard)
                told(told.left)  # what other processes made
        if shard:
            shard.clear()
        self.count += len(jobs)

    def record(self, arrangement: Arrangement, owner: str, title: str) -> Grid:
        """The grid as ``grid.json`` keeps it."""
        first, infos = self.plans[0][0], self.plans[-1][0].infos
        prompts = tuple(dict.fromkeys(prompt for plan, _ in self.plans for prompt in plan.prompts))
        common = first.places[0].settings
        pictures = [
            picture for plan, shown in self.plans for picture in plan.pictures(self.out, shown, prompts, common)
        ]
        axes = (
            ()
            if first.plain
            else tuple(
                AxisInfo(axis.title, tuple(axis.label(n) for n in range(len(axis.values))), axis.kind, axis.slot)
                for axis in arrangement.axes
            )
        )
        if not axes:
            pictures = [replace(picture, at=(), base=None) for picture in pictures]
        weights = tuple(dict.fromkeys(picture.weight for picture in pictures))
        seeds = tuple(dict.fromkeys(place.setting.seed for plan, _ in self.plans for place in plan.places))
        name, digest = first.model
        return Grid(owner, title or title_of(name, arrangement, common), name, digest, self.compute, infos, weights,
                    prompts, seeds, common, tuple(pictures), axes=axes)  # fmt: skip

    def finish(self, grid: Grid, drawing: SheetOptions) -> GridResult:
        """Judge the rows, and write the record, the sheet and the page."""
        if self.rank.main:
            grid = with_verdicts(self.out, grid)
            draw(self.out, grid, drawing)
        return GridResult(self.out, grid, self.rendered, self.found, self.count - self.found - self.rendered)


class _Teller:
    """Told how many pictures have come to rest, it tells the bar and whoever listens."""

    def __init__(
        self, total: int, advance: Callable[[int], object], on_picture: Callable[[int, int], None] | None
    ) -> None:
        self._total, self._advance, self._on_picture = total, advance, on_picture
        self.left = total

    def __call__(self, count: int) -> None:
        self.left -= count
        self._advance(count)
        if self._on_picture and count:
            self._on_picture(self._total - self.left, self._total)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextlib.contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    from tqdm import tqdm

    with tqdm(total=total, file=sys.stderr, disable=None if shown else True, unit="picture") as bar:
        yield bar.update
