"""Diffusion transformers as data: containers of equal blocks, and what one block holds in both spellings.

A declaration names every stored weight of the original network once, with Diffusers' names of the same rows and its
shape in widths. Module tables, key names, shapes and blocks are all generated from it (:mod:`.declared` has the
declarations). Diffusers' names are canonical; a component of its own stands before them (``transformer.`` for most).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loratools.adapter.algebra.fused_rows import FusedWeight, Split

Shape = tuple[int, ...]
Sizes = Mapping[str, int]  # width's letter -> its size, such as {"W": 3840, "F": 10240}

SMALLEST_REAL_WIDTH = 1024  # narrower networks are test models, whose fixed sizes may be others
_TERM = re.compile(r"(?P<times>\d*)(?P<letter>[A-Z]?)")


@dataclass(frozen=True)
class Weight:
    """One stored weight of the original network.

    Args:
        original: its path below the block (or the network) in the original network.
        names: Diffusers' paths of the modules that it holds, separated by spaces, in the order of their rows.
        shape: rows and columns, each a number (``256``) or so many times a width (``3W``); of a convolution its kernel
            sizes too. A normalisation's has rows alone.
        split: how its rows belong to ``names``; by default to one, or to several in equal parts.
        shares: for the split ``shares``: how the heights of ``names`` stand to each other.
        trained: whether plain LoRA training changes it.
        also: other paths by which trainers call it, separated by spaces.
    """

    original: str
    names: str
    shape: str
    split: Split | None = None
    shares: tuple[int, ...] = ()
    trained: bool = True
    also: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Diffusers' paths of its modules."""
        return tuple(self.names.split())

    def fused(self, before: str) -> FusedWeight:
        """Its modules, whose names begin with ``before``, and how its rows are cut into theirs."""
        split: Split = self.split or ("shares" if self.shares else "equal" if len(self.parts) > 1 else "whole")
        return FusedWeight(tuple(f"{before}{name}" for name in self.parts), split, self.shares)

    @property
    def originals(self) -> tuple[str, ...]:
        """Every path of the original network and its trainers."""
        return (self.original, *self.also.split())


@dataclass(frozen=True)
class Container:
    """``count`` equal blocks: ``original.{i}.WEIGHT``, which Diffusers calls ``name.{i}.MODULE``.

    Args:
        component: the part of the model that holds them; the network's own if empty.
        block: what block vectors call them, such as ``double`` for ``double.00``; ``name`` if empty.
    """

    original: str
    name: str
    count: int
    weights: tuple[Weight, ...]
    component: str = ""
    block: str = ""


@dataclass(frozen=True)
class BlockTransformer:
    """A transformer: its containers in the order of their blocks, what stands outside them, and the sizes in use.

    Args:
        outer: weights outside the blocks, which plain LoRA training leaves alone.
        sizes: of each published model, by the letters of the shapes.
        component: Diffusers' name of the network.
    """

    containers: tuple[Container, ...]
    outer: tuple[Weight, ...]
    sizes: tuple[Sizes, ...]
    component: str = "transformer"

    @property
    def components(self) -> tuple[str, ...]:
        """The network's own, and those that other containers belong to."""
        return tuple(dict.fromkeys((self.component, *(c.component for c in self.containers if c.component))))

    @property
    def container_words(self) -> frozenset[str]:
        """What may stand before a block's number, in either network's names, with underscores; and the numbers' own
        places outside the blocks, such as ``cap_embedder.1``."""
        paths = {path for c in self.containers for path in (c.original, c.name, f"{c.component}.{c.name}")}
        outer = {path for weight in self.outer for path in (*weight.originals, *weight.parts)}
        numbered = {match[1] for path in outer if (match := re.match(r"(.*?)[._]\d", path))}
        return frozenset(path.strip(".").replace(".", "_").lower() for path in paths | numbered)


@dataclass(frozen=True)
class PlacedWeight:
    """A weight at its place: its paths in the original network, the canonical modules it holds, and its declaration."""

    originals: tuple[str, ...]
    fused: FusedWeight
    weight: Weight
    outer: bool

    @property
    def norm(self) -> bool:
        """Whether it is a normalisation's, a vector."""
        return len(self.weight.shape.split()) == 1


def placed(net: BlockTransformer) -> Iterator[PlacedWeight]:
    """Every stored weight of the network, blocks first; names are canonical, with their component."""
    for container in net.containers:
        component = container.component or net.component
        for number in range(container.count):
            for weight in container.weights:
                paths = tuple(f"{container.original}.{number}.{path}" for path in weight.originals)
                yield PlacedWeight(paths, weight.fused(f"{component}.{container.name}.{number}."), weight, outer=False)
    for weight in net.outer:
        yield PlacedWeight(weight.originals, weight.fused(f"{net.component}."), weight, outer=True)


def stored_shape(weight: Weight, sizes: Sizes) -> Shape:
    """The shape of a stored weight in a network of these widths."""
    return tuple(_size(term, sizes) for term in weight.shape.split())


def fits(found: Sequence[tuple[Weight, FusedWeight, Shape]], sizes: Sequence[Sizes]) -> bool:
    """Whether differences of these shapes can be of a network that has these weights.

    A network as wide as real ones are has to be one of ``sizes``. A narrower one is a test model: its widths may be
    any, as long as every shape agrees on them; sizes that are no multiple of a width are not compared.

    Args:
        found: for each stem of a file, the declared weight that holds its modules, the modules that the stem itself
            holds (all of them, or one), and the shape of its difference.
    """
    wide = any(min(shape[:2], default=0) >= SMALLEST_REAL_WIDTH for _, _, shape in found if len(shape) > 1)
    if wide:
        return any(_agree(found, dict(known), fixed=True) for known in sizes)
    return _agree(found, {}, fixed=False)


def _agree(found: Sequence[tuple[Weight, FusedWeight, Shape]], sizes: dict[str, int], *, fixed: bool) -> bool:
    for weight, fused, shape in found:
        terms = weight.shape.split()
        if len(shape) != len(terms) and not (len(shape) == 4 and len(terms) == 2):  # a linear layer as a 1x1 kernel
            return False
        for axis, term in enumerate(terms):
            times, letter = _parsed(term)
            size = shape[axis] if axis or len(fused.names) == len(weight.parts) else _whole(weight, fused, shape[0])
            if not letter:
                if fixed and size != times:
                    return False
                continue
            if size % times or sizes.setdefault(letter, size // times) != size // times:
                return False
    return True


def _whole(weight: Weight, fused: FusedWeight, rows: int) -> int:
    """Rows of a stored weight, from those of one of its modules; 0 where that is impossible."""
    last = fused.names[0]
    index = next((i for i, part in enumerate(weight.parts) if last.endswith(f".{part}")), 0)
    shares = weight.shares or (1,) * len(weight.parts)
    return rows * sum(shares) // shares[index] if rows % shares[index] == 0 else 0


def _size(term: str, sizes: Sizes) -> int:
    times, letter = _parsed(term)
    return times * sizes[letter] if letter else times


def _parsed(term: str) -> tuple[int, str]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ValueError(f"'{term}' is no size of a weight")
    return int(match["times"] or 1), match["letter"]
