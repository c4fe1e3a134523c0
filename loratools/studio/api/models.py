"""The contract of the studio: every request and answer of its HTTP API.

Anything on disk has an opaque ``id`` (see :mod:`loratools.studio.roots`); paths are text to be shown, from their root.
``loratools/studio/page/src/api/types.ts`` is generated from these by ``npm run types``. The websocket's messages:
:mod:`.messages`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from loratools.studio.api.base import Wire
from loratools.studio.api.words import Words

Id = Annotated[str, Field(min_length=1, max_length=120)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
JobState = Literal["waiting", "running", "paused", "stopping", "done", "failed", "stopped"]
JobAction = Literal["pause", "resume", "stop", "stop-after-epoch", "up", "down", "remove"]


class Session(Wire):
    """``POST /api/session``: the token of the address that ``loratools studio`` printed."""

    token: Annotated[str, Field(max_length=200)]


class Root(Wire):
    """A folder that was opened on the command line."""

    id: Id
    name: str


class BaseInfo(Wire):
    """A base model: ``id`` is ``pocket``, or that of a file or folder below the roots; ``size`` is [width, height]."""

    id: Id
    name: str
    family: str
    size: tuple[int, int]


class Device(Wire):
    """Where pictures are drawn; ``memory`` in bytes, None where nothing says it."""

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    memory: int | None


class State(Wire):
    """``GET /api/state``; ``prompts`` are a family's example prompts, and ``last_event`` is where a watch begins."""

    version: str
    roots: list[Root]
    bases: list[BaseInfo]
    device: Device
    demo: bool
    prompts: dict[str, list[str]]
    last_event: int


class Lora(Wire):
    """A LoRA file; ``changed`` in seconds since 1970, ``run`` and ``epoch`` where it is a run's."""

    id: Id
    name: str
    root: Id
    path: str
    family: str
    rank: int | None
    bytes: int
    changed: float
    run: Id | None = None
    epoch: int | None = None
    trigger: str | None = None


class Block(Wire):
    """A block of a family's scheme; ``group`` is ``BASE``, ``IN``, ``MID``, ``OUT`` or a container's name;
    ``norm_share`` is the block's share of the squared norm, None while it is not known. ``kinds`` are the left sides of
    rules for the kinds of its layers in this file, ``OUT05/attn1``; empty where it has one kind, or none is known."""

    name: str
    group: str
    norm_share: float | None = None
    help: Words | None = None
    kinds: tuple[str, ...] = ()


class Scheme(Wire):
    """The ordered blocks that sliders are drawn for."""

    family: str
    blocks: list[Block]


class LoraDetail(Lora):
    """``GET /api/loras/{id}``: with its blocks, and what ``loratools inspect`` shows."""

    scheme: Scheme
    metadata: dict[str, str]


class RunEpoch(Wire):
    """An epoch of a run and its file."""

    number: int
    lora: Id


class Run(Wire):
    """A training run, whoever started it; ``updated`` in seconds since 1970."""

    id: Id
    name: str
    root: Id
    path: str
    state: Literal["running", "stopped", "done"]
    epochs: list[RunEpoch]
    base: str
    step: int
    steps: int | None
    updated: float
    job: str | None = None


class Point(Wire):
    """A value at a step or an epoch."""

    at: float
    value: float


class Sample(Wire):
    """A picture that a run drew of itself; epoch 0 is before the first."""

    epoch: int
    step: int | None
    prompt: str
    picture: Id


class VerdictEpoch(Wire):
    """What the pictures of an epoch said: measure -> [mean, standard error]."""

    epoch: int
    figures: dict[str, tuple[float | None, float | None]]
    note: Words


class Verdict(Wire):
    """Which epoch ``NAME.verdict.json`` recommends, its English ``sentence``, why in words that the page ``says``, and
    whether it is ``stale`` for the files as they are now."""

    epoch: int
    sentence: str
    says: list[Words]
    epochs: list[VerdictEpoch]
    stale: Words | None = None


class RunDetail(Run):
    """``GET /api/runs/{id}``; ``rate`` in steps a second, ``loss`` by step, ``validation`` by epoch."""

    loss: list[Point]
    epoch_loss: list[Point]
    validation: list[Point]
    rate: float | None
    samples: list[Sample]
    verdict: Verdict | None
    problem: Words | None = None


class RunDo(Wire):
    """``POST /api/runs/{id}``: stop a run that goes on, after its step or its epoch; its state is saved."""

    do: Literal["stop", "stop-after-epoch"]


class GridCell(Wire):
    """A cell of a grid; ``key`` is its key in ``grid.json`` and ``stars`` 0 where it has none."""

    row: int
    epoch: int | None
    weight: float
    prompt: int
    seed: int
    picture: Id | None
    key: str
    stars: int = 0


class Grid(Wire):
    """A grid of pictures on disk."""

    id: Id
    name: str
    root: Id
    path: str
    rows: list[str]
    weights: list[float]
    prompts: list[str]
    seeds: list[int]
    size: tuple[int, int]
    cells: int
    changed: float


class Standing(Wire):
    """How a row did in the blind pairs; ``rating`` on Elo's scale, 0 the average."""

    row: str
    wins: float
    shown: int
    rating: float
    stars: float


class Pair(Wire):
    """Two pictures to be shown blind; ``left`` and ``right`` are cells' keys."""

    left: str
    right: str
    left_picture: Id
    right_picture: Id


class GridDetail(Wire):
    """``GET /api/grids/{id}``; ``pair`` is the next blind one, None where there is nothing to compare."""

    grid: Grid
    cells: list[GridCell]
    standings: list[Standing]
    pair: Pair | None
    pairs_seen: int


class RecipeStep(Wire):
    """A step of a recipe: its ``kind``, and its text as it stands."""

    name: str
    kind: str
    text: str


class PictureFolder(Wire):
    """``GET /api/folders``: a folder of pictures below the roots; ``captions`` of them have a text beside them."""

    id: Id
    name: str
    root: Id
    path: str
    pictures: int
    captions: int


class TrainPreset(Wire):
    """``GET /api/presets``: named settings of a training, whose ``source`` says where they are from; ``settings`` are
    those that a person may want to see before they start."""

    name: str
    source: str
    settings: dict[str, str]


class Recipe(Wire):
    """A recipe below the roots."""

    id: Id
    name: str
    root: Id
    path: str
    changed: float


class RecipeDetail(Wire):
    """``GET /api/recipes/{id}``; ``vectors`` are those that it names, ``undo`` says whether an edit can be undone."""

    recipe: Recipe
    text: str
    vectors: dict[str, dict[str, float]]
    steps: list[RecipeStep]
    base: str | None
    undo: bool
    problem: Words | None = None


class VoteRequest(Wire):
    """``POST /api/votes``: which of two cells of a grid (keys) looked better; the answer is :class:`GridDetail`'s
    ``standings`` and the next ``pair``."""

    grid: Id
    left: str
    right: str
    winner: Literal["left", "right", "none"]


class VoteAnswer(Wire):
    """The standings after a vote, and the next pair."""

    standings: list[Standing]
    pair: Pair | None
    pairs_seen: int


class MarkRequest(Wire):
    """``POST /api/marks``: stars of a grid's picture, 0 takes them back."""

    picture: Id
    stars: Annotated[int, Field(ge=0, le=5)]


class MarkAnswer(Wire):
    """The stars as they are kept."""

    picture: Id
    stars: int


class Nothing(Wire):
    """The body ``{}`` of a request that says all by its address."""


class Done(Wire):
    """A change that has no other answer."""

    done: Literal[True] = True
