"""Merging: a merge string to a file, or to an adapter in memory; and how far a file is from what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args, overload

from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta
from loratools.adapter.files.epoch_files import epochs, find_lora, parse_reference
from loratools.adapter.files.key_layout import Style
from loratools.adapter.files.passthrough import all_carried
from loratools.adapter.files.save import state_dict
from loratools.base.base_path import base_path
from loratools.dtypes import Dtype
from loratools.errors import MergeStringError
from loratools.library.options import (
    OneOrMore,
    PresetSource,
    StrPath,
    key_rules,
    lora_file,
    lora_out,
    one_of,
    rank_rule,
    several,
    storage_type,
)
from loratools.library.terms import TermReading, short_terms
from loratools.ops.merging.combine import combine
from loratools.ops.merging.ema import chosen_epochs, ema_weights, gamma_of
from loratools.ops.merging.merge import adapters_of, into_provenance, merge_files, merge_in_memory
from loratools.ops.merging.merge_into import IntoReport, merge_into
from loratools.ops.merging.merge_string import quoted
from loratools.ops.merging.method import MergeMethod
from loratools.ops.merging.methods.declared import MethodName
from loratools.ops.merging.plan import MergePlan, plan
from loratools.ops.merging.terms import warnings_of_terms
from loratools.ops.merging.verify import verify as verify_terms
from loratools.ops.merging.write_result import Prepared
from loratools.ops.report import MergeReport, Verification
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.adapter.algebra.rank import RankRule


MethodLike = MergeMethod | MethodName


class MergedAdapter(Mapping[str, Delta]):
    """A merge in memory: canonical module name -> difference, computed when it is looked up; nothing is written.

    What a module's lookup gives is what :meth:`write` stores, before the cast to ``dtype``.

    Attributes:
        family: the model family that it is for, such as ``sd1``.
        dtype: ``fp16``, ``bf16`` or ``fp32``, which it is stored in.
        warnings: what to mind about the files that it is made of, a sentence each.
    """

    def __init__(self, text: str, reading: TermReading, rule: RankRule, dtype: Dtype, method: MergeMethod) -> None:
        self._torch_dtype = storage_type(dtype)
        self._text, self._rule, self._method = text, rule, method
        self._terms = method.prepared(replace(reading, missing=method.missing(reading.missing)).terms(text))
        self.family = self._terms[0].adapter.family
        self.dtype = dtype
        self.warnings = warnings_of_terms(self._terms)

    def __getitem__(self, name: str) -> Delta:
        return self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored.shapes

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Module -> shape of its difference."""
        return self._stored.shapes

    @property
    def ranks(self) -> Mapping[str, int]:
        """Module -> columns of its ``up``."""
        return self._stored.ranks

    @property
    def dense(self) -> frozenset[str]:
        """The modules whose difference is a full one."""
        return self._stored.dense

    def state_dict(self, style: Style = "kohya") -> dict[str, Tensor]:
        """The tensors that :meth:`write` stores, by key: what a host that takes a loaded LoRA file wants.

        Args:
            style: ``kohya``, which every WebUI and ComfyUI read, or ``diffusers``.
        Raises:
            NonFiniteError: if a value does not fit into ``dtype``.
            FormatError: if the style has no word for a module.
        """
        one_of(style, get_args(Style), "style")
        carried = all_carried(adapters_of(self._terms))
        return state_dict(self._stored, family=self.family, dtype=self._torch_dtype, style=style, carried=carried)

    def plan(self) -> MergePlan:
        """What is merged: file, block, weight, modules, and share of the norm."""
        self._method.result(self._terms)  # raises where the method cannot take these terms
        return replace(plan(self._terms), method=self._method.text())

    def write(self, out: StrPath, *, force: bool = False, on_progress: OnProgress | None = None) -> MergeReport:
        """Write it as a LoRA file, whole or not at all; arguments, report and errors are those of :func:`merge`."""
        return merge_files(
            self._terms,
            lora_out(out),
            rule=self._rule,
            dtype=self._torch_dtype,
            force=force,
            owner=self._owner(),
            method=self._method,
            on_progress=on_progress,
        )

    def write_into(self, checkpoint: StrPath, out: StrPath, *, force: bool = False) -> IntoReport:
        """Write a copy of a base model that the merge is added to, at its full rank, as one ``.safetensors`` file.

        Args:
            checkpoint: a ``.safetensors`` checkpoint, a Diffusers folder, or ``pocket``.

        Raises:
            BaseModelError: if ``checkpoint`` is none, or lacks a module.
            FileError: if ``out`` holds what something else wrote, and ``force`` is False.
        """
        base = base_path(Path(checkpoint).expanduser())
        source = self._method.result(self._terms) or combine(self._terms)
        made = into_provenance(self._terms, base, f"{self._owner()} into {base.name}", self._method)
        report = merge_into(source, base, lora_out(out), provenance=made, force=force)
        return replace(report, warnings=self.warnings)

    @cached_property
    def _stored(self) -> Prepared:
        return merge_in_memory(self._terms, rule=self._rule, dtype=self._torch_dtype, method=self._method)

    def _owner(self) -> str:
        """Which command may write the file again: its terms and what else decides the result."""
        words = [f"{key}={value}" for key, value in self._method.facts().items()]
        words += ["match-norm"] if self._method.match_norm else []
        return " ".join(["merge", short_terms(self._text), *words])


