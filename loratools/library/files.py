"""LoRA files: read as exact differences, written, and described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from loratools.errors import OptionError
from loratools.library.options import (
    OneOrMore,
    StrPath,
    base_weights,
    key_rules,
    lora_file,
    lora_out,
    one_of,
    several,
    storage_type,
)

if TYPE_CHECKING:
    from loratools.adapter.algebra.lowrank import Delta
    from loratools.adapter.files.file import Adapter
    from loratools.adapter.files.key_layout import Style
    from loratools.adapter.files.save import Written
    from loratools.dtypes import Dtype
    from loratools.ops.analysis.analyze import Analysis
    from loratools.ops.analysis.describe import Description


def read(file: StrPath, *, base: StrPath | None = None, allow_unknown: bool = False, drop: OneOrMore = ()) -> Adapter:
    """Open a LoRA file or a PEFT folder; a module's numbers are read when it is looked up.

    Args:
        file: the file or folder; or a training run, whose last epoch is meant, or an epoch such as ``RUN@8``.
        base: the base model, on whose weights the differences of a DoRA depend.
        allow_unknown: keep keys that no table knows under ``carried``, instead of refusing the file.
        drop: names or patterns of tensors that are read as if they were not there.
    Returns:
        A mapping: canonical module name -> difference, alpha folded in; ``family``, ``ranks`` and ``metadata`` beside.
    Raises:
        FileError, FormatError: for a file that is missing, damaged, or no LoRA.
        NeedsBaseError: for a DoRA without its base.
    """
    from loratools.adapter.files.file import read as open_file

    return open_file(lora_file(file), base_weights(base), allow_unknown, several(drop))


def write(
    adapter: Mapping[str, Delta],
    out: StrPath,
    *,
    family: str | None = None,
    dtype: Dtype = "fp16",
    style: Style = "kohya",
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> Written:
    """Write differences as a ``.safetensors`` LoRA file, whole or not at all.

    Args:
        adapter: canonical module name -> difference: what :func:`read` gives, or a dict of such differences.
        family: which model it is for, such as ``sd1``; None takes the adapter's own, which a dict has not.
        dtype: ``fp16``, ``bf16`` or ``fp32``.
        style: how keys are spelled: ``kohya`` or ``diffusers``.
        metadata: text for the header; None takes the adapter's own.
        force: overwrite a file that :func:`write` did not write.
    Returns:
        The ``path``, the ``digest`` of the tensors, and the ``error`` of the cast to ``dtype``.
    Raises:
        FileError: if ``out`` holds what something else wrote, or cannot be written.
        FormatError, NonFiniteError: for a module that is not of the family, or a value that does not fit ``dtype``.
        OptionError: if the family is not known, or an option is none of those it may be.
    """
    from loratools.adapter.architectures.names import FAMILIES, UNKNOWN
    from loratools.adapter.files.key_layout import Style
    from loratools.adapter.files.save import write as write_file

    own = getattr(adapter, "family", None) if family is None else family
    if own is None:
        raise OptionError("these differences do not say which model they are for; give the family, such as sd1")
    return write_file(
        adapter,
        lora_out(out),
        family=one_of(str(own), [*FAMILIES, UNKNOWN.name], "family"),
        dtype=storage_type(dtype),
        style=one_of(style, get_args(Style), "style"),
        metadata=getattr(adapter, "metadata", None) if metadata is None else metadata,
        owner="write",
        force=force,
        carried=getattr(adapter, "carried", None),
    )


def inspect(file: StrPath, *, brief: bool = False, allow_unknown: bool = False, drop: OneOrMore = ()) -> Description:
    """What a LoRA file is: family, kind, ranks, modules and norm by block, hashes, training facts, how it was made.

    Args:
        file: as for :func:`read`.
        brief: read the header alone: at once, but without norms, alphas and hashes.
        allow_unknown, drop: as for :func:`read`.
    Returns:
        Fields, ``text()`` for a person, and ``json()``.
    Raises:
        FileError, FormatError: for a file that is missing, damaged, or no LoRA.
    """
    from loratools.ops.analysis import describe

    how = describe.brief if brief else describe.describe
    return how(lora_file(file), allow_unknown=allow_unknown, drop=several(drop))


def analyze(
    file: StrPath,
    other: StrPath | None = None,
    *more: StrPath,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
) -> Analysis:
    """Where a LoRA's strength lies, block by block: norm, share and effective rank; of two, how alike they are; of two
    and more, what they do to one another when they are added.

    Args:
        file, other: as for :func:`read`.
        more: further files.
        base, allow_unknown, drop: as for :func:`read`.
    Returns:
        ``blocks`` of each file, ``likeness`` of two, the ``conflict`` of two and more (shares that ``agree``,
        ``cancel`` and are ``orthogonal``), ``text()`` for a person, and ``json()``.
    Raises:
        FileError, FormatError, ShapeError: for a file that is no LoRA, or ones that cannot be compared.
    """
    from loratools.ops.analysis.analyze import analyze as analyze_files

    paths = [lora_file(one) for one in (file, *(() if other is None else (other,)), *more)]
    return analyze_files(*paths, base=base_weights(base), keys=key_rules(allow_unknown, drop))
