"""``/api/stack/explain``, ``/api/write``, ``/api/symptom``: what a stack is, and what becomes of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route

from loratools.blocks.symptoms import find_symptom
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
from loratools.studio.api.words import plain, problem, quoted, words
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import post
from loratools.studio.handlers.job_commands import device, plain_prompt
from loratools.studio.handlers.recipes import find_recipe
from loratools.studio.handlers.rule import apply_rule
from loratools.studio.jobs.commands import Command, command_text, from_folder, step_text
from loratools.studio.stacks import base_of, merge_string, weights_of

_SUFFIX = ".safetensors"
_CONFLICT = 409


def explain(studio: Studio, request: Request, body: ExplainRequest) -> ExplainAnswer:
    """Where the norm of a stack lies, and what changed to another."""
    other = merge_string(body.other, studio.roots) if body.other is not None else None
    found = studio.measurer.ask(merge_string(body.stack, studio.roots), other)
    heat = None if found["heat"] is None else [HeatCell(**cell) for cell in found["heat"]]
    return ExplainAnswer(
        shares=found["shares"], norm=found["norm"], heat=heat, warnings=tuple(map(quoted, found["warnings"]))
    )


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
    shown = from_folder(text, root.path)
    options = shown if to.rank == "exact" and to.dtype == "fp16" else _options(shown, to)
    step = step_text("final", "merge", options, out.name)
    return Command("merge", f"write {out.name}", tuple(argv), root.path, False, step, results=(out,))


def _options(terms: str, to: FileTarget) -> dict[str, str]:
    return {"terms": terms, "dtype": to.dtype, **({} if to.rank == "exact" else {"rank": to.rank})}


def _edit(studio: Studio, stack: Stack, to: RecipeTarget, *, dry_run: bool) -> Started:
    """The weights of one term of the stack into the recipe's vector."""
    path = find_recipe(studio, to.recipe)
    if not 0 <= to.term < len(stack.terms):
        raise problem("stack.term", term=to.term)
    weights = weights_of(stack.terms[to.term], studio.roots)
    role = role_of(path, to.vector, to.merge)
    numbers = NewNumbers.of_weights(weights, say="set in the studio", role=role)
    edited = set_numbers(path, numbers, merge=to.merge, dry_run=dry_run)
    return _edited(studio, path, edited)


def _fix(studio: Studio, body: SymptomRequest) -> Started:
    if body.recipe is None:
        raise problem("rule.recipe")
    path = find_recipe(studio, body.recipe)
    size = Decimal(str(body.options.step)) if body.options.step is not None else Decimal("0.1")
    return _edited(studio, path, fix(path, [body.symptom], size=size), f"--symptom {body.symptom}")


def _edited(studio: Studio, path: Path, edited: EditResult, flags: str = "") -> Started:
    """What an edit of a recipe did, in words; the command line's ``blocks undo`` takes it back."""
    studio.index.look_soon()
    changes = "; ".join(f"{own.vector} {' '.join(own.text().split())}" for own in edited.changes)
    root = studio.roots.root_of(path)
    argv = ["blocks", "fix", str(path), *flags.split()] if flags else ["blocks", "undo", str(path)]
    command = command_text(argv, root.path if root else path.parent)
    done = plain(changes) if changes else words("edit.none")
    return Started(command=command, step="", job=None, says=[done, *map(quoted, edited.notes)])


def _tune(studio: Studio, body: SymptomRequest) -> Command:
    """``loratools blocks tune``."""
    options = body.options
    if (body.recipe is None) == (body.stack is None):
        raise problem("stack.one")
    if body.recipe is not None:
        path = find_recipe(studio, body.recipe)
        root = studio.roots.root_of(path)
        what, base, cwd = str(path), None, root.path if root else path.parent
        name, read = path.stem, [path]
    else:
        stack = body.stack or Stack(terms=[], base="")
        what, base, cwd = (
            merge_string(stack, studio.roots),
            base_of(stack.base, studio.roots),
            studio.roots.roots[0].path,
        )
        read = [studio.roots.path(own.lora) for own in stack.terms]
        name = read[0].stem
    argv = ["blocks", "tune", what, *(["--base", base] if base else []), "--symptom", body.symptom]
    argv += ["--parts", options.parts] if options.parts != "auto" else []
    for measure in options.measure:
        argv += ["--measure", measure]
    for flag, folder in (("like", options.like), ("unlike", options.unlike)):
        argv += ["--measure", f"{flag}={studio.roots.path(folder)}"] if folder else []
    for prompt in options.prompts:
        argv += ["--prompts", plain_prompt(prompt, cwd)]
    argv += ["--seeds", ",".join(map(str, options.seeds))] if options.seeds else []
    argv += ["--keep", f"{options.keep:g}"] if options.keep is not None else []
    argv += ["--quick"] if options.quick else []
    root_of = studio.roots.root_of(cwd) or studio.roots.roots[0]
    chosen = "-votes" if "votes" in options.measure else ""
    out = _search_folder(studio, root_of.id, f"{name}-{body.symptom}{chosen}", argv, read)
    argv += ["-o", str(out)]
    argv += ["--budget", options.budget] if options.budget else []
    argv += device(studio)
    title = f"tune {name} for {body.symptom}"
    return Command("tune", title, tuple(argv), cwd, True, results=(out,))


def _search_folder(studio: Studio, root: str, name: str, argv: Sequence[str], read: Sequence[Path]) -> Path:
    """A folder in which this very search goes on, where an earlier job began it; else a new one: a folder holds one.

    Args:
        argv: all that says what is searched.
        read: what it reads; what changed since an earlier job began makes another search.
    """
    changed = max(
        (path.stat().st_mtime for path in read if path.exists()), default=0.0
    )  # the search names what is gone
    searches = [job for job in studio.queue.jobs() if job.kind == "tune"]
    for job in searches:
        if job.argv[: len(argv) + 1] == (*argv, "-o") and changed < job.created:
            return Path(job.results[0])
    taken = {own for job in searches for own in job.results}
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    folders = (studio.roots.new_folder(root, own) for own in names)
    return next(own for own in folders if not own.exists() and str(own) not in taken)


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
