"""What a merge string inside a recipe refers to: earlier steps by name (``style@8``), runs and files on disk."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import BlockError, FileError, LoratoolsError, RecipeError
from loratools.ops.merging.merge_string import quoted
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import Planner, StepRequest
from loratools.recipe.plan.step import Planned, StepInput
from loratools.train.output.epoch_report import best_epoch

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.merge_string import TermSpec

_FAMILIES = ("sd1", "sdxl", "flux")  # sd2 has the blocks of sd1; what fits none of them may be SD3's


@dataclass(frozen=True)
class Terms:
    """A merge string, read: its terms, what they read, and each name's path on disk."""

    specs: tuple[TermSpec, ...]
    inputs: tuple[StepInput, ...]
    paths: dict[str, Path]
    families: tuple[str | None, ...] = ()  # of each term's LoRA, where that is known before anything runs

    @property
    def family(self) -> str | None:
        """The family of all of them, if it is known."""
        return next((family for family in self.families if family), None)

    def lookup(self) -> Callable[[str], Path]:
        """Name -> file or run, for :func:`loratools.ops.merging.terms.resolve_terms`."""

        def find(ref: str) -> Path:
            if ref not in self.paths:
                raise FileError(f"'{ref}' is no name in this merge string; it has {', '.join(self.paths)}")
            return self.paths[ref]

        return find

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


def read_terms(text: str, request: StepRequest, presets: Presets, *place: str | int) -> Terms:
    """Read a merge string and find everything that it names.

    Args:
        text: the merge string, which stands at ``place`` in the step's options.
        presets: the named block vectors that it may use.
    Raises:
        RecipeError: at ``place``, for text that is no merge string, a name of no step, file or run, an epoch that the
            run will not have, or a block vector that is none.
    """
    from loratools.blocks.parse import parse_vector
    from loratools.ops.merging.merge_string import parse_merge_string

    try:
        specs = tuple(_as_file(spec, request) for spec in parse_merge_string(text))
        for spec in specs:
            if spec.vector_text is not None:
                parse_vector(spec.vector_text, presets)
        inputs = tuple(_input(spec, request, place) for spec in specs)
        families = tuple(_family(item, request.planner) for item in inputs)
    except RecipeError:
        raise
    except LoratoolsError as error:
        raise request.error(*place, message=str(error)) from error
    check_families(specs, families, request, *place)
    try:
        for spec, family in zip(specs, families, strict=True):
            if spec.vector_text is not None and family is not None:
                parse_vector(spec.vector_text, presets, family)
    except LoratoolsError as error:
        raise request.error(*place, message=str(error)) from error
    return Terms(specs, inputs, {spec.ref: item.path for spec, item in zip(specs, inputs, strict=True)}, families)


def read_one(text: str, request: StepRequest, *place: str | int) -> Terms:
    """One LoRA by the name of a step, an epoch of one, or a file.

    Raises:
        RecipeError: as for :func:`read_terms`; for a range of epochs, which is several.
    """
    terms = read_terms(quoted(text), request, {}, *place)
    if "-" in (terms.specs[0].epoch or ""):
        message = f"'{text}' is several epochs, and one LoRA is needed here; make their mean first, with a `soup` step"
        raise request.error(*place, message=message)
    return terms


def one_file(terms: Terms) -> Path:
    """The file that :func:`read_one` means; the steps that it needs must have run."""
    from loratools.adapter.files.epoch_files import epochs, is_run, select

    spec = terms.specs[0]
    path = terms.paths[spec.ref]
    if (path.is_file() and spec.epoch is None) or not is_run(path):
        return path
    (chosen,) = select(epochs(path), spec.epoch, run=spec.ref, best=lambda: best_epoch(path))
    return chosen.path


def _family(item: StepInput, planner: Planner) -> str | None:
    """The family of a step's LoRA or of a file's, where it is known.

    Raises:
        LoratoolsError: for a file that is no LoRA.
    """
    from loratools.adapter.files.epoch_files import epochs
    from loratools.adapter.files.file import open_adapter

    if item.step is not None:
        return planner.step(item.step).draft.family
    path = item.path if item.path.is_file() else epochs(item.path)[0].path
    family = open_adapter(path, allow_unknown=True).family  # whether it may be a DoRA, the step itself will check
    return family if family != "unknown" else None


