"""A LoRA out of what tuning did to a model: the difference of two checkpoints, or a full-difference adapter."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from loratools import files
from loratools.adapter.algebra.lowrank import Delta, Dense, Vector, limit
from loratools.adapter.algebra.rank import Energy, Error, Fixed, RankRule, Size
from loratools.adapter.files.checkpoint import Checkpoint, open_checkpoint
from loratools.adapter.files.file import read
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.parallel import in_order
from loratools.dtypes import dtype_name
from loratools.errors import BaseModelError, FormatError, LoratoolsError, NonFiniteError
from loratools.ops.extract_parts import LAYERS, Part, Take, listed, parameter_of, parts_of_adapter, parts_of_models
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.lazy_result import Decomposed, LazyResult
from loratools.ops.merging.merge import merge_texts, provenance_of
from loratools.ops.merging.terms import Term
from loratools.ops.merging.write_result import write_result
from loratools.ops.randomized_svd import leading, thin
from loratools.ops.report import LeftOut, MergeReport
from loratools.progress import OnProgress

_FIRST = 32  # components that a rule by error or energy starts with; twice as many each time they are too few
_UNEVEN = 4  # under a size, no module gets more than this times the average rank


def extract_files(
    base: str | os.PathLike[str] | None,
    tuned: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rule: RankRule,
    take: Take = LAYERS,
    keys: KeyRules = STRICT,
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
    force: bool = False,
    owner: str = "extract",
    recipe: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> MergeReport:
    """Write the best LoRA of what makes ``tuned`` out of ``base``; modules that are the same in both are left out.

    Args:
        base: the model that was tuned, or None if ``tuned`` is an adapter of full differences.
        tuned: the model after tuning.
        take: what is taken beside the layers that every LoRA changes. All else that changed is measured, counts in the
            error, and stands in the report.
        keys: what is done about keys of an adapter that no table knows.
        seed: of the random projections.
        on_progress: called with (done, all) as modules are decomposed and written.
    Raises:
        BaseModelError: if one is no base model, or they are of different families.
        ShapeError: if a module's shapes differ.
        FormatError: if the two are the same.
    """
    target = Path(out)
    if base is None:
        adapter = read(tuned, None, keys.allow_unknown, keys.drop)
        terms = [Term(adapter, label=adapter.path.stem)]
        facts = {key: True for key in ("norms", "biases") if take.facts().get(key)}
        step = {"extract": {**facts, "seed": seed}, "rank": rule.text(), "dtype": dtype_name(dtype)}
        made = provenance_of(terms, rule, dtype, owner, step, recipe)
        return _from_adapter(terms, target, rule, take, dtype, seed, force, made, on_progress)
    first, second = open_checkpoint(base), open_checkpoint(tuned)
    step = {"extract": {**take.facts(), "seed": seed}, "rank": rule.text(), "dtype": dtype_name(dtype)}
    inputs = [
        {"role": role, "name": one.path.name, "digest": digest_of(one)}
        for role, one in (("base", first), ("tuned", second))
    ]
    texts = {"ss_output_name": target.stem, "modelspec.title": target.stem, "ss_sd_model_name": first.path.name}
    return extract_pair(
        ModelPair.of(first, second),
        target,
        rule=rule,
        take=take,
        dtype=dtype,
        seed=seed,
        force=force,
        metadata=texts,
        provenance=Provenance(step, owner, inputs, recipe=recipe),
        on_progress=on_progress,
    )


@dataclass(frozen=True)
class ModelPair:
    """A model before and after tuning.

    Attributes:
        family: of both.
        before, after: the parameters' shapes by canonical name.
        change: what tuning added to a parameter, in float64 and of its shape before.
        names: what messages call the two.
    """

    family: str
    before: Mapping[str, tuple[int, ...]]
    after: Mapping[str, tuple[int, ...]]
    change: Callable[[str], torch.Tensor]
    names: tuple[object, object]

    @staticmethod
    def of(base: Checkpoint, tuned: Checkpoint) -> ModelPair:
        """Two checkpoints.

        Raises:
            BaseModelError: if they are of different families, or of none that is known.
        """
        if tuned.family is None and tuned.path.is_file() and _is_difference(tuned.path):
            raise BaseModelError(
                f"{tuned.path} holds differences to a base, not a tuned model; give it alone, without the model before "
                "tuning"
            )
        if base.family != tuned.family:
            raise BaseModelError(
                f"{base.path} is {base.family or 'of an unknown family'} and {tuned.path} is "
                f"{tuned.family or 'of an unknown family'}; extract needs one model before and after "
                "tuning"
            )

        def change(key: str) -> torch.Tensor:
            before = base[key]
            if not before.is_floating_point():
                return torch.zeros(
                    before.shape, dtype=torch.float64
                )  # positions and the like: no training changes them
            return tuned[key].double().reshape(before.shape).sub_(before.double())

        return ModelPair(_known_family(base), base.shapes, tuned.shapes, change, (base.path, tuned.path))


def extract_pair(
    pair: ModelPair,
    out: Path,
    *,
    rule: RankRule,
    take: Take,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    provenance: Provenance,
    seed: int = 0,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> MergeReport:
    """Write the best LoRA of what tuning did; see :func:`extract_files`.

    Args:
        metadata: header text.
    """
    source = Extracted(pair, take, rule, seed, dtype)
    return write_result(
        source,
        out,
        rule=rule,
        dtype=dtype,
        metadata=metadata,
        force=force,
        trim=True,
        provenance=provenance,
        left_out=left_out(source.parts.left(take), source.change2),
        warnings=source.warnings(),
        nothing="network and text encoders are the same in both models (VAEs are not compared)",
        on_progress=on_progress,
    )


def left_out(parts: Sequence[Part], change2: Callable[[str], float]) -> list[LeftOut]:
    """Those of ``parts`` that changed.

    Args:
        change2: name -> squared norm of its change.
    """
    changed = []
    for part in parts:
        norms2 = dict(in_order(lambda name: (name, change2(name)), part.names))
        names = tuple(name for name, norm2 in norms2.items() if norm2 > 0)
        if names:
            changed.append(LeftOut(part.counted(len(names)), part.option, names, sum(norms2.values())))
    return changed


def digest_of(checkpoint: Checkpoint) -> str:
    """sha256 of a single file, or over the hex digests of a folder's weight files in order."""
    paths = sorted({location.file for location in checkpoint.locations.values()})
    if len(paths) == 1:
        return files.sha256(paths[0])
    return hashlib.sha256("".join(files.sha256(path) for path in paths).encode()).hexdigest()


