"""Settings of a full training: what its weights are held in, when the optimiser steps, and what its files are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from loratools.errors import LoratoolsError

FULL_SETTINGS = frozenset({"weights", "fused_backward_pass", "save", "save_end"})  # of no meaning for a LoRA
# whose step of one weight needs nothing of the others
_PER_WEIGHT = (
    "adafactor adagrad adam adamax adamw adamw8bit ademamix8bit lion lion8bit nadam pagedadamw pagedadamw8bit "
    "pagedadamw32bit pagedademamix8bit pagedlion8bit radam rmsprop sgd sgdnesterov sgdnesterov8bit"
)
PER_WEIGHT = frozenset(_PER_WEIGHT.split(" "))


@dataclass(frozen=True)
class FileKind:
    """What one of the files of a full training is.

    Attributes:
        kind: ``checkpoint`` (one file with the original keys), ``diffusers`` (a folder), ``delta`` (the difference to
            the base) or ``lora`` (the best LoRA of that difference).
        rank: a LoRA's rule for its ranks, such as ``64`` or ``error=0.05``.
    """

    kind: Literal["checkpoint", "diffusers", "delta", "lora"]
    rank: str = ""


def file_kind(text: str) -> FileKind:
    """``checkpoint``, ``diffusers``, ``delta`` or ``lora:RANK``, read.

    Raises:
        ValueError: for anything else.
    """
    from loratools.adapter.algebra.rank import parse_rank

    kind, colon, rank = text.strip().partition(":")
    if kind in ("checkpoint", "diffusers", "delta") and not colon:
        return FileKind(kind)  # type: ignore[arg-type]
    if kind != "lora" or not rank:
        raise ValueError(f"'{text}' is no kind of file; write checkpoint, delta, lora:64 or lora:error=0.05")
    try:
        parse_rank(rank)
    except LoratoolsError as error:
        raise ValueError(f"'{text}': {error}") from error
    return FileKind("lora", rank)


def _of_epoch(text: str) -> str:
    if file_kind(text).kind == "diffusers":
        raise ValueError("an epoch's file cannot be a folder; write save_end: diffusers for the last one")
    return text


def _of_end(text: str | None) -> str | None:
    if text is not None:
        file_kind(text)
    return text


class FullConfig(BaseModel):
    """How all weights of a base are trained and saved (``network_type: full``)."""

    weights: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="of a full training: what the weights are held in; bf16: half the memory, rounded at random so "
        "that small steps are not lost",
    )
    fused_backward_pass: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="of a full training: each weight is changed once its gradient is there, which spares memory; auto: "
        "where it is free",
    )
    save: Annotated[str, AfterValidator(_of_epoch)] = Field(
        default="checkpoint",
        description="of a full training, what an epoch's file is: checkpoint, delta (the difference to the base), "
        "lora:64 or lora:error=0.05",
    )
    save_end: Annotated[str | None, AfterValidator(_of_end)] = Field(
        default=None,
        description="of a full training, one file more after the last epoch, NAME-last.safetensors: as `save`, or "
        "diffusers for a folder",
    )
