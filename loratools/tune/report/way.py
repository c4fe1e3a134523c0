"""What a way that follows the search came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loratools.measures.estimate import Estimate
from loratools.ops.merging.terms import Term
from loratools.tune.report.columns import HeldOut, estimate_json


@dataclass(frozen=True, eq=False)
class WayResult:
    """One way: what it made, beside what was the answer before it, on held-out pictures.

    Attributes:
        way: its name, as ``--then`` has it.
        column: of the report; empty where it made nothing to look at.
        before: the column of what was the answer until then.
        helped: whether it is the answer now.
        terms: what it made, to be merged.
        gain: its mean cost less that of the answer before, in units of the LoRA's excess over the base.
        reason: a sentence for a person.
        facts: how it was made, as JSON values.
    """

    way: str
    column: str
    before: str
    helped: bool
    terms: tuple[Term, ...]
    gain: Estimate | None
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def json(self, held: HeldOut) -> dict[str, Any]:
        """As an entry of ``tune.json``."""
        drawn = bool(self.column)
        names = held.column(self.before).values
        return {
            "way": self.way,
            "column": self.column or None,
            "before": self.before,
            "helped": self.helped,
            "reason": self.reason,
            "gain": None if self.gain is None else estimate_json(self.gain),
            "figures": held.json(self.column) if drawn else None,
            "change": (
                {name: estimate_json(held.difference(self.column, self.before, name)) for name in names}
                if drawn
                else None
            ),
            **self.facts,
        }
