"""How a merge's terms become its result: their exact sum, another method's, or what another tool would make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from loratools.errors import OptionError
from loratools.ops.merging.compat import Tool, compatible
from loratools.ops.merging.lazy_result import LazyResult
from loratools.ops.merging.methods.build import build
from loratools.ops.merging.methods.declared import PARAMETERS, MethodName, find_method
from loratools.ops.merging.norms import match_norms
from loratools.ops.merging.terms import Term

TOOLS: tuple[str, ...] = get_args(Tool)


@dataclass(frozen=True)
class MergeMethod:
    """What is made of the terms.

    Args:
        name: ``exact``, the weighted sum, or another of :data:`~loratools.ops.merging.methods.declared.METHODS`.
        density: of ``ties``, ``dare``, ``breadcrumbs`` and ``knots``: the part of the entries that is kept.
        match_norm: bring the LoRAs to equal norm in each block before the weights.
        compat: reproduce another tool as it is; ``name`` and ``match_norm`` then stay as they are by default.
        gamma: of ``breadcrumbs``: the part of the entries that is dropped as the largest.
        seed: of ``dare``'s draw.
        floor: of ``iso-c``: singular values under this part of the largest are left out.
        keep: of ``tsv-m``: the part of each LoRA's singular directions that takes part.
    Raises:
        OptionError: for a name or a tool that there is not, a number that is out of range or another method's, or
            settings that do not go together. A number that is None is the method's own default.
    """

    name: MethodName = "exact"
    density: float | None = None
    match_norm: bool = False
    compat: Tool | None = None
    gamma: float | None = None
    seed: int | None = None
    floor: float | None = None
    keep: float | None = None

    def __post_init__(self) -> None:
        if self.compat is not None and self.compat not in TOOLS:
            raise OptionError(f"there is no tool '{self.compat}' to reproduce; there are {', '.join(TOOLS)}")
        find_method(self.name)
        if self.compat and (self.name != "exact" or self.match_norm):
            raise OptionError("another tool is reproduced as it is: without a method, and without matching norms")
        _ = self.settings  # raises

    @cached_property
    def settings(self) -> dict[str, float]:
        """The method's parameters by name, defaults put in."""
        return find_method(self.name).settings({name: getattr(self, name) for name in PARAMETERS})

    def missing(self, asked: float | None) -> float | None:
        """The weight of blocks that a vector does not list, where ``asked`` says nothing.

        Other tools never ask: they give such blocks 0, and are measured against keeping them.
        """
        return 1.0 if self.compat and asked is None else asked

    def prepared(self, terms: list[Term]) -> list[Term]:
        """The terms as they are summed: with their norms matched, if that is asked for."""
        return match_norms(terms) if self.match_norm else terms

    def result(self, terms: Sequence[Term]) -> LazyResult | None:
        """What is written in place of the exact sum of ``terms``; None for the sum itself.

        Raises:
            MergeStringError: for more or fewer LoRAs than the method can be made of.
            LoratoolsError: of the kinds that :func:`~loratools.ops.merging.combine.combine` and :func:`compatible`
                name.
        """
        find_method(self.name).check_count(len(terms))
        if self.name != "exact":
            return build(self.name, terms, self.settings)
        return compatible(terms, self.compat) if self.compat else None

    def facts(self) -> dict[str, Any]:
        """What a file's header says of the method; nothing for the plain sum."""
        own = {} if self.name == "exact" else {"method": self.name, **self.settings}
        return own | ({"compat": self.compat} if self.compat else {})

    def text(self) -> str:
        """In words, ``TIES of density 0.5``; empty for the plain sum and for another tool's."""
        numbers = " and ".join(f"{name} {value:g}" for name, value in self.settings.items())
        title = "" if self.name == "exact" else find_method(self.name).title
        return f"{title} of {numbers}" if title and numbers else title


EXACT = MergeMethod()
