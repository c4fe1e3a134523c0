"""Merge strings such as ``Test0:1:GP1,BASE:-1:GP2``, and the terms of a sum that they mean.

Terms are split at commas outside double quotes; a term is ``ref[:weight[:vector][:te=x][:unet=y][:lbwe=z]]``. A quoted
ref may hold ``,`` ``:`` and spaces (``""`` is a quote); ``C:\\`` is a drive; an inline vector's commas belong to it, as
do those inside ``mix(...)`` and its kin. ``lbwe=`` names an elemental preset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from loratools.adapter.architectures.names import UNKNOWN, is_text
from loratools.adapter.files.epoch_files import epochs, find_lora, is_run, parse_reference, select
from loratools.adapter.files.file import Adapter, read
from loratools.blocks.placeholders import is_letter
from loratools.blocks.scheme import NO_BLOCK, full_scheme
from loratools.blocks.vector import FUNCTIONS, BlockVector, Presets, parse_vector
from loratools.errors import BlockError, FileError, MergeStringError, did_you_mean

_OPTIONS = ("te", "unet", "lbwe")
_CALL = re.compile(rf"(?<![\w.])(?:{'|'.join(FUNCTIONS)}|inspire-\d+)\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class TermSpec:
    """One term as it is written. ``epoch`` is ``8``, ``6-8``, ``best`` or ``last`` of ``ref@epoch``."""

    ref: str
    weight: float = 1.0
    vector_text: str | None = None
    te: float = 1.0
    unet: float = 1.0
    epoch: str | None = None

    def text(self) -> str:
        """The term as a merge string holds it; ``parse_merge_string`` reads it back the same."""
        ref = self.ref if self.epoch is None else f"{self.ref}@{self.epoch}"
        quoted = '"' + ref.replace('"', '""') + '"'
        plain = not set(ref) & set('",:= \t\n') and not _is_number(ref) and ref != ""
        parts = [ref if plain else quoted, repr(self.weight)]
        parts += [self.vector_text] if self.vector_text is not None else []
        parts += [f"{key}={value!r}" for key, value in (("te", self.te), ("unet", self.unet)) if value != 1]
        return ":".join(parts)


@dataclass(frozen=True)
class Term:
    """``weight * vector * delta`` of one adapter: a summand of a merge.

    Args:
        te: factor for text-encoder modules, on top of weight and vector.
        unet: factor for all other modules.
        label: what the user calls the file.
        missing: weight of modules in blocks that ``vector`` does not list; None makes such a module an error.
        scales: block -> one more factor, which matching the norms of several LoRAs sets; absent blocks take 1.
        written: whether the vector stood in the merge string as bare numbers, not as a preset's name.
    """

    adapter: Adapter
    weight: float = 1.0
    vector: BlockVector | None = None
    te: float = 1.0
    unet: float = 1.0
    label: str = ""
    missing: float | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    written: bool = False

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
            blocks = " ".join(dict.fromkeys(str(self.block(module)) for module in open_modules))
            raise BlockError(
                f"{self.label}: {len(open_modules)} modules are in blocks that its vector does not list ({blocks}); "
                "--missing 1 keeps them at the term's weight, --missing 0 removes them"
            )

    def _check_blocks(self) -> None:
        """Raise BlockError for a block that an unknown model lacks; its scheme, unlike others, cannot tell a typo."""
        if self.vector is None or self.adapter.family != UNKNOWN.name:
            return
        present = sorted({block for module in self.adapter if (block := self.block(module)) is not None})
        for name in self.vector.weights:
            if name not in present:
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


def parse_merge_string(text: str) -> list[TermSpec]:
    """Read a merge string.

    Raises:
        MergeStringError: if it is empty, a quote is open, or a weight or option cannot be read.
    """
    specs: list[TermSpec] = []
    open_vector = False
    for piece in _split(text, ",", text):
        fields = _fields(piece, text)
        if open_vector and _continues(specs[-1], fields):
            grown = replace(specs[-1], vector_text=f"{specs[-1].vector_text},{fields[0].strip()}")
            specs[-1] = _with_options(grown, fields[1:], text)
            open_vector = len(fields) == 1
            continue
        specs.append(_term(fields, text))
        open_vector = specs[-1].vector_text is not None and _option(fields[-1]) is None
    return specs


def resolve_terms(
    specs: Sequence[TermSpec],
    lookup: Callable[[str], Path] | None = None,
    *,
    lora_dirs: Sequence[Path | str] = (),
    presets: Presets,
    missing: float | None = None,
    best: Callable[[Path], int] | None = None,
    allow_unknown: bool = False,
    base: Mapping[str, Tensor] | None = None,
) -> list[Term]:
    """Open the files that ``specs`` name and read their vectors.

    Args:
        lookup: ref -> a LoRA file or a training run; by default a path, or a name in ``lora_dirs`` or here.
        presets: named vectors.
        missing: weight of modules in blocks that a short vector does not list; None makes them an error.
        best: run -> its best epoch's number, for ``name@best``.
        allow_unknown: carry keys that no table knows instead of refusing their file.
        base: the base's weights by canonical parameter name, which the differences of a DoRA depend on.
    Raises:
        FileError, FormatError: for a file that is missing or no LoRA.
        BlockError: for a vector that does not fit the file's family.
    """
    find = lookup or (lambda ref: find_lora(ref, lora_dirs))
    opened: dict[Path, Adapter] = {}
    terms = []
    for spec in specs:
        places = _places(spec, find, best)
        for path, label in places:
            adapter = opened[path] = opened.get(path) or read(path, base, allow_unknown)
            vector = None if spec.vector_text is None else parse_vector(spec.vector_text, presets, adapter.family)
            written = spec.vector_text is not None and _is_number(spec.vector_text.split(",")[0])
            term = Term(adapter, spec.weight / len(places), vector, spec.te, spec.unet, label, missing, written=written)
            term.check()
            terms.append(term)
    return terms


def _places(spec: TermSpec, find: Callable[[str], Path], best: Callable[[Path], int] | None) -> list[tuple[Path, str]]:
    """The files that one term means, each with the label it goes by: several for an average over epochs."""
    place = find(spec.ref)
    if place.is_file() and spec.epoch is None:
        return [(place, spec.ref)]
    if not is_run(place):
        if spec.epoch is None:
            epochs(place)  # raises with the reason
        raise FileError(f"{spec.ref}@{spec.epoch}: {place} is no training run, so it has no epochs; drop the @")
    chosen = select(epochs(place), spec.epoch, run=spec.ref, best=(lambda: best(place)) if best else None)
    return [(epoch.path, f"{spec.ref}@{epoch.number}") for epoch in chosen]


def _term(fields: list[str], text: str) -> TermSpec:
    ref = _unquote(fields[0].strip(), text)
    if not ref:
        raise MergeStringError(f"'{text}' has an empty term; write NAME:weight[:vector], terms parted by one comma")
    if len(fields) == 1 and _is_number(fields[0]):
        raise MergeStringError(
            f"'{fields[0].strip()}' in '{text}' is a number, not a LoRA; a vector follows "
            "a weight, as in A:1:1,0.5,..., and a file of that name needs quotes"
        )
    name = parse_reference(ref)
    spec = TermSpec(name.name, epoch=name.selector)
    rest = [field.strip() for field in fields[1:]]
    if rest and _option(rest[0]) is None:
        spec, rest = replace(spec, weight=_weight(rest[0], ref, text)), rest[1:]
    if rest and _option(rest[0]) is None:
        if not rest[0]:
            raise MergeStringError(f"'{text}' has an empty block vector after {ref}; drop the last colon")
        spec, rest = replace(spec, vector_text=rest[0]), rest[1:]
    return _with_options(spec, rest, text)


def _with_options(spec: TermSpec, fields: Sequence[str], text: str) -> TermSpec:
    seen: set[str] = set()
    for item in fields:
        option = _option(item)
        if option is None or option[0] in seen:
            raise MergeStringError(
                f"'{item.strip()}' in '{text}' is one field too many; a term is NAME:weight[:vector][:te=x][:unet=y]"
            )
        key, value = option
        seen.add(key)
        if key == "lbwe":
            rules = f"lbwe={value}"
            spec = replace(spec, vector_text=f"{spec.vector_text},{rules}" if spec.vector_text else rules)
            continue
        number = _finite(value, f"{key}= of {spec.ref}", text)
        spec = replace(spec, te=number) if key == "te" else replace(spec, unet=number)
    return spec


def _weight(field: str, ref: str, text: str) -> float:
    above, slash, below = field.partition("/")
    if slash and _is_number(above) and _is_number(below) and float(below) != 0:
        return _finite(repr(float(above) / float(below)), f"the weight of {ref}", text)  # 1/3, as an average needs
    if not _is_number(field) and field.lower().lstrip("+-") not in ("nan", "inf", "infinity"):
        hint = f"; write {ref}:1:{field}" if field else ""
        raise MergeStringError(f"'{field}' stands where the weight of {ref} should be in '{text}'{hint}")
    return _finite(field, f"the weight of {ref}", text)


def _finite(value: str, what: str, text: str) -> float:
    if not _is_number(value):
        raise MergeStringError(f"{what} in '{text}' is '{value}'; it should be a finite number, such as -1 or 0.8")
    return float(value)


def _option(field: str) -> tuple[str, str] | None:
    key, separator, value = field.partition("=")
    return (key.strip().lower(), value.strip()) if separator and key.strip().lower() in _OPTIONS else None


def _continues(spec: TermSpec, fields: Sequence[str]) -> bool:
    """Whether a comma's next piece is one more item of the vector before it; a letter with a weight is a LoRA."""
    field = fields[0]
    if is_letter(field.strip()) and len(fields) > 1 and _option(fields[1]) is None:
        return False
    name, separator, value = (part.strip() for part in field.partition("="))
    if separator and name == "lbwe":
        return '"' not in value
    if separator:
        # TE is a block; a small te is the term's option, which follows a colon
        return _is_number(value) and '"' not in name and (name == "TE" or name.lower() not in _OPTIONS)
    return _is_weight(field) and all(_is_weight(item) for item in str(spec.vector_text).split(","))


