"""The rows of a grid from text: a run is a row for each epoch, a file is a row, a merge string is a stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import PromptError

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.merge_string import TermSpec
    from loratools.preview.request.rows import GridRow

_COMMENT = "#"


def build_rows(
    texts: Sequence[str],
    lookup: Callable[[str], Path],
    *,
    presets: Presets,
    missing: float | None = None,
    best: Callable[[Path], int] | None = None,
) -> list[GridRow]:
    """One or more rows for each text, labelled so that the label can be used in a merge string.

    Files and runs of one name are told apart by their folders: ``a/last``, ``b/last``.

    Args:
        lookup: name -> a LoRA file or a training run.
        presets, missing, best: as for :func:`loratools.ops.merging.terms.resolve_terms`.
    Raises:
        LoratoolsError: for text that is no merge string, or a name that is nothing.
    """
    from loratools.ops.merging.merge_string import parse_merge_string

    rows: list[GridRow] = []
    counts = []
    for text in texts:
        specs = parse_merge_string(text)
        bare = len(specs) == 1 and _is_bare(specs[0])
        found = (
            _bare(specs[0], lookup, presets, best) if bare else [_stack(specs, text, lookup, presets, missing, best)]
        )
        rows += found
        counts.append(len(found))
    labels = _labelled(texts, lookup, [row.label for row in rows], counts)
    return [replace(row, label=label) for row, label in zip(rows, labels, strict=True)]


def row_labels(
    texts: Sequence[str], lookup: Callable[[str], Path], numbers: Callable[[str], Sequence[int] | None]
) -> list[str]:
    """The labels of :func:`build_rows` before the rows are there; of an epoch that only a log knows, ``NAME@best``.

    Args:
        lookup: name -> where a LoRA file or a training run is or will be.
        numbers: name -> the epochs of a run, or None for a file.
    """
    from loratools.ops.merging.merge_string import parse_merge_string

    labels: list[str] = []
    counts = []
    for text in texts:
        specs = parse_merge_string(text)
        found = (
            _bare_labels(specs[0], numbers(specs[0].ref)) if len(specs) == 1 and _is_bare(specs[0]) else [text.strip()]
        )
        labels += found
        counts.append(len(found))
    return _labelled(texts, lookup, labels, counts)


def _bare_labels(spec: TermSpec, numbers: Sequence[int] | None) -> list[str]:
    name = _name(spec)
    if numbers is None:
        return [name]
    if spec.epoch is None:
        return [f"{name}@{number}" for number in numbers]
    number = numbers[-1] if spec.epoch == "last" else spec.epoch if spec.epoch == "best" else int(spec.epoch)
    return [f"{name}@{number}"]


def _name(spec: TermSpec) -> str:
    return Path(spec.ref).name.removesuffix(".safetensors")


def _labelled(
    texts: Sequence[str], lookup: Callable[[str], Path], labels: Sequence[str], counts: Sequence[int]
) -> list[str]:
    """The labels told apart by folders; ``counts`` are how many of them each text gave."""
    from loratools.ops.merging.merge_string import parse_merge_string

    folders: list[tuple[str, ...]] = []
    for text, count in zip(texts, counts, strict=True):
        specs = parse_merge_string(text)
        bare = len(specs) == 1 and _is_bare(specs[0])
        folders += [lookup(specs[0].ref).absolute().parts[:-1] if bare else ()] * count
    return _apart([(*folder, label) for folder, label in zip(folders, labels, strict=True)])


def _apart(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The last part of each path, with as many folders before it as tell it from other paths."""
    labels = [path[-1] for path in paths]
    for depth in range(2, max(map(len, paths), default=0) + 1):
        counts = Counter(label for label, _ in set(zip(labels, paths, strict=True)))
        labels = [
            label if counts[label] == 1 else "/".join(path[-depth:]) for label, path in zip(labels, paths, strict=True)
        ]
    return labels


def read_prompts(texts: Sequence[str], find: Callable[[str], Path | None]) -> list[str]:
    """Prompts as they stand; each one that names a file is read, a prompt a line, ``#`` lines left out.

    Raises:
        PromptError: if a file is missing, unreadable, or holds no prompt.
    """
    return [prompt for text in texts for prompt in _prompts(text, find)]


def _prompts(text: str, find: Callable[[str], Path | None]) -> list[str]:
    if "\n" in text:
        return [text]
    try:
        path = find(text)
    except OSError:  # longer than a file's name may be
        path = None
    if path is None or not path.is_file():
        if text.lower().endswith(".txt"):
            raise PromptError(f"there is no file of prompts '{text}'; write prompts into it, one a line")
        return [text]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} cannot be read as UTF-8 text: {error}") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(_COMMENT)]
    if not prompts:
        raise PromptError(f"{path} holds no prompt; write one a line")
    return prompts


def _is_bare(spec: TermSpec) -> bool:
    return spec.vector_text is None and (spec.weight, spec.te, spec.unet) == (1, 1, 1) and "-" not in (spec.epoch or "")


def _bare(
    spec: TermSpec, lookup: Callable[[str], Path], presets: Presets, best: Callable[[Path], int] | None
) -> list[GridRow]:
    from loratools.adapter.files.epoch_files import epochs
    from loratools.adapter.files.file import read
    from loratools.ops.merging.terms import resolve_terms
    from loratools.preview.request.rows import GridRow

    place = lookup(spec.ref)
    name = _name(spec)
    if spec.epoch is not None or place.is_file():
        (term,) = resolve_terms([spec], lookup, presets=presets, best=best)
        number = "" if spec.epoch is None else "@" + term.label.rpartition("@")[2]
        return [GridRow.of_file(term.adapter, name + number)]
    return [GridRow.of_file(read(epoch.path), f"{name}@{epoch.number}") for epoch in epochs(place)]


def _stack(
    specs: Sequence[TermSpec],
    text: str,
    lookup: Callable[[str], Path],
    presets: Presets,
    missing: float | None,
    best: Callable[[Path], int] | None,
) -> GridRow:
    from loratools.ops.merging.terms import resolve_terms
    from loratools.preview.request.rows import GridRow

    terms = resolve_terms(specs, lookup, presets=presets, missing=missing, best=best)
    return GridRow.of_terms(terms, text.strip())
