"""``/api/stack/explain``, ``/api/write``, ``/api/symptom``: what a stack is, and what becomes of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route

from loratools.blocks.symptoms import find_symptom
from loratools.errors import StudioError
from loratools.recipe.edit.fix import fix
from loratools.recipe.edit.log import EditResult
from loratools.recipe.edit.numbers import NewNumbers, role_of, set_numbers
from loratools.studio.api.stacks import (
    ExplainAnswer,
    ExplainRequest,
    FileTarget,
    HeatCell,
    RecipeTarget,
    Stack,
    Started,
    SymptomRequest,
    WriteRequest,
)
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import post
from loratools.studio.handlers.job_commands import device, plain_prompt
from loratools.studio.handlers.recipes import find_recipe
from loratools.studio.handlers.rule import apply_rule
from loratools.studio.jobs.commands import Command, command_text, step_text
from loratools.studio.stacks import base_of, merge_string, weights_of

_SUFFIX = ".safetensors"
_CONFLICT = 409


def explain(studio: Studio, request: Request, body: ExplainRequest) -> ExplainAnswer:
    """Where the norm of a stack lies, and what changed to another."""
    other = merge_string(body.other, studio.roots) if body.other is not None else None
    found = studio.measurer.ask(merge_string(body.stack, studio.roots), other)
    heat = None if found["heat"] is None else [HeatCell(**cell) for cell in found["heat"]]
    return ExplainAnswer(shares=found["shares"], norm=found["norm"], heat=heat, warnings=tuple(found["warnings"]))


def write(studio: Studio, request: Request, body: WriteRequest) -> Started:
    """Write a stack as a file, by a job; or its numbers into a recipe, at once."""
    if isinstance(body.to, FileTarget):
        command = _merge(studio, body.stack, body.to)
        return _shown(command) if body.dry_run else _started(studio, command)
    return _edit(studio, body.stack, body.to, dry_run=body.dry_run)


def symptom(studio: Studio, request: Request, body: SymptomRequest) -> Started:
    """Repair a symptom: by the guide's rule in a recipe or a stack, at once; or by a search, as a job."""
    find_symptom(body.symptom)
    if body.kind == "fix":
        return apply_rule(studio, body) if body.recipe is None and body.stack is not None else _fix(studio, body)
    return _started(studio, _tune(studio, body))


def _merge(studio: Studio, stack: Stack, to: FileTarget) -> Command:
    root = studio.roots.root(to.root)
    out = studio.roots.new_file(to.root, to.name, _SUFFIX)
    if out.exists() and not to.force:
        raise problem("file.exists", status=_CONFLICT, name=out.name)
    text = merge_string(stack, studio.roots)
    argv = ["merge", text, "-o", str(out), "--dtype", to.dtype]
    argv += ["--rank", to.rank] if to.rank != "exact" else []
    argv += ["--force"] if to.force else []
    shown = text.replace(f"{root.path}/", "")
    options = shown if to.rank == "exact" and to.dtype == "fp16" else _options(shown, to)
    step = step_text("final", "merge", options, out.name)
    return Command("merge", f"write {out.name}", tuple(argv), root.path, False, step, results=(out,))


def _options(terms: str, to: FileTarget) -> dict[str, str]:
    return {"terms": terms, "dtype": to.dtype, **({} if to.rank == "exact" else {"rank": to.rank})}


def _edit(studio: Studio, stack: Stack, to: RecipeTarget, *, dry_run: bool) -> Started:
    """The weights of one term of the stack into the recipe's vector."""
    path = find_recipe(studio, to.recipe)
    if not 0 <= to.term < len(stack.terms):
        raise StudioError(f"the stack has no term {to.term}")
    weights = weights_of(stack.terms[to.term], studio.roots)
    numbers = NewNumbers(weights, say="set in the studio", role=role_of(path, to.vector, to.merge))
    edited = set_numbers(path, numbers, merge=to.merge, dry_run=dry_run)
    return _edited(studio, path, edited)


def _fix(studio: Studio, body: SymptomRequest) -> Started:
    if body.recipe is None:
        raise StudioError("the guide's rule edits a recipe", remedy="open a recipe, or search for a vector")
    path = find_recipe(studio, body.recipe)
    size = Decimal(str(body.options.step)) if body.options.step is not None else Decimal("0.1")
    return _edited(studio, path, fix(path, [body.symptom], size=size), f"--symptom {body.symptom}")


def _edited(studio: Studio, path: Path, edited: EditResult, flags: str = "") -> Started:
    """What an edit of a recipe did, in words; the command line's ``blocks undo`` takes it back."""
    studio.index.look_soon()
    changes = "; ".join(f"{own.vector} {own.block} {own.before} -> {own.after}" for own in edited.changes)
    root = studio.roots.root_of(path)
    words = ["blocks", "fix", str(path), *flags.split()] if flags else ["blocks", "undo", str(path)]
    command = command_text(words, root.path if root else path.parent)
    note = changes or "nothing had to change"
    return Started(command=command, step="", job=None, note="; ".join([note, *edited.notes]))


def _tune(studio: Studio, body: SymptomRequest) -> Command:
    """``loratools blocks tune``."""
    options = body.options
    if (body.recipe is None) == (body.stack is None):
        raise StudioError("give a stack or a recipe, one of the two")
    if body.recipe is not None:
        path = find_recipe(studio, body.recipe)
        root = studio.roots.root_of(path)
        what, base, cwd = str(path), None, root.path if root else path.parent
        name = path.stem
    else:
        stack = body.stack or Stack(terms=[], base="")
        what, base, cwd = (
            merge_string(stack, studio.roots),
            base_of(stack.base, studio.roots),
            studio.roots.roots[0].path,
        )
        name = studio.roots.path(stack.terms[0].lora).stem
    chosen = "-votes" if "votes" in options.measure else ""  # each measure a folder of its own
    root_of = studio.roots.root_of(cwd) or studio.roots.roots[0]
    out = studio.roots.new_folder(root_of.id, f"{name}-{body.symptom}{chosen}")
    argv = ["blocks", "tune", what, *(["--base", base] if base else []), "--symptom", body.symptom, "-o", str(out)]
    for measure in options.measure:
        argv += ["--measure", measure]
    for flag, folder in (("like", options.like), ("unlike", options.unlike)):
        argv += ["--measure", f"{flag}={studio.roots.path(folder)}"] if folder else []
    for prompt in options.prompts:
        argv += ["--prompts", plain_prompt(prompt, cwd)]
    argv += ["--seeds", ",".join(map(str, options.seeds))] if options.seeds else []
    argv += ["--keep", f"{options.keep:g}"] if options.keep is not None else []
    argv += ["--budget", options.budget] if options.budget else []
    argv += ["--quick"] if options.quick else []
    argv += device(studio)
    title = f"tune {name} for {body.symptom}"
    return Command("tune", title, tuple(argv), cwd, True, results=(out,))


def _shown(command: Command) -> Started:
    """What would be started."""
    return Started(command=command.text, step=command.step, job=None)


def _started(studio: Studio, command: Command) -> Started:
    record = studio.queue.add(command)
    return Started(command=command.text, step=command.step, job=record.id)


ROUTES: list[Route] = [
    post("/api/stack/explain", ExplainRequest, explain),
    post("/api/write", WriteRequest, write),
    post("/api/symptom", SymptomRequest, symptom),
]
