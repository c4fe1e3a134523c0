"""Settings -> what is added to the base: rows with their edits, and the LoRAs that prompts name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from loratools.adapter.parallel import in_order
from loratools.blocks.groups import expand
from loratools.blocks.parse import parse_vector
from loratools.blocks.scheme import full_scheme, numbered_scheme
from loratools.blocks.vector import BlockVector, Presets
from loratools.blocks.webui_tag import take_tags
from loratools.errors import BlockError, GridError, LoratoolsError, PromptError, did_you_mean
from loratools.ops.merging.terms import Term
from loratools.preview.record.grid import RowInfo
from loratools.preview.request.placeholders import hint
from loratools.preview.request.prompt_loras import merge_string
from loratools.preview.request.row_text import TermNames, check_edits
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import CellSetting, RowEdit

Resolve = Callable[[str], Sequence[Term]]  # a merge string -> its terms, their files opened


@dataclass(frozen=True)
class ResolvedPicture:
    """What a setting resolves to: the row's index in :attr:`RowResolver.rows`, its weight, the prompt without tags."""

    row: int
    weight: float
    prompt: str


class RowResolver:
    """Opens and edits the rows of a grid, each once.

    Args:
        presets: named block vectors.
        resolve: opens what tags in prompts name; without it they are an error.
        family: the base's, which tells the length of the vectors in tags.
    """

    def __init__(self, presets: Presets, resolve: Resolve | None = None, family: str | None = None) -> None:
        self._presets, self._resolve, self._family = presets, resolve, family
        self._index: dict[Hashable, int] = {}
        self._infos: list[RowInfo] = []
        self.rows: list[GridRow] = []

    def resolve(self, setting: CellSetting) -> ResolvedPicture:
        """The row, weight and prompt of ``setting``; the same row for settings that differ in neither.

        Weight 0 keeps the LoRAs that the prompt names beside a row, so that the row alone makes the difference; where
        there is no row, it takes them away.

        Raises:
            GridError: for an edit that changes nothing; BlockError, PromptError, FileError: what is wrong with a tag.
        """
        prompt, tags = take_tags(setting.prompt)
        if take_tags(setting.negative)[1]:
            raise PromptError(f"the negative prompt names a LoRA: '{setting.negative}'; only the prompt may")
        row, weight = setting.row, setting.weight
        if not tags:
            return ResolvedPicture(
                self._place(row, setting.edits if weight else (), (), 1.0), weight if row else 0.0, prompt
            )
        if row is None:
            return ResolvedPicture(self._place(None, setting.edits if weight else (), tags, 1.0), weight, prompt)
        return ResolvedPicture(self._place(row, setting.edits if weight else (), tags, weight), 1.0, prompt)

    def infos(self) -> tuple[RowInfo, ...]:
        """The rows so far as a record keeps them, with the digest of every number in them; the base alone has none.

        Raises:
            GridError: if two of them have one name.
        """
        labels = [row.label for row in self.rows]
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise GridError(f"two rows are called '{twice}'; give each once, by a name of its own")
        new = self.rows[len(self._infos) :]
        digests = in_order(lambda row: row.digest() if row.deltas else "", new)
        self._infos += [
            RowInfo(row.label, own, row.provenance, row.loras, of=row.of, times=row.times)
            for row, own in zip(new, digests, strict=True)
        ]
        return tuple(self._infos)

    def _place(self, row: GridRow | None, edits: tuple[RowEdit, ...], tags: tuple[str, ...], weight: float) -> int:
        key = (id(row) if weight else None, edits, tags, weight)  # at 0 the tags alone stand there, beside any row
        if key not in self._index:
            self._index[key] = len(self.rows)
            self.rows.append(self._make(row, edits, tags, weight))
        return self._index[key]

    def _make(self, row: GridRow | None, edits: tuple[RowEdit, ...], tags: tuple[str, ...], weight: float) -> GridRow:
        named = self._open(tags)
        if row is None:
            changed = GridRow.of_terms(named, " ".join(tags)) if named else GridRow("base", {})
            return _of_tags(edited(changed, edits, self._presets))
        changed = edited(row, edits, self._presets)
        if not tags:
            return changed
        if not changed.terms:
            raise GridError(f"'{row.label}' is not a LoRA file or stack, so the tags of the prompt cannot join it")
        own = [replace(term, weight=term.weight * weight) for term in changed.terms if weight]
        times = "" if weight == 1 else f" x {weight:g}"
        joined = GridRow.of_terms([*own, *named], " ".join([f"{changed.label}{times} +" if own else "", *tags]).strip())
        known = changed.times if own else None  # the tags alone are what the others are compared with
        about = " ".join([f"{changed.of or changed.label} +", *tags])
        return replace(joined, of=about, times=None if known is None else known * weight)

    def _open(self, tags: tuple[str, ...]) -> list[Term]:
        if not tags:
            return []
        if self._resolve is None:
            raise PromptError(f"the prompt names a LoRA, {tags[0]}, and nothing tells where LoRAs lie")
        try:
            return list(self._resolve(merge_string(tags, self._presets, self._family)))
        except PromptError:
            raise
        except LoratoolsError as error:
            raise PromptError(f"{' '.join(tags)} in a prompt: {error}{hint(' '.join(tags))}") from error