def _from_adapter(
    terms: list[Term],
    out: Path,
    rule: RankRule,
    take: Take,
    dtype: torch.dtype,
    seed: int,
    force: bool,
    provenance: Provenance,
    on_progress: OnProgress | None,
) -> MergeReport:
    if not terms[0].adapter.dense:
        raise FormatError(
            f"{terms[0].adapter.path} holds no full differences to extract from; give two models, "
            "the one before tuning as `base=`, or "
            "change its rank with resize"
        )
    whole = combine(terms)
    parts = parts_of_adapter(whole.family, whole.shapes)
    return write_result(
        _Lowered(whole, parts.taken(take), rule, seed, dtype),
        out,
        rule=rule,
        dtype=dtype,
        metadata=merge_texts(terms, out),
        provenance=provenance,
        force=force,
        trim=True,
        carried=terms[0].adapter.carried,
        left_out=left_out(parts.left(take), lambda name: whole[name].norm() ** 2),
        on_progress=on_progress,
    )


class _Sketched(LazyResult):
    """Full differences, decomposed only as far as the rule needs."""

    costly = True

    def __init__(self, rule: RankRule, seed: int, dtype: torch.dtype) -> None:
        self._rule = rule
        self._seed = seed
        self._itemsize = dtype.itemsize

    def decompose(self, name: str, rule: RankRule) -> Decomposed:
        delta = self[name]
        matrix = delta.dense(torch.float32).reshape(delta.shape[0], -1)
        norm2 = float((matrix.double() ** 2).sum())
        if not math.isfinite(norm2):
            raise NonFiniteError(f"the difference of {name} is not finite; one of the models is damaged there")
        seed = self._seed ^ zlib.crc32(name.encode())  # another projection for each module, the same every time
        count = self._start(rule)
        while True:
            whole = count is None or norm2 == 0
            leading_part = thin(matrix, delta.shape) if whole else leading(matrix, count or 1, delta.shape, seed=seed)
            known = Decomposed(leading_part, norm2, norm2)
            enough = isinstance(rule, Fixed | Size) or len(leading_part.s) == min(matrix.shape)
            if whole or enough or known.rank(rule) < len(leading_part.s):
                return known
            count = 2 * (count or 1)

    def _start(self, rule: RankRule) -> int | None:
        match rule:
            case Fixed(rank):
                return rank
            case Error() | Energy():
                return _FIRST
            case Size(size):
                costs = sum(shape[0] + math.prod(shape[1:]) for shape in self.shapes.values()) * self._itemsize
                return max(8, math.ceil(_UNEVEN * size / costs))
        return None