def _is_weight(item: str) -> bool:
    """Whether an item may stand among a vector's bare numbers."""
    return _is_number(item) or is_letter(item.strip())


def _fields(piece: str, text: str) -> list[str]:
    fields = _split(piece, ":", text)
    drive = fields[0].strip()
    if len(fields) > 1 and len(drive) == 1 and drive.isalpha() and fields[1][:1] in ("\\", "/"):
        return [f"{drive}:{fields[1]}", *fields[2:]]
    return fields


def _split(text: str, separator: str, whole: str) -> list[str]:
    pieces, start, quoted = [], 0, False
    calls = _calls(text)
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted and not any(begin < index < end for begin, end in calls):
            pieces.append(text[start:index])
            start = index + 1
    if quoted:
        raise MergeStringError(
            f"a double quote in '{whole}' is not closed; quote a whole path, as in \"a,b.safetensors\":1"
        )
    return [*pieces, text[start:]]


def _calls(text: str) -> list[tuple[int, int]]:
    """Where ``mix(...)`` and its kin stand, from the name to the closing parenthesis; file names may hold others."""
    found = []
    for match in _CALL.finditer(text):
        depth = 1
        for index in range(match.end(), len(text)):
            depth += (text[index] == "(") - (text[index] == ")")
            if depth == 0:
                found.append((match.start(), index))
                break
    return found


def _unquote(ref: str, text: str) -> str:
    if '"' not in ref:
        return ref
    if len(ref) < 2 or not (ref.startswith('"') and ref.endswith('"')) or '"' in ref[1:-1].replace('""', ""):
        raise MergeStringError(f"in '{text}' quotes should enclose a whole name, as in \"a,b.safetensors\":1")
    return ref[1:-1].replace('""', '"')


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