def check_families(
    specs: Sequence[TermSpec], families: Sequence[str | None], request: StepRequest, *place: str | int
) -> None:
    """Raise RecipeError if two of the LoRAs whose families are known are of different ones."""
    known = [(spec, family) for spec, family in zip(specs, families, strict=True) if family]
    for spec, family in known:
        if family != known[0][1]:
            message = (
                f"'{spec.ref}' is a LoRA for {family} and '{known[0][0].ref}' one for {known[0][1]}; only LoRAs of "
                "one model family add up"
            )
            raise request.error(*place, message=message)


def check_base(terms: Terms, request: StepRequest, *place: str | int) -> None:
    """Raise RecipeError if a LoRA is of another model family than the recipe's base, which it is meant to change."""
    base = TargetModel(
        f"the base {request.paths.base}", request.paths.base_family, "name a base of its family at `base:`"
    )
    check_target(terms, base, request, *place)


@dataclass(frozen=True)
class TargetModel:
    """A model that LoRAs are meant to change: what messages call it, its family if it is known, and what to do where a
    LoRA is of another."""

    label: str
    family: str | None
    remedy: str


def check_target(terms: Terms, target: TargetModel, request: StepRequest, *place: str | int) -> None:
    """Raise RecipeError if a LoRA is of another model family than the ``target`` that it is meant to change."""
    for spec, own in zip(terms.specs, terms.families, strict=True):
        if own and target.family and own != target.family:
            message = f"'{spec.ref}' is a LoRA for {own} and {target.label} is {target.family}; {target.remedy}"
            raise request.error(*place, message=message)


def vector_values(text: str, presets: Presets) -> list[list[Any]]:
    """What a vector's text means, however it is spelled: for each scheme that it fits, the weights by block.

    The text itself, where it fits none: it is of a model that no table knows, whose blocks only its file tells.
    """
    return _values(text, presets, _FAMILIES) or _values(text, presets, ("sd3",)) or [[text.strip()]]


def _values(text: str, presets: Presets, families: Sequence[str]) -> list[list[Any]]:
    from loratools.blocks.parse import parse_vector

    values = []
    for family in families:
        with contextlib.suppress(BlockError):  # it does not fit this family
            vector = parse_vector(text, presets, family)
            rules = [[[rule.where, rule.weight] for rule in vector.rules]] if vector.rules else []
            values.append([vector.scheme.name, dict(vector.weights), *rules])
    return values


def _as_file(spec: TermSpec, request: StepRequest) -> TermSpec:
    """``style@8`` as a file of that name, where there is one and no step is called ``style``."""
    from loratools.adapter.files.epoch_files import find_lora
    from loratools.ops.merging.terms import as_file

    def find(name: str) -> Path:
        for text in (name, f"{name}.safetensors"):
            path = request.paths.find(text)
            if path is not None and path.is_file():
                return path
        return find_lora(name, request.paths.lora_dirs)

    return spec if spec.ref in request.planner.recipe.steps else as_file(spec, find)


def _input(spec: TermSpec, request: StepRequest, place: Sequence[str | int]) -> StepInput:
    """What a term names: a step, or a file or run on disk."""
    label = spec.ref if spec.epoch is None else f"{spec.ref}@{spec.epoch}"
    if spec.ref in request.planner.recipe.steps:
        planned = request.planner.step(spec.ref)
        if (message := _no_lora(planned, spec)) is not None:
            raise request.error(*place, message=message)
        chosen = verdict_key(planned.out) if spec.epoch == "best" else ""
        return StepInput(label, planned.out, f"{planned.key}@{spec.epoch or ''}{chosen}", planned.name)
    path = _file(spec, request, place)
    _check_epoch(spec, path)
    chosen = verdict_key(path) if spec.epoch == "best" else ""
    return StepInput(label, path, f"{_digest(path)}{chosen}")


def verdict_key(path: Path) -> str:
    """What a verdict over the run at ``path`` adds to the key of a step that reads its ``@best``: which epoch it is, by
    number and content. Empty where there is no run yet, or no verdict that holds for its files: there the run's own key
    says enough, since the shortlist follows from it.

    Raises:
        FormatError: for a verdict that cannot be read.
    """
    from loratools.adapter.files.epoch_files import is_run
    from loratools.train.output.recorded_verdict import recommended

    verdict = recommended(path) if is_run(path) else None
    return "" if verdict is None else f"={verdict[0]}:{verdict[1]}"