def edited(row: GridRow, edits: Sequence[RowEdit], presets: Presets) -> GridRow:
    """``row`` with every edit over it; its label says them.

    Raises:
        GridError: for a row that is no stack of files, or a LoRA that it does not have.
        BlockError: for a vector that does not fit.
    """
    if not edits:
        return row
    check_edits(row.label, row.names, [(edit.what, edit.term) for edit in edits])
    terms = [
        reduce(lambda own, edit: _edit(own, edit, names, presets), edits, term)
        for term, names in zip(row.terms, row.names, strict=True)
    ]
    made = GridRow.of_terms(terms, " ".join([row.label, *(edit.text() for edit in edits)]), row.names)
    if all(edit.what in ("vector", "block") for edit in edits):
        return made
    kept = [edit.text() for edit in edits if edit.what in ("vector", "block")]
    before = _strength(row)
    return replace(made, of=" ".join([row.label, *kept]), times=_strength(made) if before == 1 else None)


def _of_tags(row: GridRow) -> GridRow:
    """A row of a prompt's tags: of one LoRA the tag's own weight says how strong it is, of several nothing does."""
    if not row.loras:
        return row
    use = row.loras[0]
    return replace(row, of=f"<lora:{use.name}{f':lbw={use.vector}' if use.vector else ''}>", times=_strength(row))


def _strength(row: GridRow) -> float | None:
    """The weight of the only LoRA in ``row``, the same for all of it; None where no number says that."""
    if len(row.terms) != 1 or row.terms[0].te != row.terms[0].unet:
        return None
    return row.terms[0].weight * row.terms[0].unet


def _edit(term: Term, edit: RowEdit, names: TermNames, presets: Presets) -> Term:
    """``term`` with one edit, if it is meant; a weight is shared among the epochs of an average."""
    if edit.term and edit.term not in names.names:
        return term
    match edit.what, edit.value:
        case "weight", float(value):
            return replace(term, weight=value * names.share)
        case "te", float(value):
            return replace(term, te=value)
        case "unet", float(value):
            return replace(term, unet=value)
        case "vector", str(text):
            changed = replace(term, vector=parse_vector(text, presets, term.adapter.family, term.adapter))
            changed.check()
            return changed
        case "block", float(value):
            return replace(term, vector=_with_block(term, names.shown, edit.block, value))
    raise GridError(f"nothing can be done to a row by '{edit.text()}'")


def _with_block(term: Term, name: str, word: str, value: float) -> BlockVector:
    """The term's own vector, or one of ones, with one block or group set anew."""
    scheme = full_scheme(term.adapter.family)
    if not scheme.names:  # an unknown family lists its blocks nowhere
        scheme = numbered_scheme(term.adapter)
    whole = dict.fromkeys(scheme.names, 1.0)
    vector = term.vector or BlockVector(scheme, whole)
    blocks = expand(word, scheme, tuple(whole))
    changed = [block for block in blocks if any(term.block(module) == block for module in term.adapter)]
    if not changed:
        present = dict.fromkeys(block for module in term.adapter if (block := term.block(module)) is not None)
        raise BlockError(
            f"{name} has no module in block {word}{did_you_mean(word, present)}; its blocks are "
            f"{' '.join(present) or 'none'}"
        )
    return vector.with_blocks(blocks, value)
