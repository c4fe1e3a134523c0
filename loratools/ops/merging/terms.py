"""The terms of a sum: files with a weight and a block vector each, and how a merge string's terms become them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from loratools.adapter.architectures.names import UNKNOWN, is_text
from loratools.adapter.files.epoch_files import Reference, find_lora, reference_to, selected
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.blocks.parse import parse_vector
from loratools.blocks.scheme import NO_BLOCK, TEXT_BLOCK, full_scheme, numbered_scheme, sorted_blocks
from loratools.blocks.tokens import is_number
from loratools.blocks.vector import BlockVector, Presets
from loratools.errors import BlockError, UnlistedBlocksError, did_you_mean
from loratools.ops.merging.merge_string import TermSpec
from loratools.ops.merging.one_model import read_alike, warnings_of


@dataclass(frozen=True)
class Term:
    """``weight * vector * delta`` of one adapter: a summand of a merge.

    Args:
        te: factor for text-encoder modules, on top of weight and vector.
        unet: factor for all other modules.
        label: what the user calls the file.
        missing: weight of modules in blocks that ``vector`` does not list; None makes such a module an error.
        scales: block -> one more factor, which matching the norms of several LoRAs sets; absent blocks take 1.
        inline: whether the vector stood in the merge string as bare numbers, not as a preset's name.
        note: what to mind about which file this is, a sentence; empty where its name is all there is to say.
    """

    adapter: Adapter
    weight: float = 1.0
    vector: BlockVector | None = None
    te: float = 1.0
    unet: float = 1.0
    label: str = ""
    missing: float | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    inline: bool = False
    note: str = ""

    def block(self, module: str) -> str | None:
        """The block of a module in the family's full scheme, or None if it is in no block."""
        return full_scheme(self.adapter.family).block_of(module)

    def strength(self, module: str) -> float:
        """What the module's difference is multiplied by. A module in no block takes the weight alone.

        Raises:
            BlockError: if its block is not listed by the vector and ``missing`` is None.
        """
        split = self.te if is_text(module) else self.unet
        scale = self.scales.get(self.block(module) or NO_BLOCK, 1.0) if self.scales else 1.0
        return self.weight * split * self._block_weight(module) * scale

    def unlisted(self) -> tuple[str, ...]:
        """The adapter's modules in blocks that the vector does not list."""
        if self.vector is None:
            return ()
        blocks = ((module, self.block(module)) for module in self.adapter)
        return tuple(name for name, block in blocks if block is not None and self.vector.at(block, name) is None)

    def check(self) -> None:
        """Raise BlockError if the vector leaves modules open and ``missing`` does not say what they get."""
        self._check_blocks()
        open_modules = self.unlisted() if self.missing is None else ()
        if open_modules:
            named = [block for module in open_modules if (block := self.block(module)) is not None]
            blocks = " ".join(sorted_blocks(full_scheme(self.adapter.family), named))
            raise UnlistedBlocksError(
                f"{self.label}: {len(open_modules)} modules are in blocks that its vector does not list ({blocks}); "
                "missing: 1 keeps them at the term's weight, missing: 0 removes them"
            )

    def _check_blocks(self) -> None:
        """Raise BlockError for a block that an unknown model's file lacks: its scheme takes any name, typos too."""
        if self.vector is None or self.adapter.family != UNKNOWN.name:
            return
        present = numbered_scheme(self.adapter).names
        for name in self.vector.weights:
            if name not in (*present, TEXT_BLOCK):  # as in the families that are known, it may be there or not
                raise BlockError(
                    f"{self.label} has no module in block {name}{did_you_mean(name, present)}; its blocks "
                    f"are {' '.join(present) or 'none'}"
                )

    def _block_weight(self, module: str) -> float:
        block = self.block(module) if self.vector is not None else None
        if self.vector is None or block is None:
            return 1.0
        weight = self.vector.at(block, module)
        if weight is not None:
            return weight
        if self.missing is None:
            self.check()
        return self.missing if self.missing is not None else 1.0