def _no_lora(planned: Planned, spec: TermSpec) -> str | None:
    """Why a step's result cannot stand in a merge string, or None if it can."""
    if not planned.step_kind.makes_lora:
        return f"the step '{planned.name}' is a {planned.kind}, which makes no LoRA"
    return _no_epoch(planned, spec)


def why_no_epoch(spec: TermSpec, path: Path, planner: Planner) -> str | None:
    """Why the step or run that ``spec`` names will not have its epoch, or None if it will."""
    if spec.ref in planner.recipe.steps:
        return _no_epoch(planner.step(spec.ref), spec)
    try:
        _check_epoch(spec, path)
    except FileError as error:
        return str(error)
    return None


def _no_epoch(planned: Planned, spec: TermSpec) -> str | None:
    if spec.epoch is None:
        return None
    if planned.step_kind.makes != "run" or planned.draft.epochs is None:
        return f"the step '{planned.name}' is no run, so it has no epochs; drop '@{spec.epoch}'"
    numbers = [int(part) for part in spec.epoch.split("-") if part.isdigit()]
    if numbers != sorted(numbers):
        return f"'{planned.name}@{spec.epoch}' runs backwards; write {planned.name}@{numbers[-1]}-{numbers[0]}"
    if any(not 1 <= number <= planned.draft.epochs for number in numbers):
        return (
            f"'{planned.name}@{spec.epoch}' asks for an epoch that the run will not have; it has 1 to "
            f"{planned.draft.epochs}"
        )
    wanted = range(numbers[0], numbers[-1] + 1) if numbers else range(0)
    removed = [number for number in wanted if number not in planned.draft.kept_epochs]
    return _removed(f"'{planned.name}@{spec.epoch}'", removed[0], planned) if removed else None


def _removed(asked: str, number: int, planned: Planned) -> str:
    """That the run removes the file of epoch ``number``, and by which setting."""
    every, left = planned.draft.pruned_by.get("save_every_epochs"), planned.draft.kept_epochs
    name = "save_every_epochs" if every is not None and number % every else "save_last_n"
    kept = ", ".join(map(str, left[:8])) + (" ..." if len(left) > 8 else "")
    return (
        f"{asked} asks for epoch {number}, whose file {name}: {planned.draft.pruned_by[name]} removes; of 1 to "
        f"{planned.draft.epochs} there will be {kept}, so ask for one of them or change the setting"
    )


def _check_epoch(spec: TermSpec, path: Path) -> None:
    """Raise FileError if the run on disk has no such epoch; which is the best one, its log shows only later."""
    from loratools.adapter.files.epoch_files import epochs, is_run, select

    if spec.epoch not in (None, "best") and is_run(path):
        select(epochs(path), spec.epoch, run=spec.ref)


def find_on_disk(ref: str, request: StepRequest) -> Path:
    """The LoRA file or training run that ``ref`` names, which is no step.

    Raises:
        FileError: if there is none; SeveralRunsError for a folder that holds several runs.
    """
    from loratools.adapter.files.epoch_files import find_lora

    return find_lora(str(_on_disk(ref, request)))


def _on_disk(ref: str, request: StepRequest) -> Path:
    """What ``ref`` names: what lies beside the recipe first, then in a folder of LoRAs."""
    from loratools.adapter.files.epoch_files import find_lora
    from loratools.adapter.files.lora_file import is_peft, weights_of

    for text in (ref, f"{ref}.safetensors"):
        path = request.paths.find(text)
        if path is not None:
            return weights_of(path) if is_peft(path) else path
    return find_lora(ref, [*filter(Path.is_dir, request.paths.folders), *request.paths.lora_dirs])


def _file(spec: TermSpec, request: StepRequest, place: Sequence[str | int]) -> Path:
    try:
        return _on_disk(spec.ref, request)
    except FileError:
        return request.input(spec.ref, *place).path  # its error names what there is


def _digest(path: Path) -> str:
    from loratools.adapter.files.epoch_files import epochs, is_run
    from loratools.adapter.files.lora_file import config_beside

    if path.is_dir() or not path.exists():
        if not is_run(path):
            epochs(path)  # says why
        lines = [f"{epoch.number} {digest_of(epoch.path)}" for epoch in epochs(path)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if (config := config_beside(path)) is not None:
        return hashlib.sha256(f"{digest_of(path)} {digest_of(config)}".encode()).hexdigest()
    return digest_of(path)
