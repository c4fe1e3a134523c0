"""A row of a grid: what is added to the base, and what it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.files.epoch_files import parse_reference
from loratools.adapter.files.file import Adapter
from loratools.adapter.files.lora_file import is_peft
from loratools.base.infotext import LoraUse, plain_name
from loratools.ops.merging.merge import combine
from loratools.ops.merging.terms import Term
from loratools.preview.request.row_text import TermNames, names_of


@dataclass(frozen=True)
class GridRow:
    """What a row adds to the base, and what it is called.

    Args:
        label: on the left of the sheet.
        deltas: module -> difference, as it is patched.
        provenance: how it was made, free text; it is written into the pictures.
        loras: the files in it, for the WebUI's tags and hashes; empty where it was made of no file.
        terms: the weighted files that it is the sum of, which axes change; empty where it was made of no file.
        names: for each of ``terms`` the names that axes may use for it.
        of, times: as in :class:`.grid.RowInfo`.
    """

    label: str
    deltas: Mapping[str, Delta]
    provenance: str = ""
    loras: tuple[LoraUse, ...] = ()
    terms: tuple[Term, ...] = ()
    of: str = ""
    times: float | None = 1.0
    names: tuple[TermNames, ...] = ()

    @staticmethod
    def of_file(adapter: Adapter, label: str = "", names: frozenset[str] = frozenset()) -> GridRow:
        """One LoRA file as it is; ``names`` are what it goes by beside its file's name."""
        name = file_name(adapter)
        made = str(adapter.metadata.get("loratools", ""))
        term = Term(adapter, label=name)
        known = TermNames(name, names_of(name) | names)
        return GridRow(label or name, adapter, made, (LoraUse(name, adapter.digest),), (term,), names=(known,))

    @staticmethod
    def of_terms(terms: Sequence[Term], label: str, names: Sequence[TermNames] | None = None) -> GridRow:
        """A stack, combined by the very sum that a merge writes; ``names``, by default, follow from the labels."""
        known = [_names(term) for term in terms] if names is None else names
        return GridRow(label, combine(terms), label, _uses(terms), tuple(terms), names=tuple(known))

    def digest(self) -> str:
        """sha256 over every module's name, shape and numbers: what the row adds, whatever it is called."""
        total = hashlib.sha256()
        for name in sorted(self.deltas):
            delta = self.deltas[name]
            parts = (delta.up, delta.down) if isinstance(delta, LowRank) else (delta.value,)
            total.update(f"{name}{tuple(delta.shape)}{[tuple(part.shape) for part in parts]}\n".encode())
            for part in parts:
                total.update(part.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return total.hexdigest()


def file_name(adapter: Adapter) -> str:
    """The name by which other programs know a LoRA: its file's, or its folder's where PEFT names the file."""
    folder = adapter.path.parent
    return folder.name if is_peft(folder) else adapter.path.stem


def _names(term: Term) -> TermNames:
    label = term.label or (term.adapter.path.stem if term.adapter.path else "adapter")
    reference = parse_reference(label)
    return TermNames(label, names_of(reference.name, reference.selector) | {label})


def _uses(terms: Sequence[Term]) -> tuple[LoraUse, ...]:
    """Each term as a prompt names it; a counter parts different files of one name."""
    names: dict[str, str] = {}  # plain name -> the file's digest
    uses = []
    for term in terms:
        own = plain_name(file_name(term.adapter))
        name, copy = own, 2
        while names.setdefault(name, term.adapter.digest) != term.adapter.digest:
            name, copy = f"{own}-{copy}", copy + 1
        vector = term.vector.text() if term.vector is not None else ""
        uses.append(LoraUse(name, term.adapter.digest, term.weight, vector, term.te, term.unet))
    return tuple(uses)