def resolve_terms(
    specs: Sequence[TermSpec],
    lookup: Callable[[str], Path] | None = None,
    *,
    lora_dirs: Sequence[Path | str] = (),
    presets: Presets,
    missing: float | None = None,
    best: Callable[[Path], int] | None = None,
    best_note: Callable[[Path], str] | None = None,
    keys: KeyRules = STRICT,
    base: Mapping[str, Tensor] | None = None,
) -> list[Term]:
    """Open the files that ``specs`` name and read their vectors.

    Args:
        lookup: ref -> a LoRA file or a training run; by default a path, or a name in ``lora_dirs`` or here.
        presets: named vectors.
        missing: weight of modules in blocks that a short vector does not list; None makes them an error.
        best: run -> its best epoch's number, for ``name@best``.
        best_note: run -> what to mind about that choice, if anything.
        keys: what is done about keys that no table knows.
        base: the base's weights by canonical parameter name, which the differences of a DoRA depend on.
    Raises:
        FileError, FormatError: for a file that is missing or no LoRA.
        BlockError: for a vector that does not fit the file's family.
    """
    find = lookup or (lambda ref: find_lora(ref, lora_dirs))
    specs = [as_file(spec, find) for spec in specs]
    files_of = [_files(spec, find, best) for spec in specs]
    paths = list(dict.fromkeys(path for files in files_of for path, _ in files))
    adapters = read_alike(
        [read(path, base, keys.allow_unknown, keys.drop) for path in paths], getattr(base, "family", None)
    )
    opened = dict(zip(paths, adapters, strict=True))
    terms = []
    for spec, files in zip(specs, files_of, strict=True):
        minded = best_note(find(spec.ref)) if best_note is not None and spec.epoch == "best" else ""
        for path, label in files:
            adapter = opened[path]
            vector = _vector(spec.vector_text, presets, adapter)
            inline = spec.vector_text is not None and is_number(spec.vector_text.split(",")[0])
            term = Term(
                adapter=adapter,
                weight=spec.weight / len(files),
                vector=vector,
                te=spec.te,
                unet=spec.unet,
                label=label,
                missing=missing,
                inline=inline,
                note=f"{spec.ref}@best is {label}: {minded}" if minded else "",
            )
            term.check()
            terms.append(term)
    return terms


def warnings_of_terms(terms: Sequence[Term]) -> tuple[str, ...]:
    """What a sum of these should say beside its result: one sentence each."""
    notes = dict.fromkeys(term.note for term in terms if term.note)
    return (*notes, *warnings_of([term.adapter for term in terms]))


def _vector(text: str | None, presets: Presets, adapter: Adapter) -> BlockVector | None:
    return None if text is None else parse_vector(text, presets, adapter.family, adapter)


def named_alike(terms: Sequence[Term]) -> list[Term]:
    """The terms with their modules named by one family's table where that can be; a term with a vector, which is of its
    family's blocks, stays as it is, and the others with it."""
    adapters = list({id(term.adapter): term.adapter for term in terms}.values())
    again = dict(zip(map(id, adapters), read_alike(adapters), strict=True))
    if any(term.vector is not None and again[id(term.adapter)] is not term.adapter for term in terms):
        return list(terms)
    return [replace(term, adapter=again[id(term.adapter)]) for term in terms]


def as_file(spec: TermSpec, find: Callable[[str], Path]) -> TermSpec:
    """``spec`` with its ``@8`` taken for a part of the name, where a file of that name is there: a file called
    ``style@8.safetensors`` wins over epoch 8 of a run ``style``.

    Args:
        find: name -> a LoRA file or a training run; FileError for a name that is nothing.
    """
    if spec.epoch is None:
        return spec
    reference = reference_to(f"{spec.ref}@{spec.epoch}", find)
    return replace(spec, ref=reference.name, epoch=reference.selector)


def _files(spec: TermSpec, find: Callable[[str], Path], best: Callable[[Path], int] | None) -> list[tuple[Path, str]]:
    """The files that one term means, each with the label it goes by: several for an average over epochs."""
    path = find(spec.ref)
    chosen = selected(path, Reference(spec.ref, spec.epoch), best)
    return [(epoch.path, f"{spec.ref}@{epoch.number}") for epoch in chosen] or [(path, spec.ref)]
