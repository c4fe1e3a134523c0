"""A row of a grid as text, read once: a LoRA file, a training run, or a merge string; and how axes name its LoRAs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import GridError, did_you_mean

if TYPE_CHECKING:
    from loratools.ops.merging.merge_string import TermSpec


@dataclass(frozen=True)
class RowText:
    """``text`` as it is written, and the terms that it means."""

    text: str
    specs: tuple[TermSpec, ...]

    @staticmethod
    def parse(text: str) -> RowText:
        """Read a row.

        Raises:
            MergeStringError: if it is no merge string.
        """
        from loratools.ops.merging.merge_string import parse_merge_string

        return RowText(text, tuple(parse_merge_string(text)))

    @staticmethod
    def typed(text: str) -> RowText:
        """Read a row that a person types or a program hands over: what is here by its whole name needs no quotes.

        Raises:
            MergeStringError: as for :meth:`parse`.
        """
        from loratools.ops.merging.merge_string import typed_merge_string

        return RowText(text, tuple(typed_merge_string(text)))

    @staticmethod
    def of_specs(specs: Sequence[TermSpec]) -> RowText:
        """The row that means ``specs``."""
        return RowText(",".join(spec.text() for spec in specs), tuple(specs))

    @property
    def bare(self) -> TermSpec | None:
        """The only term, if it is a name with neither weight nor vector: such a run is a row for each epoch."""
        if len(self.specs) != 1:
            return None
        (spec,) = self.specs
        plain = spec.vector_text is None and (spec.weight, spec.te, spec.unet) == (1, 1, 1)
        return spec if plain and "-" not in (spec.epoch or "") else None


@dataclass(frozen=True)
class TermNames:
    """How an axis such as ``weight of NAME`` may name one LoRA of a row.

    Args:
        shown: its label, for messages.
        names: every name that it goes by.
        share: its part of the weight that is written: a third for each epoch of ``ink@6-8``.
    """

    shown: str
    names: frozenset[str]
    share: float = 1.0


def names_of(ref: str, epoch: str | int | None = None) -> frozenset[str]:
    """What a LoRA written as ``ref`` or ``ref@epoch`` goes by: that, and the same without folders and ending."""
    path = Path(ref)
    plain = {ref, path.name, path.stem}
    return frozenset(plain if epoch is None else plain | {f"{name}@{epoch}" for name in plain})


def names_of_spec(spec: TermSpec, numbers: Sequence[int] | None = None) -> list[TermNames]:
    """The names of the LoRAs that one term means: several for an average of epochs, else one.

    Args:
        numbers: the epochs of the run that the term names, as far as they are known.
    """
    written = names_of(spec.ref, spec.epoch)
    chosen = _chosen(spec.epoch, numbers)
    if not chosen:
        return [TermNames(spec.ref if spec.epoch is None else f"{spec.ref}@{spec.epoch}", written)]
    return [
        TermNames(f"{spec.ref}@{number}", written | names_of(spec.ref, number), 1 / len(chosen)) for number in chosen
    ]


def _chosen(epoch: str | None, numbers: Sequence[int] | None) -> list[int]:
    """The epochs that a selector means, as far as they are known."""
    if epoch is not None and epoch not in ("best", "last"):
        first, _, last = epoch.partition("-")
        return list(range(int(first), int(last or first) + 1))
    return [numbers[-1]] if numbers and epoch != "best" else []


def check_edits(row: str, terms: Sequence[TermNames], edits: Sequence[tuple[str, str]]) -> None:
    """Raise unless a row can be changed as axes ask.

    Args:
        row: the row's label.
        terms: the LoRAs that it is the sum of; none if it never was a file.
        edits: what is changed (``weight``, ``block`` ...), and the name of the LoRA that is meant, empty for all.
    Raises:
        GridError: for a row that is no stack of files, or a LoRA that it does not have.
    """
    if edits and not terms:
        raise GridError(f"'{row}' is not a LoRA file or stack, so its {edits[0][0]} cannot be changed")
    for _, name in edits:
        if name and not any(name in term.names for term in terms):
            shown = [term.shown for term in terms]
            raise GridError(
                f"'{row}' has no LoRA called '{name}'{did_you_mean(name, shown)}; it has {', '.join(shown)}"
            )