@overload
def merge(
    terms: str,
    out: None = None,
    *,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    missing: float | None = None,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    rank: str | int = "exact",
    dtype: Dtype = "fp16",
    method: MethodLike = "exact",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> MergedAdapter: ...
@overload
def merge(
    terms: str,
    out: StrPath,
    *,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    missing: float | None = None,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    rank: str | int = "exact",
    dtype: Dtype = "fp16",
    method: MethodLike = "exact",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> MergeReport: ...
def merge(
    terms: str,
    out: StrPath | None = None,
    *,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    missing: float | None = None,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    rank: str | int = "exact",
    dtype: Dtype = "fp16",
    method: MethodLike = "exact",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> MergedAdapter | MergeReport:
    """The exact weighted sum of LoRA files: written to ``out``, or kept in memory if no ``out`` is given.

    Args:
        terms: ``"A:1:GP1,B:-1:GP2"``: ``NAME:weight[:vector][:te=x][:unet=y]`` each, where NAME is a file, a training
            run (its last epoch) or an epoch of it (``run@8``), and the vector a preset or its numbers. Weight and
            vector multiply, and -1 subtracts.
        out: the ``.safetensors`` file to write, whole or not at all.
        lora_dirs: a folder, or several, in which names are looked for; the current folder is always one.
        presets: named block vectors beside the shipped ones: a file, or ``{"MINE": [1, 0.5, ...]}``.
        missing: 1 or 0, the weight of the modules in blocks that a short vector does not list.
        base: the base model, on whose weights the differences of a DoRA depend.
        allow_unknown: carry keys that no table knows through untouched, instead of refusing the file.
        drop: names or patterns of tensors that are read as if they were not there.
        rank: ``exact``, a number, ``error=0.01``, ``energy=0.999`` or ``size=36MiB``.
        dtype: ``fp16``, ``bf16`` or ``fp32``, which the file is stored in.
        method: ``exact`` is the weighted sum; ``ties``, ``dare``, ``breadcrumbs``, ``slerp``, ``karcher``, ``knots``,
            ``iso-c`` and ``tsv-m`` are others (docs/adapters.md says when to take which); or a ``MergeMethod``, which
            has their numbers: ``MergeMethod("dare", density=0.3, seed=7)``, ``MergeMethod(match_norm=True)``.
        force: overwrite a file that this very merge did not write.
        on_progress: called as ``on_progress(done, total)`` while the file is written.
    Returns:
        With ``out`` a :class:`~loratools.ops.report.MergeReport`: its ``path``, and its relative ``error`` in total
        and in ``blocks``. Without it a :class:`MergedAdapter`.
    Raises:
        MergeStringError, BlockError, RankError, OptionError: for terms, a vector, a rank or a type that is not
            understood.
        FileError: for a LoRA that is not there, or an ``out`` that something else wrote.
        FormatError, ShapeError: for a file that is no LoRA, or LoRAs that do not fit one another.
    """
    reading = TermReading(lora_dirs, presets, missing, base, allow_unknown, drop)
    target = None if out is None else lora_out(out)
    how = method if isinstance(method, MergeMethod) else MergeMethod(method)
    merged = MergedAdapter(terms, reading, rank_rule(rank), dtype, how)
    return merged if target is None else merged.write(target, force=force, on_progress=on_progress)


def soup(
    files: OneOrMore,
    out: StrPath,
    *,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    missing: float | None = None,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    rank: str | int = "exact",
    dtype: Dtype = "fp16",
    ema: bool = False,
    sigma_rel: float | None = None,
    gamma: float | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> MergeReport:
    """Write the mean of LoRA files: the merge of each at 1/n. A file may be ``run@6-8``, the mean of those epochs.

    Args:
        files: the files; with ``ema`` one run, all of whose epochs are taken, or a range of it.
        ema: weigh epochs by a power of time instead, as an EMA during training would have (EDM2, 2312.02696): epoch k
            has ``(t_k^(g+1) - t_(k-1)^(g+1)) / t_n^(g+1)``.
        sigma_rel, gamma: of ``ema``: its width over the training's length (0.1 by default; 0.289 is the plain mean),
            or the exponent g; either implies ``ema``.
    Returns:
        As :func:`merge`, whose other arguments it has; with ``ema`` its ``weights`` has each epoch's.
    Raises:
        MergeStringError, OptionError: for no file, more runs than one with ``ema``, or a width that fits no average.
        LoratoolsError: of the kinds that :func:`merge` names.
    """
    names = several(files)
    if not names:
        raise MergeStringError("there is nothing to average; name at least one LoRA file")
    averaged = ema or sigma_rel is not None or gamma is not None
    weights = _epoch_weights(names, lora_dirs, gamma_of(sigma_rel, gamma)) if averaged else {}
    terms = list(weights.items()) or [(name, 1 / len(names)) for name in names]
    text = ",".join(f"{quoted(name)}:{weight!r}" for name, weight in terms)
    reading = TermReading(lora_dirs, presets, missing, base, allow_unknown, drop)
    report = merge_files(
        reading.terms(text),
        lora_out(out),
        rule=rank_rule(rank),
        dtype=storage_type(dtype),
        force=force,
        owner=f"soup {short_terms(text)}",
        on_progress=on_progress,
    )
    return replace(report, weights=weights)


def _epoch_weights(names: Sequence[str], lora_dirs: OneOrMore, gamma: float) -> dict[str, float]:
    """``run@number`` -> weight, of the epochs of one run."""
    if len(names) > 1:
        raise MergeStringError(f"an EMA is over the epochs of one run, and {len(names)} are named; name one of them")
    reference = parse_reference(names[0])
    path = find_lora(reference.name, several(lora_dirs))
    numbers, before = chosen_epochs([one.number for one in epochs(path)], reference.selector, reference.name)
    weights = ema_weights(numbers, gamma, before)
    return {f"{reference.name}@{number}": weight for number, weight in zip(numbers, weights, strict=True)}


def verify(
    file: StrPath,
    terms: str,
    *,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    missing: float | None = None,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
) -> Verification:
    """Recompute ``terms`` in float64, and say how far the LoRA file ``file`` of any tool is from them.

    Args:
        terms, lora_dirs, presets, missing, base, allow_unknown, drop: as for :func:`merge`.
    Returns:
        Its ``error`` is ``|file - asked| / |asked|``, and ``blocks`` has that of each block.
    Raises:
        LoratoolsError: of the kinds that :func:`merge` names.
    """
    reading = TermReading(lora_dirs, presets, missing, base, allow_unknown, drop)
    return verify_terms(lora_file(file, lora_dirs), reading.terms(terms), key_rules(allow_unknown, drop))
