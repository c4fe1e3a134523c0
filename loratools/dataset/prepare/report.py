"""What a preparation did, as JSON and for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.dataset.prepare.enlarge import BLURRY
from loratools.dataset.prepare.make import LANCZOS
from loratools.dataset.prepare.manifest import Manifest
from loratools.dataset.tags.vocabulary import CLASSES, VARIANTS
from loratools.dataset.walk import MASKS, UNUSED

_SHOWN = 12


@dataclass(frozen=True)
class PrepareReport:
    """What was made.

    Attributes:
        out: the folder.
        manifest: what came of every original.
        done: originals that were worked on now; the others were prepared before.
        problems: originals that failed and are tried again next time, a sentence each.
        notes: what a person should know besides.
        masked: whether pictures have masks.
    """

    out: Path
    manifest: Manifest
    done: int
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    masked: bool = False

    def classes(self) -> dict[str, int]:
        """Pictures in each class; those of groups of variants under a name of their own."""
        counts = Counter(
            f"{piece.kind}{VARIANTS}" if piece.group else piece.kind for _, piece in self.manifest.pieces()
        )
        names = [name for kind in CLASSES for name in (kind, f"{kind}{VARIANTS}")]
        return {name: counts[name] for name in names if counts[name]}

    def left_out(self) -> Mapping[str, str]:
        """Why originals and pieces are not used, by name."""
        entries = self.manifest.entries.values()
        originals = {entry.file: entry.reason for entry in entries if entry.outcome != "used"}
        return originals | {piece.name: piece.unused for entry in entries for piece in entry.pieces if piece.unused}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind, a sentence each."""
        blurry = [piece for _, piece in self.manifest.pieces() if piece.by == LANCZOS and piece.factor > BLURRY]
        lanczos = (
            [
                f"{len(blurry)} pictures were enlarged up to {max(piece.factor for piece in blurry):.1f} x by Lanczos, "
                "which blurs; name a model (--upscaler FILE, or upscaler in a recipe)"
            ]
            if blurry
            else []
        )
        return (*self.problems, *lanczos, *self.notes)

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        groups = {piece.group for _, piece in self.manifest.pieces() if piece.group}
        enlarged = Counter(piece.by for _, piece in self.manifest.pieces() if piece.by)
        return {
            "out": str(self.out),
            "originals": len(self.manifest.entries),
            "done": self.done,
            "pictures": sum(self.classes().values()),
            "classes": self.classes(),
            "groups": len(groups),
            "enlarged": dict(enlarged),
            "unused": dict(self.left_out()),
            "masks": str(self.out / MASKS) if self.masked else None,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """For a person."""
        value = self.json()
        classes = ", ".join(f"{count} {name}" for name, count in value["classes"].items()) or "none"
        lines = [
            f"{value['pictures']} pictures of {value['originals']} originals in {self.out} ({self.done} worked on now)",
            f"  classes   {classes}",
        ]
        if value["groups"]:
            lines.append(
                f"  variants  {value['groups']} group{'s' if value['groups'] > 1 else ''}, in folders of their own"
            )
        if value["enlarged"]:
            by = ", ".join(f"{count} by {name}" for name, count in value["enlarged"].items())
            lines.append(f"  enlarged  {by}")
        left_out = list(self.left_out().items())
        if left_out:
            lines.append(f"  left out  {len(left_out)}, in {self.out / UNUSED} with {REASONS}:")
            lines += [f"    {name}: {reason}" for name, reason in left_out[:_SHOWN]]
            lines += [f"    ... and {len(left_out) - _SHOWN} more"] if len(left_out) > _SHOWN else []
        if self.masked:
            lines.append(f"text is masked: train with mask_folder: {self.out / MASKS}")
        return "\n".join(lines)


REASONS = "reasons.txt"
