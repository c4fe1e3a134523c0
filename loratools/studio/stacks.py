"""A page's stack of LoRAs as a merge string with real paths: what the command line writes is what the page showed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loratools.adapter.architectures.family import UNKNOWN
from loratools.adapter.architectures.known_families import FAMILIES
from loratools.base.base_path import POCKET
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import SCHEMES, NumberedScheme, Scheme, full_scheme
from loratools.blocks.vector import BlockVector, named_vector
from loratools.ops.merging.merge_string import TermSpec
from loratools.studio.api.stacks import Stack, Term
from loratools.studio.api.words import problem
from loratools.studio.discover.lora_files import LoraFacts, read_facts
from loratools.studio.roots import Roots


def merge_string(stack: Stack, roots: Roots) -> str:
    """The merge string of ``stack``.

    Raises:
        StudioError: without a LoRA, or with one that is gone.
        BlockError: for a block that the LoRA's family lacks.
    """
    if not stack.terms:
        raise problem("stack.empty")
    return ",".join(_spec(term, roots).text() for term in stack.terms)


def base_of(base_id: str, roots: Roots) -> str:
    """What ``--base`` is called: ``pocket``, or a path below the roots.

    Raises:
        StudioError: for an id that is none.
    """
    return POCKET if base_id == POCKET else str(roots.path(base_id))


def weights_of(term: Term, roots: Roots) -> dict[str, float]:
    """A term's vector as the weight of each block of the scheme that it is shown in, and of each rule after them.

    Raises:
        BlockError: for a vector that cannot be read, or does not fit the LoRA.
    """
    facts = read_facts(roots.path(term.lora))
    full = full_scheme(_table(facts))
    if isinstance(term.vector, str):
        return parse_vector(term.vector, load_presets(), full.family).by_name()
    return _whole(named_vector(full, term.vector or {}), facts, full).by_name()


def _spec(term: Term, roots: Roots) -> TermSpec:
    path = roots.path(term.lora)
    vector = term.vector
    text = None
    if vector:
        facts = read_facts(path)
        text = short_text(vector, facts) if isinstance(vector, Mapping) else _checked(vector, facts)
    return TermSpec(str(path), term.weight, text, term.te, term.unet)


def _checked(text: str, facts: LoraFacts) -> str:
    """A vector's text as it is, if it is a preset's name, else as its own numbers: what is typed into the page cannot
    be the rest of a merge string.

    Raises:
        BlockError: for a vector that cannot be read, or does not fit the LoRA.
    """
    vector = parse_vector(text, load_presets(), _table(facts))
    name = text.strip()
    return name if any(name.lower() == own.lower() for own in load_presets()) else vector.text()


def short_text(weights: Mapping[str, float], facts: LoraFacts) -> str | None:
    """A vector by block name as short as a merge string can have it: nothing where every weight is 1, a preset's name,
    or numbers. Blocks that are left out have the weight 1.

    Raises:
        BlockError: for a block that the family lacks.
    """
    full = full_scheme(_table(facts))
    named = named_vector(full, weights)
    if all(weight == 1 for weight in named.by_name().values()):
        return None
    if isinstance(full, NumberedScheme):
        return named.text()
    whole = _whole(named, facts, full)
    return preset_of(whole) or whole.text()


def preset_of(vector: BlockVector) -> str | None:
    """The name of the shipped preset with these very weights; None if there is none."""
    for name, variants in load_presets().items():
        if not isinstance(variants, str) and any(
            (own.scheme, own.by_name()) == (vector.scheme, vector.by_name()) for own in variants
        ):
            return name
    return None


def shown_scheme(family: str, scheme: str) -> Scheme:
    """The scheme called ``scheme``, where the family has it; else the family's full one."""
    known = (own for own in SCHEMES if own.name == scheme and family in own.families)
    return next(known, None) or full_scheme(family)


def _table(facts: LoraFacts) -> str:
    """The family whose blocks a file has; ``unknown`` where no table has its modules."""
    return facts.family if facts.family in FAMILIES else UNKNOWN.name


def _whole(named: BlockVector, facts: LoraFacts, full: Scheme) -> BlockVector:
    """The vector in the LoRA's own scheme where that has every block that is named, else in the full one; blocks that
    are not named have the weight 1."""
    own = shown_scheme(facts.family, facts.scheme)
    scheme = own if set(named.weights) <= set(own.names) else full
    return BlockVector(scheme, {name: named.weights.get(name, 1.0) for name in scheme.names}, named.rules)


def shown_path(path: Path) -> str:
    """``path`` as a command has it: from the current folder where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
