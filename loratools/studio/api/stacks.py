"""The contract of block vectors, stacks of LoRAs, and what is made of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from loratools.studio.api.base import Wire
from loratools.studio.api.models import Finite, Id, Pair, Scheme
from loratools.studio.api.words import Words


class VectorRequest(Wire):
    """``POST /api/vector``: a vector as text (``GP1``, numbers, names), or its weights by block and by rule."""

    text: Annotated[str, Field(max_length=20_000)] | None = None
    weights: dict[str, Finite] | None = None
    family: str = "sd1"


class VectorTexts(Wire):
    """A vector written as bare numbers, as a line for LoRA Block Weight, and as short as it goes."""

    numbers: str
    lbw: str
    short: str


class VectorAnswer(Wire):
    """A vector: its weights by block and by rule (``OUT05/attn1``), its spellings, and the preset that it equals."""

    weights: dict[str, float]
    texts: VectorTexts
    preset: str | None


class Preset(Wire):
    """A named vector that a family's sliders can be set to."""

    name: str
    weights: dict[str, float]


class Term(Wire):
    """A LoRA of a stack: strength, vector (weights by block and by rules for kinds of their layers, ``OUT05/attn1``;
    or text) and the strengths of its two parts."""

    lora: Id
    weight: Finite = 1.0
    vector: dict[str, Finite] | Annotated[str, Field(max_length=20_000)] | None = None
    te: Finite = 1.0
    unet: Finite = 1.0


class Stack(Wire):
    """LoRAs on a base: what a picture is drawn of and what is written."""

    terms: Annotated[list[Term], Field(max_length=32)]
    base: Id


class ExplainRequest(Wire):
    """``POST /api/stack/explain``: a stack, and another that it is compared with."""

    stack: Stack
    other: Stack | None = None


class HeatCell(Wire):
    """A block of the change between two stacks: |A - B| as a share of |A| and |B|, and their cosine."""

    block: str
    change: float
    cosine: float | None


class ExplainAnswer(Wire):
    """Share of the norm of each block of the weighed stack, and what changed from ``stack`` to ``other``."""

    shares: dict[str, float]
    norm: float
    heat: list[HeatCell] | None
    warnings: tuple[Words, ...] = ()


class PictureSettings(Wire):
    """How a picture is drawn; ``size`` is [width, height]; None stands for the base's own."""

    prompt: Annotated[str, Field(max_length=10_000)] = ""
    negative: Annotated[str, Field(max_length=10_000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    cfg: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    sampler: Annotated[str, Field(max_length=80)] | None = None
    size: tuple[Annotated[int, Field(ge=16, le=4096)], Annotated[int, Field(ge=16, le=4096)]] | None = None


class FileTarget(Wire):
    """A LoRA file to be written: its root, its name (``.safetensors`` is added) and its storage type."""

    root: Id
    name: Annotated[str, Field(min_length=1, max_length=120)]
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    rank: Annotated[str, Field(max_length=40)] = "exact"
    force: bool = False


class RecipeTarget(Wire):
    """A recipe whose vector ``vector`` gets the weights of the stack's term ``term``, edited in place, undoable;
    ``merge`` is the merge step that is meant where there are several."""

    recipe: Id
    vector: Annotated[str, Field(min_length=1, max_length=80)]
    term: int = 0
    merge: Annotated[str, Field(max_length=80)] | None = None


class WriteRequest(Wire):
    """``POST /api/write``; ``dry_run`` answers what would be done, and does nothing."""

    stack: Stack
    to: FileTarget | RecipeTarget
    dry_run: bool = False


class Started(Wire):
    """What a button did: the command that does the same, the recipe's step, and the job that runs it (None where it is
    done already). Where a symptom's rule was applied to a stack: the ``stack`` as it is then, and the ``turn`` of the
    rule's next step."""

    command: str
    step: str
    job: str | None
    says: list[Words] = Field(default_factory=list)
    stack: Stack | None = None
    turn: int = 0


class SymptomOptions(Wire):
    """How a symptom is repaired: a step's size and its ``turn`` for ``fix`` (how many of the rule's steps a stack has
    seen; a recipe remembers it), effort and measures for ``tune``. ``like`` and
    ``unlike`` are folders of pictures; no measure that runs a program can be asked for here."""

    step: Finite | None = None
    turn: Annotated[int, Field(ge=0, le=1000)] = 0
    quick: bool = True
    measure: tuple[Literal["judge", "votes"], ...] = ()
    like: Id | None = None
    unlike: Id | None = None
    prompts: tuple[Annotated[str, Field(max_length=10_000)], ...] = ()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = ()
    keep: Annotated[float, Field(ge=0, le=1)] | None = None
    parts: Literal["auto", "blocks", "kinds"] = "auto"
    budget: Annotated[str, Field(max_length=20)] | None = None


class SymptomRequest(Wire):
    """``POST /api/symptom``: of a stack, whose numbers come back (fix) or are searched (tune); or of a recipe."""

    symptom: Annotated[str, Field(max_length=80)]
    kind: Literal["fix", "tune"]
    stack: Stack | None = None
    recipe: Id | None = None
    options: SymptomOptions = SymptomOptions()


class EvidenceRow(Wire):
    """A measure before and after, as text with the standard error; ``better`` is ``higher`` or ``lower``."""

    measure: str
    better: str
    before: str
    after: str


class Evidence(Wire):
    """``GET /api/jobs/{id}/evidence``: what a search measured on pictures that it had not seen.

    ``vector``: of the searched LoRA, by block and by rules for kinds of their layers; ``amount``: what the strength of
    the one that is taken away is multiplied by, None where it stays.
    ``picture``: both, side by side. ``lora``: the searched LoRA; None of a recipe's, and of one that is gone.
    """

    sentence: Words
    rows: list[EvidenceRow]
    vector: dict[str, float] | None
    amount: float | None
    picture: Id | None
    notes: list[Words]
    lora: Id | None = None


class Round(Wire):
    """``GET /api/jobs/{id}/round``: what a search by a person's choices asks: the next of its ``pairs``, of which
    ``answered`` are; with ``enough`` the search can go on, and ``pair`` is None when all are answered."""

    number: int
    pairs: int
    answered: int
    enough: bool
    pair: Pair | None


class RoundVote(Wire):
    """``POST /api/jobs/{id}/round``: which picture of a round's pair is better."""

    left: Annotated[str, Field(max_length=200)]
    right: Annotated[str, Field(max_length=200)]
    winner: Literal["left", "right", "none"]


class Symptom(Wire):
    """What can be wrong with pictures, and what the guide does about it."""

    name: str
    help: str
    steps: list[str]


class Catalog(Wire):
    """``GET /api/catalog?family=sd1``: what menus offer for a family."""

    scheme: Scheme
    presets: list[Preset]
    symptoms: list[Symptom]
    samplers: list[str]