class Extracted(_Sketched):
    """What tuning did, by module; names are those of ``take`` that both models have.

    Attributes:
        parts: all that both models have, by kind.

    Raises:
        BaseModelError: if the two share no module.
        ShapeError: if a module's shapes differ.
    """

    def __init__(self, pair: ModelPair, take: Take, rule: RankRule, seed: int, dtype: torch.dtype) -> None:
        super().__init__(rule, seed, dtype)
        self.family, self._pair = pair.family, pair
        self.parts = parts_of_models(pair.family, pair.before, pair.after, pair.names)
        if not self.parts.layers.names:
            raise BaseModelError(f"{pair.names[0]} and {pair.names[1]} share no module that a LoRA can change")
        self.shapes = {name: pair.before[parameter_of(name, pair.before)] for name in self.parts.taken(take)}
        self.ranks = {name: limit(shape) for name, shape in self.shapes.items()}

    def __getitem__(self, name: str) -> Delta:
        change = self._change(name).reshape(self.shapes[name]).float()
        return Vector(change) if change.dim() == 1 else Dense(change)

    def change2(self, name: str) -> float:
        """Squared norm of the change of a parameter, taken or not.

        Raises:
            NonFiniteError: if it is not finite.
        """
        norm2 = float(self._change(name).square().sum())
        if not math.isfinite(norm2):
            raise NonFiniteError(f"the difference of {name} is not finite; one of the models is damaged there")
        return norm2

    def warnings(self) -> tuple[str, ...]:
        """What cannot be compared, for a person."""
        unpaired = self.parts.unpaired
        if not unpaired:
            return ()
        counted = "1 parameter is" if len(unpaired) == 1 else f"{len(unpaired)} parameters are"
        what = "in only one of the models, or of another shape in the other, and could not be compared"
        return (f"{counted} {what}: {listed(unpaired)}",)

    def _change(self, name: str) -> torch.Tensor:
        return self._pair.change(parameter_of(name, self._pair.before))


def _is_difference(path: Path) -> bool:
    """Whether a file is an adapter of full differences."""
    try:
        return bool(read(path).dense)
    except LoratoolsError:
        return False


def _known_family(checkpoint: Checkpoint) -> str:
    if checkpoint.family is None:
        raise BaseModelError(
            f"{checkpoint.path} is of no model family whose modules are known here; give an SD1, SD2 "
            "or SDXL checkpoint or Diffusers folder"
        )
    return checkpoint.family


class _Lowered(_Sketched):
    """An adapter's own differences, the full ones decomposed as far as the rule needs."""

    def __init__(self, whole: Combined, names: Sequence[str], rule: RankRule, seed: int, dtype: torch.dtype) -> None:
        super().__init__(rule, seed, dtype)
        self.family = whole.family
        self.shapes: Mapping[str, tuple[int, ...]] = {name: whole.shapes[name] for name in names}
        self.ranks = {name: whole.ranks[name] for name in self.shapes}
        self._whole = whole

    def __getitem__(self, name: str) -> Delta:
        return self._whole[name]

    def decompose(self, name: str, rule: RankRule) -> Decomposed:
        return super().decompose(name, rule) if name in self._whole.dense else self._whole.decompose(name, rule)
