"""The kinds of layers that a block holds, as rules of a vector: self-attention, cross-attention, feed-forward, ...

One number a block moves what a block learnt of style and of a defect together. Its kinds of layers learn different
things, and a vector can weigh each by a rule: ``OUT05/attn1=0.3`` (see :mod:`.elements`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from loratools.blocks.elements import parse_rule
from loratools.blocks.scheme import TEXT_BLOCK, NumberedScheme, Scheme
from loratools.module_path import is_text

_CONTAINERS = ("transformer_blocks", "attentions")  # inside a block, which hold the layers that are told apart


def layer_kinds(modules: Iterable[str], scheme: Scheme) -> dict[str, tuple[str, ...]]:
    """Block -> the left sides of the rules that part its modules by their kind, ``OUT05/attn1``, in their names' order.

    The rules of a block cover each of its modules once. A block of one kind, a text encoder, and a block whose kinds no
    rule tells apart are left out: their own weight is all there is to move.

    Args:
        modules: canonical names.
        scheme: the family's full scheme.
    """
    if isinstance(scheme, NumberedScheme):
        return {}  # nothing says what its layers are
    held: dict[str, list[str]] = {}
    for module in modules:
        block = scheme.block_of(module)
        if block is not None and block != TEXT_BLOCK and not is_text(module):
            held.setdefault(block, []).append(module)
    kinds = {block: _rules(block, own, scheme) for block, own in held.items()}
    return {block: rules for block, rules in kinds.items() if len(rules) > 1}


def with_fewest_rules(weights: Mapping[str, float], numbers: Mapping[str, float] | None = None) -> dict[str, float]:
    """The same weights said by fewer rules: the blocks' numbers, and after them the rules of layers that differ.

    A block whose kinds are all listed takes the weight that most of them have as its number.

    Args:
        weights: by block, or by the rules of every kind of a block's layers, as :func:`layer_kinds` gives them.
        numbers: of the blocks as they are now; such a one stays where it is the weight of as many kinds as any other.
    """
    kinds: dict[str, dict[str, float]] = {}
    for name, weight in weights.items():
        kinds.setdefault(name.partition("/")[0], {})[name] = weight
    blocks: dict[str, float] = {}
    rules: dict[str, float] = {}
    for block, own in kinds.items():
        if block in own:
            blocks |= own
            continue
        counts = Counter(own.values())
        most = max(counts.values())
        now = (numbers or {}).get(block)
        blocks[block] = next(weight for weight in (now, *own.values()) if weight is not None and counts[weight] == most)
        rules |= {rule: weight for rule, weight in own.items() if weight != blocks[block]}
    return blocks | rules


def _rules(block: str, modules: list[str], scheme: Scheme) -> tuple[str, ...]:
    """The rules of one block; empty where they do not part its modules."""
    prefix = _prefix(block, modules, scheme)
    groups: dict[str, list[str]] = {}
    for module in modules:
        groups.setdefault(_kind(module, prefix), []).append(module)
    rules = {f"{block}/{_element(kind)}": own for kind, own in groups.items()}
    return tuple(rules) if all(_exact(rule, own, modules, scheme) for rule, own in rules.items()) else ()


def _prefix(block: str, modules: list[str], scheme: Scheme) -> Mapping[str, str]:
    """Module -> the part of its name that says which block it is in."""
    prefixes = next((one.prefixes for one in scheme.blocks if one.name == block), ())
    longest = {}
    for module in modules:
        fitting = [own for own in prefixes if module.startswith(own) or f".{own}" in f".{module}"]
        longest[module] = max(fitting, key=len, default="")
    return longest


def _kind(module: str, prefixes: Mapping[str, str]) -> str:
    """``attn1``, ``ff``, ``proj_in``, ``resnets``: the layer's own name, or what holds it where that is no container of
    layers of many kinds."""
    for holder in ("resnets", "downsamplers", "upsamplers"):
        if f".{holder}." in module:
            return holder
    prefix = prefixes[module]
    rest = module[module.find(prefix) + len(prefix) :] if prefix else module
    parts = [part for part in rest.split(".") if part and not part.isdecimal() and part not in _CONTAINERS]
    kind = parts[0] if parts else module.rsplit(".", 1)[-1]
    return "proj" if kind.startswith("proj_") else kind


def _element(kind: str) -> str:
    """What a rule has to look for in a module's name."""
    return "proj_" if kind == "proj" else kind  # what proj_in and proj_out share, and no ff.net.0.proj holds


def _exact(rule: str, own: list[str], modules: list[str], scheme: Scheme) -> bool:
    """Whether the rule covers ``own`` of a block's ``modules`` and no others."""
    parsed = parse_rule(rule, 1.0, scheme)
    return all(parsed.applies(scheme.block_of(module) or "", module) == (module in own) for module in modules)
