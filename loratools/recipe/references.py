"""What a merge string inside a recipe refers to: earlier steps by name (``style@8``), runs and files on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import BlockError, FileError, LoratoolsError, RecipeError
from loratools.recipe.plan import Planned, Planner, Source, digest_of

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.ops.terms import TermSpec

_RUNS = ("train", "basestyle")
_LORAS = (*_RUNS, "merge")
_FAMILIES = ("sd1", "sdxl", "flux")  # sd2 has the blocks of sd1


@dataclass(frozen=True)
class Terms:
    """A merge string, read: its terms, what they read, and each name's place on disk."""

    specs: tuple[TermSpec, ...]
    sources: tuple[Source, ...]
    places: dict[str, Path]

    def lookup(self) -> Callable[[str], Path]:
        """Name -> file or run, for :func:`loratools.ops.terms.resolve_terms`."""
        return lambda ref: self.places[ref]

    def options(self, presets: Presets) -> list[dict[str, Any]]:
        """The terms as JSON values that change only when the sum does: vectors by value, names left out."""
        return [
            {
                "weight": spec.weight,
                "te": spec.te,
                "unet": spec.unet,
                "epoch": spec.epoch,
                "vector": None if spec.vector_text is None else vector_values(spec.vector_text, presets),
            }
            for spec in self.specs
        ]


def read_terms(text: str, name: str, planner: Planner, presets: Presets, *place: str | int) -> Terms:
    """Read ``text`` in step ``name`` and find everything that it names.

    Raises:
        RecipeError: naming the file and the line, for text that is no merge string, a name that is nothing, an epoch
            that the run will not have, or a block vector that is none.
    """
    from loratools.blocks.vector import parse_vector
    from loratools.ops.terms import parse_merge_string

    where = planner.where(name, *place)
    try:
        specs = tuple(parse_merge_string(text))
        for spec in specs:
            if spec.vector_text is not None:
                parse_vector(spec.vector_text, presets)
        sources = tuple(_source(spec, planner, name, place) for spec in specs)
    except RecipeError:
        raise
    except LoratoolsError as error:
        raise RecipeError(f"{where}: {error}") from error
    return Terms(specs, sources, {spec.ref: source.path for spec, source in zip(specs, sources, strict=True)})


def vector_values(text: str, presets: Presets) -> list[list[Any]]:
    """What a vector's text means, whatever its spelling: for each scheme that it fits, the weights by block."""
    from loratools.blocks.vector import parse_vector

    found = []
    for family in _FAMILIES:
        with contextlib.suppress(BlockError):  # it does not fit this family
            vector = parse_vector(text, presets, family)
            rules = [[[rule.where, rule.weight] for rule in vector.rules]] if vector.rules else []
            found.append([vector.scheme.name, dict(vector.weights), *rules])
    return found


def best_epoch(run: Path) -> int:
    """The epoch of ``run`` with the lowest mean training loss among its later half, from the run's own log.

    Early epochs are left out: there a low loss says more about which images came last than about the LoRA.

    Raises:
        FileError: if the run has no log of ours.
    """
    from loratools.adapter.run import epochs

    found = epochs(run)
    log = found[0].path.with_name(f"{found[0].path.stem[:-7]}.jsonl")
    losses = _losses(log)
    later = [epoch.number for epoch in found[len(found) // 2 :] if epoch.number in losses]
    if not later:
        raise FileError(f"{run}@best needs the losses in {log}, which has none; name an epoch, such as "
                        f"{run}@{found[-1].number}")  # fmt: skip
    return min(later, key=lambda number: (losses[number], -number))


def _losses(log: Path) -> dict[int, float]:
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    losses = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the line that a kill cut short
        if isinstance(record, dict) and record.get("kind") == "epoch" and math.isfinite(record["loss"]):
            losses[int(record["epoch"])] = float(record["loss"])
    return losses


def _source(spec: TermSpec, planner: Planner, name: str, place: Sequence[str | int]) -> Source:
    label = spec.ref if spec.epoch is None else f"{spec.ref}@{spec.epoch}"
    if spec.ref in planner.recipe.steps:
        planned = planner.step(spec.ref)
        _check_lora(planned, spec, planner.where(name, *place))
        return Source(label, planned.out, f"{planned.key}@{spec.epoch or ''}", planned.name)
    path = _file(spec, planner, name, place)
    return Source(label, path, _digest(path))


def _check_lora(planned: Planned, spec: TermSpec, where: str) -> None:
    if planned.kind not in _LORAS:
        raise RecipeError(f"{where}: the step '{planned.name}' is a {planned.kind}, which makes no LoRA")
    if spec.epoch is None:
        return
    if planned.kind not in _RUNS or planned.draft.epochs is None:
        raise RecipeError(f"{where}: the step '{planned.name}' is no run, so it has no epochs; drop '@{spec.epoch}'")
    numbers = [int(part) for part in spec.epoch.split("-") if part.isdigit()]
    if any(not 1 <= number <= planned.draft.epochs for number in numbers):
        raise RecipeError(f"{where}: '{planned.name}@{spec.epoch}' asks for an epoch that the run will not have; "
                          f"it has 1 to {planned.draft.epochs}")  # fmt: skip


def _file(spec: TermSpec, planner: Planner, name: str, place: Sequence[str | int]) -> Path:
    from loratools.adapter.run import find_lora

    whole = spec.ref if spec.epoch is None else f"{spec.ref}@{spec.epoch}"
    for text in (whole, f"{whole}.safetensors", spec.ref, f"{spec.ref}.safetensors"):
        found = planner.find(text)
        if found is not None:
            return found
    try:
        return find_lora(spec.ref, planner.lora_dirs)
    except FileError:
        return planner.source(spec.ref, name, *place).path  # says what there is


def _digest(path: Path) -> str:
    from loratools.adapter.run import epochs, is_run

    if path.is_dir() or not path.exists():
        if not is_run(path):
            epochs(path)  # says why
        lines = [f"{epoch.number} {digest_of(epoch.path)}" for epoch in epochs(path)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return digest_of(path)
