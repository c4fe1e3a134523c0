"""Axes -> pictures on disk: every distinct cell once, in whole batches; pictures that exist already are kept."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from loratools.base.base_path import locate_base
from loratools.base.model import Base, LoadedBase
from loratools.base.prompt.embeddings import Embeddings, read_embeddings
from loratools.blocks.vector import Presets
from loratools.errors import GridError, PromptError
from loratools.file_names import check_writable_name
from loratools.files import locked
from loratools.launch import Rank
from loratools.pocket.judge import JudgeFunction, shipped_judge
from loratools.preview.drawing import GridDrawing
from loratools.preview.judge.figures import FiguresOf
from loratools.preview.judge.score_request import check_scores
from loratools.preview.judge.scores import scored_by
from loratools.preview.plan.jobs import GridJob
from loratools.preview.plan.plan import PlannedPictures, title_of
from loratools.preview.plan.resolve import Resolve, RowResolver
from loratools.preview.record.folder import guard
from loratools.preview.record.grid import AxisInfo, Grid
from loratools.preview.render.claims import FileClaims
from loratools.preview.render.drawer import Drawer, render_jobs
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.request.arrange import Arrangement, arrange
from loratools.preview.request.axes import Axis
from loratools.preview.request.numbers import check_seeds, with_base_first
from loratools.preview.request.options import EngineOptions, SheetOptions
from loratools.preview.request.read_axes import models_of
from loratools.preview.request.read_rows import NameLookup
from loratools.preview.request.request import GridRequest, SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import CellSetting
from loratools.preview.session import Session
from loratools.preview.sheet.write import announce, check_votes, worded
from loratools.progress import tqdm_bar


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


@dataclass(frozen=True)
class GridOutput:
    """Where a grid's files go, and how progress is reported.

    Args:
        folder: of the cells, the sheet, the page and the record.
        title: over the sheet; made of the settings where it is empty.
        notes: text under the rows' labels, by label.
        sheet: which files are drawn, and with which words.
        figures: what is read from the pictures while they come, and drawn beside them.
        owner: who may overwrite the grid in ``folder`` without ``force``.
        progress: show a bar, and what memory is needed, on stderr.
        on_picture: called with (done, all) after every batch.
    """

    folder: Path
    title: str = ""
    notes: Mapping[str, str] | None = None
    sheet: SheetOptions = field(default_factory=SheetOptions)
    figures: Sequence[FiguresOf] = ()
    owner: str = "grid"
    force: bool = False
    progress: bool = False
    on_picture: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        check_writable_name(self.folder)  # before the base is loaded


def render_request(
    request: GridRequest,
    arrangement: Arrangement,
    names: NameLookup,
    output: GridOutput,
    session: Session | None = None,
    judge: JudgeFunction = shipped_judge,
) -> GridResult:
    """Render what a person asks for, on the command line or in a recipe; of several processes each renders a part.

    Args:
        request: everything but the rows and axes, which ``arrangement`` holds.
        arrangement: made of ``request`` by :func:`loratools.preview.request.read_axes.build_arrangement`.
        names: finds the LoRAs that prompts name.
        output: its title and sheet are those of ``request``.
        session: of the process, where it renders more than one grid.
        judge: reads tags, style and defects for the scores that ``request`` asks for, on the pocket base alone.
    Raises:
        LoratoolsError: as :func:`render_axes`; what can be known before a model is loaded is raised before.
    """
    check_votes(output.folder)
    if request.score is not None:
        check_scores(request.score)
    models = models_of(arrangement, request.model.base)
    for name in models:
        locate_base(name)
    figures = output.figures
    if request.score is not None and Rank.here().main:
        figures = [*figures, scored_by(request.score, judge)]
    with contextlib.nullcontext(session) if session is not None else Session() as kept:
        return render_axes(
            arrangement,
            lambda name: kept.load(name or models[0], request.model, offload=request.engine.offload),
            replace(output, title=request.title, sheet=request.sheet, figures=figures),
            presets=names.presets,
            resolve=names.terms,
            embeddings=request.model.embeddings,
            options=request.engine,
            session=kept,
        )


def render_grid(
    base: LoadedBase,
    rows: Sequence[GridRow],
    weights: Sequence[float],
    prompts: Sequence[str],
    *,
    out: Path,
    sampling: SamplingRequest | None = None,
    seeds: Sequence[int] = (1,),
    embeddings: Path | None = None,
    options: EngineOptions | None = None,
    title: str = "",
    notes: Mapping[str, str] | None = None,
    owner: str = "grid",
    force: bool = False,
    progress: bool = False,
    on_picture: Callable[[int, int], None] | None = None,
    session: Session | None = None,
) -> GridResult:
    """Render every row at every weight, for every prompt and seed, and draw ``grid.png``, ``grid.html``, ``grid.json``.

    The first column is weight 0, the base itself: rendered once and shared by all rows, bit for bit what the engine
    draws of the base alone in the same batches. Cells that are the same picture are rendered once; pictures that an
    earlier or interrupted run left in ``out`` are used again if all that determines them is the same.

    Args:
        weights: multiply a row's whole stack; 0 is put in front.
        sampling: the base's own where None.
        seeds: noise is a function of seed and size alone.
        embeddings: a folder of textual-inversion embeddings that prompts may name.
        options: how the engine works; its ``batch`` is pictures a UNet call, and every cell is cut into batches in the
            same way.
        title, notes, owner, force, progress, on_picture: as in :class:`GridOutput`.
        session: keeps the engine for the next grid on ``base``.
    Raises:
        GridError: for rows, weights, seeds, sizes or a sampler that make no grid; PromptError without a prompt.
        BaseModelError, ShapeError: if a row does not fit the base; raised before anything is rendered.
        FileError: if ``out`` holds another owner's grid.
    """
    if not rows:
        raise GridError("there is no row; give at least one LoRA file, stack or run")
    if not prompts:
        raise PromptError("there is no prompt; give at least one as `prompts=`")
    arrangement = arrange(
        [],
        CellSetting.of_sampling(sampling or SamplingRequest()),
        rows=rows,
        weights=with_base_first(weights),
        prompts=prompts,
        seeds=check_seeds(seeds),
        most=sys.maxsize,
    )
    output = GridOutput(out, title, notes, owner=owner, force=force, progress=progress, on_picture=on_picture)
    return render_axes(arrangement, lambda _: base, output, embeddings=embeddings, options=options, session=session)


def render_axes(
    arrangement: Arrangement,
    load: Callable[[str], LoadedBase],
    output: GridOutput,
    *,
    presets: Presets | None = None,
    resolve: Resolve | None = None,
    embeddings: Path | None = None,
    options: EngineOptions | None = None,
    session: Session | None = None,
) -> GridResult:
    """Render every place of ``arrangement``, as :func:`render_grid` does for rows and weights.

    Args:
        load: the name of a base model on an axis -> the model; the empty name where no axis has base models. One model
            is held at a time, if the caller holds none.
        session: keeps the engine for the next grid on the same model.
        presets: named block vectors, for an axis of them and for tags in prompts.
        resolve: a merge string -> its terms, for tags in prompts.
        embeddings: a folder of textual-inversion embeddings that prompts may name.
    Raises:
        LoratoolsError: as :func:`render_grid`; of several bases only the first is checked before pictures are made.
    """
    guard(output.folder, output.owner, output.force)
    rank = Rank.here()
    names = [str(value) for axis in arrangement.axes if axis.kind == "base" for value in axis.values] or [""]
    output = replace(output, progress=output.progress and rank.main)
    with contextlib.nullcontext(session) if session is not None else Session() as kept:
        run = _Run(output, rank, options or EngineOptions(), arrangement, kept)
        base = load(names[0])
        resolver = RowResolver(presets or {}, resolve, base.family)

        def planned(name: str) -> PlannedPictures:
            return PlannedPictures(base, arrangement, resolver, name, _embeddings(base, embeddings))

        pictures = planned(names[0])
        run.check(base, pictures)
        with locked(output.folder / "grid") if rank.main else contextlib.nullcontext(), run:
            run.render(base, pictures, alone=len(names) == 1)
            for name in names[1:]:
                del base, pictures
                kept.close_drawer()  # one base in memory at a time
                base = load(name)
                pictures = planned(name)
                run.render(base, pictures)
            return run.finish()


class _Run:
    """One rendering of a grid, base by base."""

    def __init__(
        self, output: GridOutput, rank: Rank, options: EngineOptions, arrangement: Arrangement, session: Session
    ) -> None:
        self.output, self.rank, self.options, self.arrangement = output, rank, options, arrangement
        self._session = session
        self.plans: list[tuple[PlannedPictures, list[GridJob]]] = []
        self.compute, self.rendered, self.reused, self.count = "", 0, 0, 0
        self._drawing: GridDrawing | None = None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawing is not None:
            self._drawing.close()

    def check(self, base: LoadedBase, pictures: PlannedPictures) -> None:
        """Raise what cannot be rendered on the base; nothing is touched."""
        with self._drawer(base, pictures) as drawer:
            drawer.check(pictures.stacks)

    def _drawer(self, base: LoadedBase, pictures: PlannedPictures) -> contextlib.AbstractContextManager[Drawer]:
        say = _say if self.output.progress else None
        return self._session.drawer(base, self.options, pictures.encode, say)

    def render(self, base: LoadedBase, pictures: PlannedPictures, *, alone: bool = False) -> None:
        """Render what is missing of one base's pictures.

        Args:
            alone: these are all pictures of the grid, so that its sheet is known: its size is said, and it is drawn
                while they come.
        """
        folder, progress = self.output.folder, self.output.progress
        self.compute = f"{base.dtype}".removeprefix("torch.") + f" {base.device.type}"
        with self._drawer(base, pictures) as drawer:
            drawer.check(pictures.stacks)
            jobs, shown = pictures.jobs(folder, self.compute)
            self.plans.append((pictures, shown))
            if alone and self.rank.main:
                self._drawing = GridDrawing(folder, self.record(), self.output.sheet, self.output.figures)
            claims = FileClaims(folder, self.rank) if self.rank.world > 1 else None
            with claims.relocating() if claims else contextlib.nullcontext():
                store = PictureStore(folder, self._drawing)
                store.relocate(job.file for job in jobs)
                self.reused += sum(not store.lacks([job.file]) for job in jobs)
            if alone and progress:
                announce(folder, self.record(), self.output.sheet, _say)
            with _bar(len(jobs), progress) as advance:
                done = _Progress(len(jobs), advance, self.output.on_picture)
                self.rendered += render_jobs(drawer, jobs, store, on_done=done, claims=claims)
                done(done.left)  # what other processes made
        if claims:
            claims.clear()
        self.count += len(jobs)

    def record(self) -> Grid:
        """The grid as ``grid.json`` keeps it."""
        first, infos = self.plans[0][0], self.plans[-1][0].infos
        prompts = tuple(dict.fromkeys(prompt for plan, _ in self.plans for prompt in plan.prompts))
        common = first.places[0].settings
        pictures = [
            picture
            for plan, shown in self.plans
            for picture in plan.pictures(self.output.folder, shown, prompts, common)
        ]
        if first.plain:
            pictures = [replace(picture, at=(), base=None) for picture in pictures]
        name, digest = first.model
        grid = Grid(
            owner=self.output.owner,
            title=self.output.title or title_of(name, self.arrangement, common),
            base=name,
            base_digest=digest,
            compute=self.compute,
            rows=infos,
            weights=tuple(dict.fromkeys(picture.weight for picture in pictures)),
            prompts=prompts,
            seeds=tuple(dict.fromkeys(place.setting.seed for plan, _ in self.plans for place in plan.places)),
            settings=common,
            pictures=tuple(pictures),
            axes=() if first.plain else tuple(_axis_info(axis) for axis in self.arrangement.axes),
        )
        return worded(grid.annotated(self.output.notes), self.output.sheet)

    def finish(self) -> GridResult:
        """Judge the rows, and write the record, the sheet and the page."""
        grid = self.record()
        if self.rank.main:
            if self._drawing is None:
                self._drawing = GridDrawing(self.output.folder, grid, self.output.sheet, self.output.figures)
            grid = self._drawing.finish(grid)
        elsewhere = self.count - self.reused - self.rendered
        return GridResult(self.output.folder, grid, self.rendered, self.reused, elsewhere)


def _embeddings(base: LoadedBase, folder: Path | None) -> Embeddings | None:
    """The embeddings in ``folder`` that prompts may name on ``base``.

    Raises:
        PromptError: for a base that takes none.
    """
    if folder is None:
        return None
    if not isinstance(base, Base):
        raise PromptError(
            f"textual-inversion embeddings are for SD 1.x, SD 2.x and SDXL, and {base.name} is none of them; leave "
            "them out"
        )
    return read_embeddings(folder, base)


def _axis_info(axis: Axis) -> AxisInfo:
    return AxisInfo(axis.title, tuple(axis.label(n) for n in range(len(axis.values))), axis.kind, axis.slot)


class _Progress:
    """Advances a bar by the pictures that are finished, and calls ``on_picture`` with (done, all)."""

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
    with tqdm_bar(shown=shown, total=total, unit="picture") as bar:
        yield bar.update
