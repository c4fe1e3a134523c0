"""``base_adapters``: LoRAs merged into the base before training, so that only the difference to them is learnt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loratools.adapter.architectures.names import family_of
from loratools.adapter.files.file import Adapter
from loratools.adapter.files.metadata import inherited
from loratools.base.model import Base
from loratools.base.patching.patch import Patcher, live_modules
from loratools.blocks.presets import load_presets
from loratools.errors import TrainingError
from loratools.ops.merging.merge import combine
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms


class BaseAdapters:
    """The sum of ``terms``, each ``file:weight[:vector]``, for one base.

    Raises:
        MergeStringError, FileError, FormatError, BlockError: as a merge of them would.
        TrainingError: if they are for another model family.
    """

    def __init__(self, terms: Sequence[str], base: Base) -> None:
        self._base, self._terms = base, _resolved(terms, base)
        for adapter in self._adapters():
            if adapter.family != base.family:
                raise TrainingError(
                    f"base_adapters has {adapter.path} for {family_of(adapter.family).title} and the "
                    f"base is {family_of(base.family).title}; leave it out"
                )

    def merge(self) -> None:
        """Add the sum to the base's weights, exactly: in full precision, before they are cast for training.

        It does not change which modules a network trains.
        """
        if self._terms:
            Patcher(self._base).patch(combine(self._terms))

    @property
    def base_digest(self) -> str:
        """A digest of the base with the sum in it; the base's own digest where there are no adapters."""
        if not self._terms:
            return self._base.digest
        parts = [self._base.digest, *map(_digested, self._terms)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def inputs(self) -> list[dict[str, str]]:
        """Name and digest of every file, for the header."""
        return [
            {"name": str(adapter.path), "digest": adapter.digest, "kind": "base adapter"}
            for adapter in self._adapters()
        ]

    @property
    def ancestors(self) -> Mapping[str, Mapping[str, Any]]:
        """How the files themselves were made, by digest, for the header."""
        return inherited([(adapter.digest, adapter.metadata) for adapter in self._adapters()])

    def _adapters(self) -> list[Adapter]:
        return list({id(term.adapter): term.adapter for term in self._terms}.values())


def _digested(term: Term) -> str:
    """What a term adds: its file, its weight, and under a vector the strength of each module."""
    plain = f"{term.adapter.digest} {term.weight!r}"
    own = {} if term.vector is None else {name: term.strength(name) for name in term.adapter}
    return " ".join([plain, *(f"{name} {strength!r}" for name, strength in sorted(own.items()))])


def _resolved(terms: Sequence[str], base: Base) -> list[Term]:
    if not terms:
        return []
    specs = [spec for text in terms for spec in parse_merge_string(text)]
    return resolve_terms(specs, lora_dirs=[Path()], presets=load_presets(), base=_weights(base))


def _weights(base: Base) -> dict[str, Tensor]:
    """The base's own weights by parameter name, for adapters that rescale them (DoRA); they are copied when used."""
    weights = {}
    for name, module in live_modules(base).items():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.nn.Parameter):
            weights[f"{name}.weight"] = weight.detach()
    return weights
