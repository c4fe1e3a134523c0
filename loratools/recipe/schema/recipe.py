"""What a recipe may say, unknown keys forbidden; every mistake is located in its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from loratools.errors import RecipeError
from loratools.recipe.schema.fields import Number, RuleText, Seed, Strict, listed
from loratools.recipe.schema.include import combined
from loratools.recipe.schema.kinds import STEP_KINDS, BorrowedOptions, step_kinds
from loratools.recipe.schema.variables import check_used, filled
from loratools.validation import refusal
from loratools.yamlio import Document, load_yaml, read_yaml

_STEP_NAME = re.compile(r"\w[\w.-]*\Z")


def _step_name(value: str) -> str:
    if not _STEP_NAME.match(value):
        raise ValueError(f"the step name '{value}' may hold letters, digits, '_', '-' and '.' only")
    return value


StepName = Annotated[str, AfterValidator(_step_name)]

Options = TypeVar("Options", bound=Strict)


class Step(Strict):
    """One step: exactly one kind, and perhaps the name of its file or folder."""

    # the kinds, each a field of its own, are added by recipe_model()
    out: str | None = Field(None, description="the name of its file or folder; the step's own name if left out")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        """``basestyle:`` with nothing after it asks for that step with its own defaults."""
        if isinstance(value, dict):
            return {key: {} if item is None and key in STEP_KINDS else item for key, item in value.items()}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        given = [kind for kind in STEP_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            has = f"has {' and '.join(given)}" if given else "has none"
            raise ValueError(f"a step needs exactly one of {', '.join(STEP_KINDS)}; this one {has}")
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
        return next(kind for kind in STEP_KINDS if getattr(self, kind) is not None)

    def options(self, model: type[Options]) -> Options:
        """The options of a step whose kind is known to be ``model``'s."""
        options = getattr(self, self.kind)
        if not isinstance(options, model):
            raise TypeError(f"a {self.kind} step has no {model.__name__}")
        return options

    @property
    def settings(self) -> dict[str, Any]:
        """The options of a step whose kind has :class:`.kinds.BorrowedOptions`, as they stand in the recipe."""
        return dict(getattr(self, self.kind))


class Recipe(Strict):
    """A whole recipe file."""

    version: Literal[1] = Field(1, description="of this format")
    include: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="recipes whose vars, blocks, lora_dirs and steps come first; this file's own entries win"
    )
    vars: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="named values for `${name}` anywhere below; `--set name=value` overrides"
    )
    base: str = Field("pocket", description="a Diffusers folder, a .safetensors or .ckpt file, a hub id, or pocket")
    vae: str | None = Field(
        None, description="what grids decode with instead of the base's own: a Diffusers folder, a file or a hub id"
    )
    seed: Seed = Field(1, description="of every step that does not name its own")
    blocks: dict[str, list[Number | RuleText] | str] = Field(
        default_factory=dict,
        description="named block vectors, over the built-in ones: numbers and rules for parts of blocks, or text",
    )
    lora_dirs: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="folders in which LoRA names are looked for, besides the recipe's own"
    )
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None, description="how many run its steps at once on this machine, each on a GPU of its own; auto: one a GPU"
    )
    launch: str | None = Field(
        None, description="a launcher's command that starts the processes instead, such as `accelerate launch`"
    )
    steps: dict[StepName, Step] = Field(min_length=1, description="name: {kind: options, out: file or folder}")

    @model_validator(mode="after")
    def _one_launcher(self) -> Recipe:
        if self.processes is not None and self.launch is not None:
            raise ValueError("'processes' and 'launch' exclude each other; drop one of the two")
        return self


@cache
def recipe_model() -> type[Recipe]:
    """:class:`Recipe` with the options of every kind of step, whose modules are imported now."""
    fields: dict[str, Any] = {
        name: (dict[str, Any] | None if isinstance(kind.options, BorrowedOptions) else kind.options | None, None)
        for name, kind in step_kinds().items()
    }
    kinds = create_model("Kinds", __base__=Strict, **fields)
    # of several parents the last one's fields come first: `out` stands after the kinds in messages and schema
    step = create_model("Step", __base__=(Step, kinds), __doc__=Step.__doc__)
    steps: dict[str, Any] = {"steps": (dict[StepName, step], Recipe.model_fields["steps"])}  # type: ignore[valid-type]
    return create_model("Recipe", __base__=Recipe, __doc__=Recipe.__doc__, **steps)


def read_recipe(path: str | Path, values: Mapping[str, str] | None = None) -> tuple[Recipe, Document]:
    """Read and check the recipe at ``path``.

    Args:
        values: variables by name, as text, in place of the file's own.
    Raises:
        RecipeError: naming the file, the line, the key and the nearest valid word.
    """
    return check_recipe(read_yaml(path), values)


def parse_recipe(text: str, source: str = "<recipe>") -> tuple[Recipe, Document]:
    """:func:`read_recipe` for text that is already in hand."""
    return check_recipe(load_yaml(text, source))


def check_recipe(document: Document, values: Mapping[str, str] | None = None) -> tuple[Recipe, Document]:
    """The document as a :class:`Recipe`, and the document itself with includes and variables put in.

    Raises:
        RecipeError: as for :func:`read_recipe`.
    """
    if not isinstance(document.data, dict):
        raise RecipeError(f"{document.source}: no recipe; write `steps:` with at least one step")
    whole = combined(document)
    document = filled(whole, values or {})
    try:
        recipe = recipe_model().model_validate(document.data)
    except ValidationError as error:
        raise refusal(error, document, recipe_model()) from error
    check_used(whole)  # after all else: a mistyped key hides what it holds
    return recipe, document
