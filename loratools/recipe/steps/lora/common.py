"""What the steps that read and write LoRA files share: their options, terms opened, rank rules checked, reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from loratools.dtypes import Dtype
from loratools.errors import RankError
from loratools.recipe.plan.lora_refs import Terms
from loratools.recipe.plan.paths import RecipePaths
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Outcome, StepInput
from loratools.recipe.schema.fields import Missing, NumberText, Short
from loratools.train.output.epoch_report import best_epoch
from loratools.train.output.recorded_verdict import stale_note

if TYPE_CHECKING:
    from loratools.adapter.files.file import Weights
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.terms import Term
    from loratools.ops.report import MergeReport


class StoredOptions(Short):
    """Options of every step that writes a LoRA file."""

    rank: NumberText = Field("exact", description="exact, a number, error=0.01, energy=0.999 or size=36MiB")
    dtype: Dtype = Field("fp16", description="storage type")


class TermOptions(StoredOptions):
    """Options of steps that read merge strings and write a LoRA file."""

    missing: Missing | None = Field(
        None, description="weight of the modules in blocks that a short vector does not list"
    )
    presets: str | None = Field(None, description="a file of more named vectors")
    dora: bool = Field(False, description="read DoRA files with the weights of the recipe's base")
    allow_unknown: bool = Field(False, description="carry keys that no table knows instead of refusing their file")


class ReadOptions(Protocol):
    """The options that :func:`open_terms` reads files by, whatever step they are of."""

    @property
    def missing(self) -> float | None:
        """Weight of the modules in blocks that a short vector does not list; without one, such a vector is an error."""

    @property
    def dora(self) -> bool:
        """Whether to read DoRA files with the base's weights."""

    @property
    def allow_unknown(self) -> bool:
        """Whether to carry keys that no table knows."""


def rank_text(text: str, request: StepRequest) -> str:
    """A step's rank rule, spelled in the one way that keys are made of.

    Raises:
        RecipeError: if it is none.
    """
    from loratools.adapter.algebra.rank import parse_rank

    try:
        return parse_rank(text).text()
    except RankError as error:
        raise request.error("rank", message=str(error)) from error


def open_terms(terms: Terms, options: ReadOptions, presets: Presets, paths: RecipePaths) -> list[Term]:
    """The terms with their files opened; the steps that they need must have run.

    Raises:
        LoratoolsError: of the kinds that :func:`loratools.ops.merging.terms.resolve_terms` names.
    """
    from loratools.adapter.files.lora_file import KeyRules
    from loratools.ops.merging.terms import resolve_terms

    return resolve_terms(
        terms.specs,
        terms.lookup(),
        presets=presets,
        missing=options.missing,
        best=best_epoch,
        best_note=stale_note,
        keys=KeyRules(options.allow_unknown),
        base=base_weights(paths) if options.dora else None,
    )


def base_weights(paths: RecipePaths) -> Weights:
    """The base's tensors by canonical name, read as they are needed."""
    from loratools.adapter.files.checkpoint import open_checkpoint

    return open_checkpoint(paths.base_path())


def with_base(inputs: tuple[StepInput, ...], dora: bool, paths: RecipePaths) -> tuple[StepInput, ...]:
    """The inputs, and the base where DoRA files depend on it."""
    return (*inputs, paths.base_input()) if dora else inputs


def outcome_of(report: MergeReport, facts: Mapping[str, Any] | None = None) -> Outcome:
    """A written LoRA file in a line, with ``facts`` in place of the report's own."""
    text = f"{report.modules} modules, rank {report.rank}, {report.size / 2**20:.1f} MiB, error {report.error:.1e}"
    return Outcome(text, facts or report.json())
