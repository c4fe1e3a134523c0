"""A file made again from the recipe in its own header, and how it compares with what it was."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from loratools.adapter.algebra.lowrank import inner
from loratools.adapter.files.epoch_files import epochs, select
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.metadata import Provenance, guard_overwrite
from loratools.adapter.parallel import in_order
from loratools.blocks.tokens import clip
from loratools.errors import FileError, RecipeError
from loratools.files import replacing
from loratools.launch.launcher import Launcher
from loratools.recipe.importers.detect import import_recipe
from loratools.recipe.importers.loratools_file import has_step
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lineage import Lineage, lineage_of
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.launched import StepLauncher
from loratools.recipe.run.runner import planner_of, run_steps
from loratools.recipe.schema.recipe import Recipe, check_recipe
from loratools.recipe.steps.lora.tune import Tune
from loratools.version import __version__
from loratools.yamlio import load_yaml


@dataclass(frozen=True)
class Reproduced:
    """How a file that was made again compares with the first one.

    Attributes:
        equal: whether every tensor has the same bits.
        digest, wanted: of the new file's tensors, and of the old file's.
        difference: relative, ``|new - old| / |old|`` over all modules; 0 where equal.
        notes: inputs and versions that differ from those that the file was made with.
    """

    digest: str
    wanted: str
    difference: float
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return self.digest == self.wanted

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "equal": self.equal,
            "digest": self.digest,
            "wanted": self.wanted,
            "difference": self.difference,
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """In words."""
        if self.equal:
            head = f"the same: digest {self.digest}"
        else:
            head = (
                f"not the same bits: digest {self.digest[:12]}, the file's is {self.wanted[:12]}; the relative "
                f"difference is {self.difference:.1e}"
            )
        return "\n".join([head, *(f"  {note}" for note in self.notes)])


def reproduce(
    path: Path,
    context: RunContext,
    *,
    out: Path | None = None,
    folder: Path | None = None,
    lora_dirs: Sequence[Path] = (),
    force: bool = False,
    launcher: Launcher | None = None,
) -> Reproduced:
    """Run the recipe in the header of ``path`` in an empty folder, with an empty cache, and compare the results.

    Args:
        out: where the new file goes; it is dropped if None. Of an epoch the whole run is trained again, and the
            epoch of its number is what counts.
        folder: where relative paths of the recipe are looked for, besides the current folder.
        lora_dirs: further folders in which LoRAs are looked for by name.
        force: ``out`` may be a file that another step wrote, or ``path`` itself.
        launcher: of the processes that steps run in; one of several machines makes everything in ``out``'s folder,
            which they share.
    Raises:
        RecipeError: if the header holds no recipe, or what it reads is not here.
        FileError, FormatError: if the file cannot be read, or ``out`` may not be overwritten.
        LoratoolsError: of a step that fails.
    """
    old = read(path, allow_unknown=True)
    shared = out.absolute().parent if out is not None and launcher is not None and launcher.command else None
    if shared is not None:
        shared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shared, prefix=".reproduce-") as scratch:
        lineage, planner = _planner(path, Path(scratch) / "work", folder or Path(), lora_dirs)
        target = lineage.step if lineage else _last_step(planner)
        planned = _planned(planner, target, lineage is None)
        _guard(path, out, planned[-1].owner, force)
        launch = None if launcher is None else StepLauncher(launcher, planner)
        new_file = _file(run_steps(planned, planner.work, context, launch=launch)[-1].planned, old)
        new = read(new_file, allow_unknown=True)
        result = Reproduced(
            new.digest,
            old.digest,
            0.0 if new.digest == old.digest else _difference(old, new),
            tuple(_notes(old, lineage, planned)),
        )
        if out is not None:
            with replacing(out) as part:
                shutil.copyfile(new_file, part)
    return result


def _planned(planner: Planner, target: str, inline: bool) -> list[Planned]:
    try:
        return planner.plan([target])
    except RecipeError as error:
        if not inline:
            raise
        message = f"{error}; the header tells its parts by name alone, so name their folder with `lora_dirs=`"
        raise RecipeError(message) from error


def _guard(path: Path, out: Path | None, owner: str, force: bool) -> None:
    """Raise FileError, before anything runs, if ``out`` may not be written."""
    if out is None:
        return
    if not force and out.exists() and out.samefile(path):
        raise FileError(
            f"{out} is the very file that is made again; choose another name, or overwrite it with `force=True`"
        )
    guard_overwrite(out, owner, force)


def _file(planned: Planned, old: Adapter) -> Path:
    """The file that a step made; of a run, the epoch that ``old`` is."""
    if planned.step_kind.makes_file:
        return planned.out
    provenance = Provenance.from_metadata(old.metadata)
    number = None if provenance is None else str(provenance.step["train"]["epoch"])
    (epoch,) = select(epochs(planned.out), number, run=planned.name)
    return epoch.path


def _planner(path: Path, work: Path, folder: Path, lora_dirs: Sequence[Path]) -> tuple[Lineage | None, Planner]:
    """The recipe of the header; for a command's result, the recipe that says the same."""
    lineage = lineage_of(path)
    provenance = Provenance.from_metadata(read(path, allow_unknown=True).metadata)
    if lineage is None and (provenance is None or not has_step(provenance)):
        hint = (
            " It is an epoch of a training: train again with its settings, see loratools inspect." if provenance else ""
        )
        raise RecipeError(f"{path} holds no recipe in its header, so there is nothing to make it again from.{hint}")
    text = json.dumps(_contained(lineage.data)) if lineage else import_recipe(str(path)).text
    name = lineage.name if lineage else path.stem
    recipe, document = check_recipe(load_yaml(text, str(folder / f"{name}.yaml")))
    _refuse_programs(path, recipe)
    beside = [] if lineage else [path.absolute().parent]  # the header of an inline merge has names alone
    if lora_dirs or beside:
        dirs = [*recipe.lora_dirs, *(str(lora_dir) for lora_dir in (*lora_dirs, *beside))]
        recipe = recipe.model_copy(update={"lora_dirs": dirs})
    return lineage, planner_of(recipe, document, folder, work)


