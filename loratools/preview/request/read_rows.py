"""The rows of a grid from text: a run is a row for each epoch, a file is a row, a merge string is a stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import LoratoolsError, SeveralRunsError
from loratools.preview.request.row_text import RowText, TermNames, names_of, names_of_spec

if TYPE_CHECKING:
    from loratools.adapter.files.lora_file import KeyRules
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.merge_string import TermSpec
    from loratools.ops.merging.terms import Term
    from loratools.preview.request.rows import GridRow


@dataclass(frozen=True)
class NameLookup:
    """How names are found and vectors are read.

    Args:
        lookup: name -> a LoRA file or a training run.
        find: name -> a file of prompts, if it is one.
        presets, missing, best, keys: as for :func:`loratools.ops.merging.terms.resolve_terms`.
    """

    lookup: Callable[[str], Path]
    find: Callable[[str], Path | None]
    presets: Presets
    missing: float | None = None
    best: Callable[[Path], int] | None = None
    keys: KeyRules | None = None

    def rows(self, texts: Sequence[RowText]) -> list[GridRow]:
        """One or more opened rows for each text, labelled so that the label can be used in a merge string.

        Files and runs of one name are told apart by their folders: ``a/last``, ``b/last``.

        Raises:
            LoratoolsError: for a name that no file or run has, or a vector that does not fit.
        """
        texts = [self.of_files(text) for text in texts]
        rows = [self._bare(spec) if (spec := text.bare) is not None else [self._stack(text)] for text in texts]
        labels = distinct_labels(texts, self.lookup, [[row.label for row in own] for own in rows])
        return [
            replace(row, label=label) for row, label in zip((row for own in rows for row in own), labels, strict=True)
        ]

    def by_run(self, text: RowText) -> list[RowText]:
        """A row that is a folder of several training runs as one row for each of them; any other as it is."""
        return one_row_a_run(self.of_files(text), self.lookup)

    def of_files(self, text: RowText) -> RowText:
        """``text`` with each name such as ``style@8`` that is a file's taken for the file."""
        from loratools.ops.merging.terms import as_file

        return replace(text, specs=tuple(as_file(spec, self.lookup) for spec in text.specs))

    def is_run(self, ref: str) -> bool:
        """Whether ``ref`` is a training run."""
        from loratools.adapter.files.epoch_files import is_run

        return is_run(self.lookup(ref))

    def is_readable(self, tag: str) -> bool:
        """Whether a tag in a prompt can be read, and its LoRA is there."""
        from loratools.ops.merging.merge_string import parse_merge_string
        from loratools.preview.request.prompt_loras import merge_string

        try:
            for spec in parse_merge_string(merge_string([tag], self.presets)):
                self.lookup(spec.ref)
        except LoratoolsError:
            return False
        return True

    def terms(self, text: str) -> list[Term]:
        """A merge string's terms, their files opened."""
        return self._resolved(RowText.parse(text).specs)

    def _resolved(self, specs: Sequence[TermSpec]) -> list[Term]:
        from loratools.ops.merging.terms import resolve_terms

        return resolve_terms(
            specs, self.lookup, presets=self.presets, missing=self.missing, best=self.best, keys=self._rules()
        )

    def _rules(self) -> KeyRules:
        from loratools.adapter.files.lora_file import STRICT

        return self.keys or STRICT

    def _bare(self, spec: TermSpec) -> list[GridRow]:
        from loratools.adapter.files.epoch_files import epochs
        from loratools.adapter.files.file import read
        from loratools.preview.request.rows import GridRow

        place, name = self.lookup(spec.ref), plain_name(spec)
        if spec.epoch is not None or place.is_file():
            (term,) = self._resolved([spec])
            number = "" if spec.epoch is None else "@" + term.label.rpartition("@")[2]
            names = names_of(spec.ref, spec.epoch) | _label_names(spec, term.label)
            return [GridRow.of_file(term.adapter, name + number, names)]
        rules = self._rules()
        return [
            GridRow.of_file(
                read(epoch.path, None, rules.allow_unknown, rules.drop),
                f"{name}@{epoch.number}",
                names_of(spec.ref, epoch.number),
            )
            for epoch in epochs(place)
        ]

    def _stack(self, text: RowText) -> GridRow:
        from loratools.preview.request.rows import GridRow

        terms = self._resolved(text.specs)
        names: list[TermNames] = []
        for spec in text.specs:
            count = len(names_of_spec(spec))
            own = terms[len(names) : len(names) + count]
            written = names_of(spec.ref, spec.epoch)
            names += [TermNames(term.label, written | _label_names(spec, term.label), 1 / count) for term in own]
        return GridRow.of_terms(terms, text.text.strip(), names)


