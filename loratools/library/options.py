"""Options that several functions share, from what people write to what the rooms above take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loratools.dtypes import DTYPE_NAMES
from loratools.errors import FileError, OptionError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from loratools.adapter.algebra.rank import RankRule
    from loratools.adapter.files.lora_file import KeyRules

_Word = TypeVar("_Word", bound=str)

StrPath = str | Path
OneOrMore = StrPath | Iterable[StrPath]  # one, or several of them
PresetSource = StrPath | Mapping[str, Any]  # a file of presets, or name -> numbers


def one_of(value: _Word, valid: Iterable[str], option: str) -> _Word:
    """``value`` if it is one of ``valid``.

    Raises:
        OptionError: naming the option and what it may be.
    """
    known = list(valid)
    if value not in known:
        hint = did_you_mean(str(value), known)
        raise OptionError(f"{option} '{value}' is not known{hint}; it may be {', '.join(known)}")
    return value


def several(given: OneOrMore) -> tuple[str, ...]:
    """One path or name, or several, as text: a single one is never taken for its characters."""
    return (str(given),) if isinstance(given, str | os.PathLike) else tuple(str(one) for one in given)


def lora_file(file: StrPath, lora_dirs: OneOrMore = ()) -> Path:
    """The one LoRA file that ``file`` means: a file, a PEFT folder's, a training run's last epoch, or an epoch of it
    such as ``RUN@8`` and ``RUN@best``.

    Args:
        lora_dirs: folders in which names are looked for, before the current folder.
    Raises:
        FileError: if there is none, or the name means several.
    """
    from loratools.adapter.files.epoch_files import find_file
    from loratools.train.output.epoch_report import best_epoch

    return find_file(str(file), several(lora_dirs), best_epoch)


def lora_out(out: StrPath) -> Path:
    """The path of a LoRA file that is to be written.

    Raises:
        FileError: if it does not end in ``.safetensors``.
    """
    path = Path(out).expanduser()
    if path.suffix.lower() != ".safetensors":
        raise FileError(f"{out} is no name for a LoRA file; end it in .safetensors")
    return path


def storage_type(dtype: str) -> torch.dtype:
    """``fp16``, ``bf16`` or ``fp32`` as torch's.

    Raises:
        OptionError: for another.
    """
    from loratools.dtypes import torch_dtype

    return torch_dtype(one_of(dtype, DTYPE_NAMES, "dtype"))


def rank_rule(rank: str | int) -> RankRule:
    """``exact``, 32, ``error=0.01``, ``energy=0.999`` or ``size=36MiB`` as a rule.

    Raises:
        RankError: for anything else.
    """
    from loratools.adapter.algebra.rank import parse_rank

    return parse_rank(str(rank))


def key_rules(allow_unknown: bool, drop: OneOrMore) -> KeyRules:
    """What is done about keys that no table knows."""
    from loratools.adapter.files.lora_file import KeyRules

    return KeyRules(allow_unknown, several(drop))


def base_weights(base: StrPath | None) -> Mapping[str, Tensor] | None:
    """The base model's tensors by canonical name, read one by one as they are needed.

    Raises:
        LoratoolsError: if it is missing, or no base model.
    """
    if base is None:
        return None
    from loratools.adapter.files.checkpoint import open_checkpoint
    from loratools.base.base_path import base_path

    return open_checkpoint(base_path(str(base)))
