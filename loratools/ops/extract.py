"""A LoRA out of what tuning did to a model: the difference of two checkpoints, or a full-difference adapter."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from loratools import files
from loratools.adapter.algebra.lowrank import Delta, Dense, limit
from loratools.adapter.algebra.rank import Energy, Error, Fixed, RankRule, Size
from loratools.adapter.architectures.names import lora_targets
from loratools.adapter.files.checkpoint import Checkpoint, open_checkpoint
from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import Provenance
from loratools.dtypes import dtype_name
from loratools.errors import BaseModelError, FormatError, NonFiniteError, ShapeError
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.lazy_result import Decomposed, LazyResult
from loratools.ops.merging.merge import merge_texts, provenance_of
from loratools.ops.merging.terms import Term
from loratools.ops.merging.write_result import write_result
from loratools.ops.randomized_svd import leading, thin
from loratools.ops.report import MergeReport

_FIRST = 32  # components that a rule by error or energy starts with; twice as many each time they are too few
_UNEVEN = 4  # under a size, no module gets more than this times the average rank


def extract_files(
    base: str | os.PathLike[str] | None,
    tuned: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rule: RankRule,
    conv: bool = False,
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
    force: bool = False,
    owner: str = "extract",
    recipe: Mapping[str, Any] | None = None,
) -> MergeReport:
    """Write the best LoRA of what makes ``tuned`` out of ``base``; modules that are the same in both are left out.

    Args:
        base: the model that was tuned, or None if ``tuned`` is an adapter of full differences.
        tuned: the model after tuning.
        conv: 3x3 convolutions too.
        seed: of the random projections.
    Raises:
        BaseModelError: if one is no base model, or they are of different families.
        ShapeError: if a module's shapes differ.
        FormatError: if the two are the same.
    """
    target = Path(out)
    if base is None:
        adapter = read(tuned)
        terms = [Term(adapter, label=adapter.path.stem)]
        step = {"extract": {"seed": seed}, "rank": rule.text(), "dtype": dtype_name(dtype)}
        made = provenance_of(terms, rule, dtype, owner, step, recipe)
        return _from_adapter(terms, target, rule, dtype, seed, force, made)
    first, second = open_checkpoint(base), open_checkpoint(tuned)
    source = Extracted(first, second, conv, rule, seed, dtype)
    step = {"extract": {"conv": conv, "seed": seed}, "rank": rule.text(), "dtype": dtype_name(dtype)}
    inputs = [
        {"role": role, "name": one.path.name, "digest": digest_of(one)}
        for role, one in (("base", first), ("tuned", second))
    ]
    texts = {"ss_output_name": target.stem, "modelspec.title": target.stem, "ss_sd_model_name": first.path.name}
    return write_result(
        source,
        target,
        rule=rule,
        dtype=dtype,
        metadata=texts,
        force=force,
        trim=True,
        provenance=Provenance(step, owner, inputs, recipe=recipe),
    )


def digest_of(checkpoint: Checkpoint) -> str:
    """sha256 of a single file, or over the hex digests of a folder's weight files in order."""
    paths = sorted({location.file for location in checkpoint.locations.values()})
    if len(paths) == 1:
        return files.sha256(paths[0])
    return hashlib.sha256("".join(files.sha256(path) for path in paths).encode()).hexdigest()


def _from_adapter(
    terms: list[Term], out: Path, rule: RankRule, dtype: torch.dtype, seed: int, force: bool, provenance: Provenance
) -> MergeReport:
    if not terms[0].adapter.dense:
        raise FormatError(
            f"{terms[0].adapter.path} holds no full differences to extract from; give --base and two models, or "
            "change its rank with resize"
        )
    return write_result(
        _Lowered(combine(terms), rule, seed, dtype),
        out,
        rule=rule,
        dtype=dtype,
        metadata=merge_texts(terms, out),
        provenance=provenance,
        force=force,
        trim=True,
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
    """``tuned - base`` by module; names are the family's LoRA targets that both models have.

    Raises:
        BaseModelError: if the two are of different families, or share no module.
        ShapeError: if a module's shapes differ.
    """

    def __init__(
        self, base: Checkpoint, tuned: Checkpoint, conv: bool, rule: RankRule, seed: int, dtype: torch.dtype
    ) -> None:
        super().__init__(rule, seed, dtype)
        if base.family != tuned.family:
            raise BaseModelError(
                f"{base.path} is {base.family or 'of an unknown family'} and {tuned.path} is "
                f"{tuned.family or 'of an unknown family'}; extract needs one model before and after "
                "tuning"
            )
        self.family = _known_family(base)
        self._base = base
        self._tuned = tuned
        self.shapes = {name: base.shapes[f"{name}.weight"] for name in self._names(conv)}
        self.ranks = {name: limit(shape) for name, shape in self.shapes.items()}

    def __getitem__(self, name: str) -> Delta:
        key = f"{name}.weight"
        return Dense(self._tuned[key].double().sub_(self._base[key].double()).reshape(self.shapes[name]).float())

    def _names(self, conv: bool) -> tuple[str, ...]:
        modules = [key.removesuffix(".weight") for key in self._base if key.endswith(".weight") and key in self._tuned]
        names = tuple(sorted(lora_targets(self.family, modules, conv=conv)))
        if not names:
            raise BaseModelError(f"{self._base.path} and {self._tuned.path} share no module that a LoRA can change")
        for name in names:
            one, other = self._base.shapes[f"{name}.weight"], self._tuned.shapes[f"{name}.weight"]
            if math.prod(one) != math.prod(other) or one[0] != other[0]:
                raise ShapeError(
                    f"module {name} is {one} in {self._base.path} and {other} in {self._tuned.path}; "
                    "they are not one model before and after tuning"
                )
        return names


def _known_family(checkpoint: Checkpoint) -> str:
    if checkpoint.family is None:
        raise BaseModelError(
            f"{checkpoint.path} is of no model family whose modules are known here; give an SD1, SD2 "
            "or SDXL checkpoint or Diffusers folder"
        )
    return checkpoint.family


class _Lowered(_Sketched):
    """An adapter's own differences, the full ones decomposed as far as the rule needs."""

    def __init__(self, whole: Combined, rule: RankRule, seed: int, dtype: torch.dtype) -> None:
        super().__init__(rule, seed, dtype)
        self.family = whole.family
        self.shapes: Mapping[str, tuple[int, ...]] = {n: shape for n, shape in whole.shapes.items() if len(shape) > 1}
        self.ranks = {name: whole.ranks[name] for name in self.shapes}
        self._whole = whole

    def __getitem__(self, name: str) -> Delta:
        return self._whole[name]

    def decompose(self, name: str, rule: RankRule) -> Decomposed:
        return super().decompose(name, rule) if name in self._whole.dense else self._whole.decompose(name, rule)