def _label_names(spec: TermSpec, label: str) -> frozenset[str]:
    """The names by which axes may call the one epoch that ``label`` names."""
    return names_of(spec.ref, label[len(spec.ref) + 1 :]) if label.startswith(f"{spec.ref}@") else frozenset()


def planned_labels(text: RowText, numbers: Callable[[str], Sequence[int] | None]) -> list[tuple[str, list[TermNames]]]:
    """The rows of one text before they are there: the label of each, and the names of its LoRAs.

    The label of an epoch that only a log knows is ``NAME@best``.

    Args:
        numbers: name -> the epochs of a run, or None for a file.
    """
    spec = text.bare
    if spec is None:
        return [(text.text.strip(), [one for spec in text.specs for one in names_of_spec(spec, numbers(spec.ref))])]
    known, name = numbers(spec.ref), plain_name(spec)
    if known is None:
        return [(name, names_of_spec(spec))]
    if spec.epoch is None:
        return [(f"{name}@{number}", [TermNames(name, names_of(spec.ref, number))]) for number in known]
    epoch = known[-1] if spec.epoch == "last" else spec.epoch if spec.epoch == "best" else int(spec.epoch)
    return [(f"{name}@{epoch}", names_of_spec(spec, known))]


def one_row_a_run(text: RowText, lookup: Callable[[str], Path]) -> list[RowText]:
    """``text`` as one row for each run, where it is the bare name of a folder that holds several training runs.

    Args:
        lookup: name -> a LoRA file or a training run; SeveralRunsError for such a folder.
    Raises:
        FileError: for a name that is nothing.
    """
    spec = text.bare
    if spec is None:
        return [text]
    try:
        lookup(spec.ref)
    except SeveralRunsError as error:
        refs = [f"{spec.ref.rstrip('/')}/{name}" for name in error.names]
        return [RowText.of_specs([replace(spec, ref=ref)]) for ref in refs]
    return [text]


def plain_name(spec: TermSpec) -> str:
    """A term's name without folders and ending."""
    return Path(spec.ref).name.removesuffix(".safetensors")


def distinct_labels(
    texts: Sequence[RowText], lookup: Callable[[str], Path], labels: Sequence[Sequence[str]]
) -> list[str]:
    """The labels of all rows, told apart by folders.

    Args:
        lookup: name -> where a LoRA file or a training run is or will be.
        labels: those of each text's rows.
    """
    paths: list[tuple[str, ...]] = []
    for text, own in zip(texts, labels, strict=True):
        folders = lookup(spec.ref).absolute().parts[:-1] if (spec := text.bare) is not None else ()
        paths += [(*folders, label) for label in own]
    return _apart(paths)


def _apart(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The last part of each path, with as many folders before it as tell it from other paths."""
    labels = [path[-1] for path in paths]
    for depth in range(2, max(map(len, paths), default=0) + 1):
        counts = Counter(label for label, _ in set(zip(labels, paths, strict=True)))
        labels = [
            label if counts[label] == 1 else "/".join(path[-depth:]) for label, path in zip(labels, paths, strict=True)
        ]
    return labels