def _contained(data: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's data whose steps all write into the work folder, under the last part of the name at ``out``: what
    they once wrote elsewhere stays as it is, the very file that is made again among it."""
    steps = {name: {**step} for name, step in data["steps"].items()}
    for name, step in steps.items():
        if "out" in step:
            step["out"] = f"{name}/{PureWindowsPath(str(step['out'])).name}"  # whose separators are both systems'
    return {**data, "steps": steps}


def _refuse_programs(path: Path, recipe: Recipe) -> None:
    """Raise RecipeError for a recipe that starts a program: who reads a LoRA file of somebody else's does not expect
    that it runs something."""
    from loratools.measures.request import parse_measure

    for name, step in recipe.steps.items():
        for text in step.options(Tune).measure if step.kind == "tune" else ():
            if parse_measure(text).kind in ("python", "command"):
                raise RecipeError(
                    f"the step '{name}' in the header of {path} runs a program ({clip(text)}), which no LoRA file may "
                    f"start; write the recipe with `loratools recipe import {path} -o recipe.yaml`, read it, and run it"
                )


def _last_step(planner: Planner) -> str:
    return list(planner.recipe.steps)[-1]


def _notes(old: Adapter, lineage: Lineage | None, planned: Sequence[Planned]) -> list[str]:
    """Inputs whose content is other than it was, and another version of the tool."""
    import torch

    now = {source.label: source.digest for step in planned for source in step.draft.inputs if source.step is None}
    before = lineage.inputs if lineage else {}
    notes = [
        f"{label} is not what it was: {now[label][:12]}, and {digest[:12]} when the file was made"
        for label, digest in before.items()
        if now.get(label, digest) != digest
    ]
    provenance = Provenance.from_metadata(old.metadata)
    if provenance is not None and provenance.version != __version__:
        notes.append(f"loratools {provenance.version} made it, this is {__version__}")
    notes.append(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; training repeats bit for bit on a CPU "
        "with equal ones"
    )
    return notes


def _difference(old: Adapter, new: Adapter) -> float:
    """``|new - old| / |old|`` from Gram matrices; infinite where their modules differ."""
    if set(old) != set(new):
        return math.inf

    def squares(name: str) -> tuple[float, float]:
        one, two = old[name], new[name]
        own = inner(one, one)
        return own, own - 2 * inner(one, two) + inner(two, two)

    pairs = list(in_order(squares, old))
    whole, rest = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return math.sqrt(max(rest, 0.0) / whole) if whole else math.inf
