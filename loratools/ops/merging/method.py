"""How a merge's terms become its result: their exact sum, a TIES merge, or what another tool would make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from loratools.errors import OptionError
from loratools.ops.merging.compat import Tool, compatible
from loratools.ops.merging.lazy_result import LazyResult
from loratools.ops.merging.norms import match_norms
from loratools.ops.merging.terms import Term
from loratools.ops.merging.ties import Ties

Method = Literal["exact", "ties"]
METHODS: tuple[str, ...] = get_args(Method)
TOOLS: tuple[str, ...] = get_args(Tool)
DENSITY = 0.5  # the part of the entries that TIES keeps unless another is asked for


@dataclass(frozen=True)
class MergeMethod:
    """What is made of the terms.

    Args:
        name: ``exact``, the weighted sum, or ``ties``.
        density: of ``ties``: the part of each term's entries that takes part; None is :data:`DENSITY`.
        match_norm: bring the LoRAs to equal norm in each block before the weights.
        compat: reproduce another tool as it is; ``name`` and ``match_norm`` then stay as they are by default.
    Raises:
        OptionError: for a name or a tool that there is not, or settings that do not go together.
    """

    name: Method = "exact"
    density: float | None = None
    match_norm: bool = False
    compat: Tool | None = None

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise OptionError(f"there is no merge method '{self.name}'; there are {' and '.join(METHODS)}")
        if self.compat is not None and self.compat not in TOOLS:
            raise OptionError(f"there is no tool '{self.compat}' to reproduce; there are {', '.join(TOOLS)}")
        if self.density is not None and self.name != "ties":
            raise OptionError("a density goes with the merge method ties alone")
        if self.compat and (self.name != "exact" or self.match_norm):
            raise OptionError("another tool is reproduced as it is: without a method, and without matching norms")

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
            LoratoolsError: of the kinds that :class:`Ties` and :func:`compatible` name.
        """
        if self.name == "ties":
            return Ties(terms, self._density)
        return compatible(terms, self.compat) if self.compat else None

    def facts(self) -> dict[str, Any]:
        """What a file's header says of the method; nothing for the plain sum."""
        ties = {"method": "ties", "density": self._density} if self.name == "ties" else {}
        return ties | ({"compat": self.compat} if self.compat else {})

    @property
    def _density(self) -> float:
        return DENSITY if self.density is None else self.density


EXACT = MergeMethod()
