"""What the steps that read and write LoRA files share: terms opened, rank rules checked, a result told in a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import RankError
from loratools.recipe.plan.lora_refs import Terms
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Outcome, StepInput
from loratools.train.output.epoch_report import best_epoch

if TYPE_CHECKING:
    from loratools.adapter.files.file import Weights
    from loratools.ops.merging.terms import Term
    from loratools.ops.report import MergeReport


def file_out(name: str) -> Path:
    """A LoRA file of the step's name."""
    return Path(f"{name}.safetensors")


def rank_text(text: str, name: str, kind: str, planner: Planner) -> str:
    """A rank rule in its one spelling.

    Raises:
        RecipeError: if it is none.
    """
    from loratools.adapter.algebra.rank import parse_rank

    try:
        return parse_rank(text).text()
    except RankError as error:
        raise planner.error(name, kind, "rank", message=str(error)) from error


def open_terms(
    terms: Terms,
    planner: Planner,
    *,
    presets: str | None = None,
    missing: float | None = None,
    dora: bool = False,
    allow_unknown: bool = False,
) -> list[Term]:
    """The terms, their files opened; the steps that they need must have run."""
    from loratools.ops.merging.terms import resolve_terms

    return resolve_terms(
        terms.specs,
        terms.lookup(),
        presets=planner.paths.presets(presets),
        missing=missing,
        best=best_epoch,
        allow_unknown=allow_unknown,
        base=base_weights(planner) if dora else None,
    )


def base_weights(planner: Planner) -> Weights:
    """The base's tensors by canonical name, read as they are needed."""
    from loratools.adapter.files.checkpoint import open_checkpoint

    return open_checkpoint(planner.paths.base_path())


def with_base(sources: tuple[StepInput, ...], dora: bool, planner: Planner) -> tuple[StepInput, ...]:
    """The sources, and the base where DoRA files depend on it."""
    return (*sources, planner.paths.base_input()) if dora else sources


def told(report: MergeReport, facts: dict[str, Any] | None = None) -> Outcome:
    """A written LoRA file in a line."""
    text = f"{report.modules} modules, rank {report.rank}, {report.size / 2**20:.1f} MiB, error {report.error:.1e}"
    return Outcome(text, facts or report.json())
