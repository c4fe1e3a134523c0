"""What a fix of a recipe's vectors did, or what an undo took back: for a person, and as JSON values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loratools.recipe.edit.log import Change, Made


@dataclass(frozen=True)
class Fixed:
    """What a fix did (or would do), or what an undo took back.

    Attributes:
        text: the recipe's text afterwards, and ``old`` before.
        notes: overlaps, conflicts and what was left alone, for the person.
    """

    recipe: Path
    made: tuple[Made, ...]
    changes: tuple[Change, ...]
    conflicts: tuple[str, ...]
    notes: tuple[str, ...]
    old: str
    text: str
    written: bool = False

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "recipe": str(self.recipe),
            "written": self.written,
            "symptoms": [asdict(one) for one in self.made],
            "changes": [
                {**asdict(one), "before": float(one.before), "after": float(one.after)} for one in self.changes
            ],
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """For a person: what was tried, every number before and after, and what to know."""
        lines = [f"{one.symptom}, step {one.step}: {one.say}" for one in self.made]
        width = max((len(change.vector) for change in self.changes), default=0)
        lines += [
            f"  {change.vector:<{width}}  {change.block:<6}  {change.before} -> {change.after}"
            for change in self.changes
        ]
        return [*lines, *(f"conflict: {text}" for text in self.conflicts), *(f"note: {text}" for text in self.notes)]
