"""Reading block vectors: presets, bare numbers, names, groups, or an expression of vectors.

Forms, in :func:`parse_vector`: a preset ``GP1``; bare numbers of a listed length ``1,0.6,...``; names and groups
``IN=0.5,OUT04-OUT08=0.3,TE=0``; a preset with names on top ``GP1,OUT03=0.8``; ``mix(GP1,ALL,0.5)``; Inspire's orders
``inspire-20:1,0.5,...``; elemental rules ``IN05-OUT05/attn=0``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from loratools.blocks.elements import ElementRule, is_rule, parse_rule
from loratools.blocks.groups import expand, is_group
from loratools.blocks.inspire import is_inspire, parse_inspire
from loratools.blocks.placeholders import Placeholders
from loratools.blocks.scheme import NumberedScheme, Scheme, full_scheme, numbered_scheme, scheme_of_file
from loratools.blocks.tokens import clip, is_number, split_items
from loratools.blocks.vector import BlockVector, Presets, vector_from
from loratools.errors import BlockError, did_you_mean

_FUNCTION = re.compile(r"(?P<name>\w+)\s*\((?P<inside>.*)\)\Z", re.DOTALL)
FUNCTIONS = ("mix", "scale", "product")
_NUMBERED = re.compile(r"[a-z_][\w.]*?\.\d+", re.IGNORECASE)  # blocks of a model that no table knows


def parse_vector(text: str, presets: Presets, family: str | None = None, modules: Iterable[str] = ()) -> BlockVector:
    """Read a block vector.

    Args:
        text: a preset's name (any case), numbers or letters, names and groups with weights, an expression such as
            ``mix(GP1,ALL,0.5)``, or ``inspire-20:...``; each may be followed by changes (``OUT03=0.8``), elemental
            rules (``IN05-OUT05/attn=0``, ``lbwe=ATTNDEEPOFF``), and ``seed=1`` or ``x=0.7`` for letters.
        presets: named vectors, from :func:`loratools.blocks.presets.load_presets`.
        family: the model family it will be used on, which checks the length; None accepts every scheme.
        modules: the module names of the file that it will be used on, which alone tell an unknown family's blocks.
    Raises:
        BlockError: for an unknown preset or block, a wrong length, or text that is no number; it says what is valid.
    """
    if text.count("(") != text.count(")"):
        raise BlockError(f"a parenthesis in the block vector '{clip(text)}' has no partner")
    if is_inspire(text):
        return parse_inspire(text, family)
    items = split_items(text)
    if items == [""]:
        raise BlockError("a block vector is empty; give a preset such as GP1, or its numbers")
    placeholders, items = _placeholders(items)
    plain = [item for item in items if not _is_assignment(item)]
    named = [item for item in items if _is_assignment(item)]
    if not plain:
        return _of_names(named, presets, _scheme_of_names(named, family, modules))
    if len(plain) == 1 and not is_number(plain[0]) and items[0] == plain[0]:
        base = _expression(plain[0], presets, family, modules) or find_preset(plain[0], presets, family, placeholders)
        if not all(math.isfinite(weight) for weight in base.weights.values()):
            raise BlockError(f"'{clip(text)}' comes to a number that is not finite; use smaller factors")
        return _changed(base, named, presets)
    if any(not is_rule(_name(item)) and _name(item) != "lbwe" for item in named):
        raise BlockError(f"'{clip(text)}' mixes bare numbers and names; give one or the other")
    _refuse_preset(plain, presets)
    numbers = [placeholders.resolve(item) for item in plain]
    return _changed(vector_from(numbers, family, f"the block vector '{clip(text)}'"), named, presets)


def find_preset(
    name: str, presets: Presets, family: str | None = None, placeholders: Placeholders | None = None
) -> BlockVector:
    """The preset called ``name`` (any case), in the variant that fits ``family``.

    Args:
        placeholders: what random and variable letters in a preset of ``lbwpresets.txt`` are.
    Raises:
        BlockError: if there is none, or none for that family.
    """
    by_lower = {known.lower(): known for known in presets}
    if name.lower() not in by_lower:
        words = re.split(r"[\s;]+", name.strip())
        if len(words) > 1 and all(map(is_number, words)):
            shown = ",".join(words[:3])
            raise BlockError(f"numbers of a block vector are parted by commas, {shown},... in place of '{clip(name)}'")
        near = did_you_mean(name, presets)
        raise BlockError(f"unknown block preset '{name}'{near}; known presets: {', '.join(presets)}")
    variants = presets[by_lower[name.lower()]]
    if isinstance(variants, str):
        return _deferred(name, variants, presets, family, placeholders)
    for variant in variants:
        if family is None or family in variant.scheme.families:
            return variant
    made_for = ", ".join(variant.scheme.title for variant in variants)
    raise BlockError(f"preset '{name}' is for {made_for}, and this model is {family}; write a vector for {family}")


def _deferred(
    name: str, text: str, presets: Presets, family: str | None, placeholders: Placeholders | None
) -> BlockVector:
    """A preset that is kept as text, since its letters wait for a seed and its rules for a family."""
    placeholders = placeholders or Placeholders()
    extra = [f"seed={placeholders.seed}"] if placeholders.seed is not None else []
    extra += [f"x={placeholders.x!r}"] if placeholders.x is not None else []
    try:
        return parse_vector(",".join([text, *extra]), presets, family)
    except BlockError as error:
        raise BlockError(f"the preset '{name}': {error}") from error


def _placeholders(items: Sequence[str]) -> tuple[Placeholders, list[str]]:
    """``seed=`` and ``x=`` taken out of the items."""
    settings: dict[str, str] = {}
    rest = []
    for item in items:
        key, separator, value = (part.strip() for part in item.partition("="))
        if separator and key.lower() in ("seed", "x"):
            settings[key.lower()] = value
        else:
            rest.append(item)
    seed, x = settings.get("seed"), settings.get("x")
    if seed is not None and not seed.isdigit():
        raise BlockError(f"the seed of a block vector is '{seed}'; it should be a whole number, such as seed=1")
    if x is not None and not is_number(x):
        raise BlockError(f"x is '{x}' in a block vector; it should be a number, such as x=0.7")
    return Placeholders(None if seed is None else int(seed), None if x is None else float(x)), rest


def _expression(text: str, presets: Presets, family: str | None, modules: Iterable[str]) -> BlockVector | None:
    """``mix(A, B, share)``, ``scale(A, factor)`` or ``product(A, B, ...)``; None if it is no function.

    Arguments are parted by commas, or by ``;`` where an argument holds commas of its own.
    """
    match = _FUNCTION.match(text)
    if match is None:
        return None
    name, inside = match["name"].lower(), match["inside"]
    parts = split_items(inside, ";") if ";" in inside else split_items(inside)
    if name in ("mix", "scale"):
        wanted = 3 if name == "mix" else 2
        if len(parts) != wanted or not is_number(parts[-1]):
            usage = "mix(GP1, ALL, 0.5)" if name == "mix" else "scale(GP1, 0.8)"
            raise BlockError(f"'{clip(text)}' should look like {usage}; part vectors that hold commas by ';'")
        vectors = [parse_vector(part, presets, family, modules) for part in parts[:-1]]
        factor = float(parts[-1])
        return vectors[0].mixed(vectors[1], factor) if name == "mix" else vectors[0].scaled(factor)
    if name == "product":
        first, *rest = (parse_vector(part, presets, family, modules) for part in parts)
        for other in rest:
            first = first.composed(other)
        return first
    raise BlockError(f"there is no '{name}(...)' of vectors{did_you_mean(name, FUNCTIONS)}; use mix, scale or product")


def _of_names(named: Sequence[str], presets: Presets, scheme: Scheme) -> BlockVector:
    blocks = [item for item in named if not is_rule(_name(item)) and _name(item) != "lbwe"]
    start = BlockVector(scheme, {} if blocks else dict.fromkeys(scheme.names, 1.0))
    return _changed(start, named, presets, whole=True)


def _changed(base: BlockVector, named: Sequence[str], presets: Presets, *, whole: bool = False) -> BlockVector:
    """``base`` with the assignments ``named`` over it, in their order.

    Args:
        whole: groups reach every block of the family, not only those that ``base`` lists.
    """
    scheme = base.scheme if isinstance(base.scheme, NumberedScheme) else full_scheme(base.scheme.family)
    within = None if whole else tuple(base.weights)
    weights, rules, seen = dict(base.weights), list(base.rules), set[str]()
    for item in named:
        name, value = _assignment(item)
        if name == "lbwe":
            rules += _named_rules(value, presets, base.scheme.family)
            continue
        weight = _weight(item, value)
        if is_rule(name):
            rules.append(parse_rule(name, weight, scheme))
            continue
        blocks = expand(name, scheme, within)
        if not is_group(name, scheme):
            if blocks[0] in seen:
                raise BlockError(f"block {name} is given twice in one vector; keep one of them")
            seen.add(blocks[0])
        weights.update(dict.fromkeys(blocks, weight))
    return BlockVector(base.scheme, weights, tuple(rules))


def _named_rules(name: str, presets: Presets, family: str) -> tuple[ElementRule, ...]:
    rules = find_preset(name, presets, family).rules
    if not rules:
        raise BlockError(f"lbwe={name} should name an elemental preset, such as ATTNDEEPOFF; '{name}' is a vector")
    return rules


def _scheme_of_names(items: Iterable[str], family: str | None, modules: Iterable[str]) -> Scheme:
    words = [_name(item) for item in items]
    if family is not None:
        return scheme_of_file(family, modules)
    if numbered := [block for word in words for block in _NUMBERED.findall(word)]:
        return numbered_scheme(numbered)
    for candidate in ("sd1", "sdxl", "flux", "sd3"):
        scheme = full_scheme(candidate)
        try:
            for word in words:
                if is_rule(word):
                    parse_rule(word, 1.0, scheme)
                elif word != "lbwe":
                    expand(word, scheme)
        except BlockError:
            continue
        return scheme
    return full_scheme("sd1")  # whose error then names the block and its neighbours


def _is_assignment(item: str) -> bool:
    """Whether ``item`` is ``name=value``; an ``=`` inside parentheses belongs to the function's arguments."""
    return "=" in item.partition("(")[0]


def _name(item: str) -> str:
    return item.partition("=")[0].strip()


def _assignment(item: str) -> tuple[str, str]:
    name, _, value = (part.strip() for part in item.partition("="))
    return name, value


def _weight(item: str, value: str) -> float:
    if _name(item).lower() == "lbw":
        raise BlockError(f"'{item}' is how a prompt's tag spells it; here write {value} alone")
    if not is_number(value):
        raise BlockError(f"'{item}' should be a block's name and a number, such as OUT03=0.8")
    return float(value)


def _refuse_preset(plain: Sequence[str], presets: Presets) -> None:
    """Raise BlockError for a preset's name among bare numbers, which says more than that it is no number."""
    for item in plain:
        if item.lower() in {known.lower() for known in presets}:
            raise BlockError(f"'{clip(item)}' among bare numbers is not a number; a preset stands alone or comes first")
