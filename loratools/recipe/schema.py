"""What a recipe may say: one frozen model a step kind, unknown keys forbidden, every mistake located in the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from loratools.errors import RecipeError
from loratools.recipe.located import located
from loratools.yamlio import Document, load_yaml, read_yaml

KINDS = ("draw", "train", "basestyle", "merge", "grid")
_STEP_NAME = re.compile(r"\w[\w.-]*\Z")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _joined(value: Any) -> Any:
    """A bare number or a list of numbers, written out as the text that the option takes."""
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items):
        return ",".join(format(item, "g") for item in items)
    return value


def _step_name(value: str) -> str:
    if not _STEP_NAME.match(value):
        raise ValueError(f"the step name '{value}' may hold letters, digits, '_', '-' and '.' only")
    return value


StepName = Annotated[str, AfterValidator(_step_name)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
NumberText = Annotated[str, BeforeValidator(_joined)]
Dtype = Literal["fp16", "bf16", "fp32"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Draw(_Strict):
    """``draw``: captioned drawings by the pocket's own drawing program, to train a style on."""

    style: str
    count: Count = 24
    seed: Seed | None = None  # None: the recipe's
    size: Annotated[int, Field(ge=32, le=1024)] = 128


class Merge(_Strict):
    """``merge``: the exact weighted sum of LoRA files or earlier steps."""

    terms: str
    rank: NumberText = "exact"
    dtype: Dtype = "fp16"
    missing: Literal[0, 1] | None = None  # weight of the modules in blocks that a short vector leaves out
    presets: str | None = None  # a file of more named vectors

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"terms": value} if isinstance(value, str) else value


class Grid(_Strict):
    """``grid``: pictures of every row at every weight, beside the base alone."""

    rows: Texts
    weights: NumberText = "0:1:0.25"
    prompts: Texts  # texts, or one file of them, a line each
    negative: str = ""
    seeds: NumberText | None = None  # 1, [1, 2] or 1-4; None: the recipe's
    steps: Count | None = None
    cfg: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    sampler: str | None = None
    size: NumberText | None = None
    clip_skip: Annotated[int, Field(ge=1, le=12)] | None = None
    batch_size: Count | None = None
    dtype: Dtype | None = None
    missing: Literal[0, 1] | None = None
    judge: str | None = None  # pocket only: score how much of this style each row shows


class Step(_Strict):
    """One step: exactly one kind, and perhaps the name of its file or folder."""

    draw: Draw | None = None
    train: dict[str, Any] | None = None  # the settings of `loratools train`, checked by its own model
    basestyle: dict[str, Any] | None = None
    merge: Merge | None = None
    grid: Grid | None = None
    out: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        """``basestyle:`` with nothing after it asks for that step with its own defaults."""
        if isinstance(value, dict):
            return {key: {} if item is None and key in KINDS else item for key, item in value.items()}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has none"
            raise ValueError(f"a step needs exactly one of {', '.join(KINDS)}; this one {found}")
        return self

    @field_validator("out")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or ".." in Path(value).parts):
            raise ValueError("name a file or folder inside the work folder, or an absolute path")
        return value

    @property
    def kind(self) -> str:
        """The kind that was given."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


class Recipe(_Strict):
    """A whole recipe file."""

    version: Literal[1] = 1
    base: str = "pocket"
    seed: Seed = 1
    blocks: dict[str, list[float] | str] = Field(default_factory=dict)  # named vectors, over the built-in ones
    lora_dirs: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    steps: dict[StepName, Step] = Field(min_length=1)


def read_recipe(path: str | Path) -> tuple[Recipe, Document]:
    """Read and check the recipe at ``path``.

    Raises:
        RecipeError: naming the file, the line, the key and the nearest valid word.
    """
    return check_recipe(read_yaml(path))


def parse_recipe(text: str, source: str = "<recipe>") -> tuple[Recipe, Document]:
    """:func:`read_recipe` for text that is already in hand."""
    return check_recipe(load_yaml(text, source))


def check_recipe(document: Document) -> tuple[Recipe, Document]:
    """The document as a :class:`Recipe`, and the document itself.

    Raises:
        RecipeError: as for :func:`read_recipe`.
    """
    if not isinstance(document.data, dict):
        raise RecipeError(f"{document.source}: no recipe; write `steps:` with at least one step")
    try:
        return Recipe.model_validate(document.data), document
    except ValidationError as error:
        raise located(error, document, Recipe) from error
