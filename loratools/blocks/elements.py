"""Elemental rules: a weight for some modules of some blocks, such as the attention layers of IN05 to OUT05.

LoRA Block Weight writes ``ID:blocks:elements:weight`` in ``elempresets.txt``; inside a vector the same rule is
``IN05-OUT05/attn=0``. A rule REPLACES the block's weight for the modules that it matches; of several, the last wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from loratools.blocks.groups import expand
from loratools.blocks.scheme import Scheme
from loratools.blocks.tokens import clip, number
from loratools.errors import BlockError

_PART = re.compile(r"[\w.-]+")
_LINE = re.compile(r"(?P<id>[^:,]+):(?P<blocks>[^:]*):(?P<elements>[^:]*):(?P<weight>\s*[-+.\deE]+\s*)\Z")


@dataclass(frozen=True)
class ElementRule:
    """``weight`` for the modules in ``blocks`` whose name holds one of ``elements``.

    Args:
        where: the rule's left side as it is written, ``IN05-OUT05/attn``.
        blocks: block names.
        elements: parts of a module's name, dotted or with underscores; none means every module.
        inverted: the modules that hold NONE of ``elements``.
    """

    where: str
    blocks: frozenset[str]
    elements: tuple[str, ...]
    weight: float
    inverted: bool = False

    def applies(self, block: str, module: str) -> bool:
        """Whether the rule covers ``module`` (a canonical name) of ``block``."""
        if block not in self.blocks:
            return False
        flat = module.replace(".", "_")
        held = not self.elements or any(part in module or part.replace(".", "_") in flat for part in self.elements)
        return held != self.inverted

    def scaled(self, factor: float) -> ElementRule:
        """The same rule with ``factor`` times its weight."""
        return replace(self, weight=self.weight * factor)

    def text(self) -> str:
        """As an item of a vector."""
        return f"{self.where}={number(self.weight)}"


def is_rule(name: str) -> bool:
    """Whether the left side of ``name=value`` is a rule's: blocks, a slash, elements."""
    return "/" in name


def parse_rule(where: str, weight: float, scheme: Scheme) -> ElementRule:
    """Read ``IN05-OUT05 M00/attn ff`` (blocks, a slash, parts of module names; ``NOT`` in front of either inverts).

    Args:
        scheme: the family's full scheme.
    Raises:
        BlockError: for a block that the scheme lacks, or a rule without a part of a module's name.
    """
    blocks_text, _, parts = where.partition("/")
    words, elements = blocks_text.split() or ["*"], parts.split()
    avoid, inverted = words[0].upper() == "NOT", elements[:1] == ["NOT"]
    named = [block for word in words[avoid:] or ["*"] for block in expand(word, scheme)]
    blocks = frozenset(scheme.names) - frozenset(named) if avoid else frozenset(named)
    if not elements[inverted:]:
        raise BlockError(f"the rule '{where}' names no part of a module; write IN05-OUT05/attn=0, or drop the slash")
    if not blocks:
        raise BlockError(f"the rule '{where}' reaches no block of {scheme.title}; name its blocks one by one")
    if unfit := [part for part in elements[inverted:] if not _PART.fullmatch(part)]:
        raise BlockError(f"'{unfit[0]}' in the rule '{clip(where)}' is no part of a module's name, such as attn1 or ff")
    return ElementRule(" ".join(where.split()), blocks, tuple(elements[inverted:]), weight, inverted)


def looks_elemental(text: str) -> bool:
    """Whether a presets file is LoRA Block Weight's ``elempresets.txt``: a line ``ID:blocks:elements:weight``."""
    lines = (line.strip().rstrip(",") for line in text.splitlines())
    return any(_LINE.match(line) for line in lines)


def elemental_presets(text: str) -> dict[str, str]:
    """``elempresets.txt``: entries parted by blank lines, each an ID with rules parted by commas or line ends.

    Returns:
        ID -> the rules as the items of a vector's text.
    Raises:
        BlockError: for an entry that begins like one and cannot be read.
    """
    presets: dict[str, str] = {}
    for entry in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = [line.strip() for line in re.split(r"[,\n]", entry) if line.strip() and not line.startswith("#")]
        if lines and (head := _LINE.match(lines[0])):
            rules = [_item(head["blocks"], head["elements"], head["weight"])]
            rules += [_further(line, head["id"]) for line in lines[1:]]
            presets[head["id"].strip()] = ",".join(rules)
    return presets


def _further(line: str, name: str) -> str:
    fields = line.split(":")
    if len(fields) != 3:
        raise BlockError(f"the elemental preset '{name}' holds '{line}', which is no blocks:elements:weight")
    return _item(*fields)


def _item(blocks: str, elements: str, weight: str) -> str:
    """An ``elempresets.txt`` rule in our spelling; without elements it covers every module.

    Every flat module name holds an underscore, so ``_`` is the element that all of them have.
    """
    return f"{blocks.strip() or '*'}/{' '.join(elements.split()) or '_'}={weight.strip()}"
