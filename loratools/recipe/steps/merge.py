"""``merge``: the exact weighted sum of earlier steps and LoRA files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import RankError, RecipeError
from loratools.recipe.plan import Draft, Outcome, Planner
from loratools.recipe.references import Terms, best_epoch, read_terms
from loratools.recipe.schema import Merge, Step
from loratools.recipe.session import Session

if TYPE_CHECKING:
    from loratools.ops.merge import MergePlan
    from loratools.ops.terms import Term

REVISION = 1


def default_out(name: str) -> Path:
    """A file."""
    return Path(f"{name}.safetensors")


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Read the merge string, find its files, and put block vectors in by value."""
    from loratools.adapter.rank import parse_rank

    settings = step.merge
    assert settings is not None
    presets = planner.presets(settings.presets)
    terms = read_terms(settings.terms, name, planner, presets, "merge", "terms")
    try:
        rank = parse_rank(settings.rank).text()
    except RankError as error:
        raise RecipeError(f"{planner.where(name, 'merge', 'rank')}: {error}") from error
    options = {
        "terms": terms.options(presets),
        "rank": rank,
        "dtype": settings.dtype,
        "missing": settings.missing,
    }
    return Draft(options, terms.sources, lambda out, session: _make(out, session, settings, terms, name, planner))


def merge_plan(name: str, planner: Planner) -> MergePlan:
    """What the merge step ``name`` would do, block by block; the steps that it needs must have run."""
    from loratools.ops.merge import plan

    return plan(merge_terms(name, planner))


def merge_terms(name: str, planner: Planner) -> list[Term]:
    """The terms of the merge step ``name``, their files opened; the steps that it needs must have run."""
    settings = planner.recipe.steps[name].merge
    assert settings is not None
    terms = read_terms(settings.terms, name, planner, planner.presets(settings.presets), "merge", "terms")
    return _resolve(settings, terms, planner)


def _resolve(settings: Merge, terms: Terms, planner: Planner) -> list[Term]:
    from loratools.ops.terms import resolve_terms

    return resolve_terms(
        terms.specs, terms.lookup(), presets=planner.presets(settings.presets), missing=settings.missing,
        best=best_epoch,
    )  # fmt: skip


def _make(out: Path, session: Session, settings: Merge, terms: Terms, name: str, planner: Planner) -> Outcome:
    from loratools.adapter.rank import parse_rank
    from loratools.adapter.save import DTYPES
    from loratools.ops.merge import merge_files

    report = merge_files(_resolve(settings, terms, planner), out, rule=parse_rank(settings.rank),
                         dtype=DTYPES[settings.dtype], force=session.force, owner=planner.owner(name))  # fmt: skip
    text = f"{report.modules} modules, rank {report.rank}, {report.size / 2**20:.1f} MiB, error {report.error:.1e}"
    return Outcome(text, report.json())
