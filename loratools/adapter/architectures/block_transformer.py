"""Diffusion transformers as data: containers of equal blocks, and what one block holds in both spellings.

A declaration names every stored weight of the original network once, with Diffusers' names of the same rows and its
shape in widths. Module tables, key names, shapes and blocks are all generated from it (:mod:`.families` has the
declarations). Diffusers' names are canonical; a component of its own stands before them (``transformer.`` for most).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from loratools.adapter.algebra.fused_rows import FusedWeight, Split

Shape = tuple[int, ...]
Sizes = Mapping[str, int]  # width's letter -> its size, such as {"W": 3840, "F": 10240}

SMALLEST_REAL_WIDTH = 1024  # narrower networks are test models, whose fixed sizes may be others
_NUMBERED = re.compile(r"(?P<words>.*?)[._](?P<number>\d+)(?=[._]|$)(?P<rest>.*)")
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
        stored: whether the original network has it. What is not stored is another cut of modules that other weights
            hold, which some trainer writes by either network's path: read, and never written.
        component: the part of the model that has it, where that is not the network; outside the blocks only.
    """

    original: str
    names: str
    shape: str
    split: Split | None = None
    shares: tuple[int, ...] = ()
    trained: bool = True
    also: str = ""
    stored: bool = True
    component: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Diffusers' paths of its modules."""
        return tuple(self.names.split())

    @property
    def scaled(self) -> bool:
        """Whether both its rows and its columns grow with the network's widths."""
        return all(any(letter.isalpha() for letter in term) for term in self.shape.split()[:2])

    def fused(self, before: str) -> FusedWeight:
        """Its modules, whose names begin with ``before``, and how its rows are cut into theirs."""
        split: Split = self.split or ("shares" if self.shares else "equal" if len(self.parts) > 1 else "whole")
        return FusedWeight(tuple(f"{before}{name}" for name in self.parts), split, self.shares)

    @property
    def originals(self) -> tuple[str, ...]:
        """Every path of the original network and its trainers."""
        return (self.original, *self.also.split())


def same(path: str, shape: str, *, trained: bool = True) -> Weight:
    """A weight that both networks call alike."""
    return Weight(path, path, shape, trained=trained)


def outer(original: str, names: str, shape: str, split: Split | None = None, *, also: str = "") -> Weight:
    """A weight outside the blocks, or a norm: plain LoRA training leaves it alone."""
    return Weight(original, names, shape, split, trained=False, also=also)


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
class Slots:
    """What block vectors have around the containers, where other tools' vectors name blocks by a letter (``D00``).

    A container's ``block`` is then that letter. Both tuples have pairs: a slot's name, and the canonical beginnings of
    its modules, separated by spaces.
    """

    before: tuple[tuple[str, str], ...]
    after: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class InDiffusers:
    """Where Diffusers has a network.

    Args:
        model: the class of the network.
        config: what its constructor is given for the network that the declaration describes at its first sizes.
        loader: the mixin of pipelines that reads LoRA files for it; empty where there is none.
        converter: the function of ``diffusers.loaders.single_file_utils`` that turns the original network's checkpoint
            into one of the class; empty where there is none, or where both have the same names.
    """

    model: str
    config: Mapping[str, object] = field(default_factory=dict)
    loader: str = ""
    converter: str = ""


@dataclass(frozen=True)
class BlockTransformer:
    """A transformer: its containers in the order of their blocks, what stands outside them, and the sizes in use.

    Args:
        outer: weights outside the blocks, which plain LoRA training leaves alone.
        sizes: of each published model, by the letters of the shapes.
        diffusers: Diffusers' own class of it; None where the installed one was not found to have any.
        component: Diffusers' name of the network.
        more_components: other words for the network before a module's path.
        slots: of vectors that name blocks by letters; by default blocks are ``container.00``, after ``BASE``.
    """

    containers: tuple[Container, ...]
    outer: tuple[Weight, ...]
    sizes: tuple[Sizes, ...]
    diffusers: InDiffusers | None = None
    component: str = "transformer"
    more_components: tuple[str, ...] = ()
    slots: Slots | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """The network's own, and those that other containers belong to."""
        named = (*(c.component for c in self.containers), *(weight.component for weight in self.outer))
        return tuple(dict.fromkeys((self.component, *filter(None, named))))

    def has_path(self, container: str, number: int, rest: str) -> bool:
        """Whether a path with a number may be one of the network's, however it is spelled.

        It is a quick look that needs no table of names.

        Args:
            container: the words before the first number, with underscores and in lower case.
            rest: what follows the number, with underscores; empty where nothing does.
        """
        counts, paths = self._flat_paths.get(container, (0, frozenset()))
        return number < counts and rest in paths

    @cached_property
    def _flat_paths(self) -> dict[str, tuple[int, frozenset[str]]]:
        """Words before a number -> how many numbers there are, and what follows them. Both networks' names; outside
        the blocks too, where ``cap_embedder.1`` has a number."""
        paths: dict[str, set[str]] = {}
        counts: dict[str, int] = {}

        def add(words: str, count: int, rests: Iterable[str]) -> None:
            flat = words.strip(".").replace(".", "_").lower()
            counts[flat] = max(count, counts.get(flat, 0))
            paths.setdefault(flat, set()).update(rest.strip("._").replace(".", "_") for rest in rests)

        for container in self.containers:
            rests = [path for weight in container.weights for path in (*weight.originals, *weight.parts)]
            before = ("", container.component, *self.more_components)
            for words in (container.original, *(f"{word}.{container.name}" for word in before)):
                add(words, container.count, rests)
        for path in (path for weight in self.outer for path in (*weight.originals, *weight.parts)):
            if match := _NUMBERED.match(path):
                add(match["words"], int(match["number"]) + 1, [match["rest"]])
        return {words: (counts[words], frozenset(rests)) for words, rests in paths.items()}


@dataclass(frozen=True)
class PlacedWeight:
    """A weight at its place: its paths in the original network, the canonical modules it holds, and its declaration."""

    originals: tuple[str, ...]
    fused: FusedWeight
    weight: Weight
    outer: bool

    @property
    def stored(self) -> bool:
        """Whether the original network has it, rather than another cut of the same modules."""
        return self.weight.stored

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
                words = (container.original,) if weight.stored else (container.original, container.name)
                paths = tuple(f"{word}.{number}.{path}" for word in words for path in weight.originals)
                yield PlacedWeight(paths, weight.fused(f"{component}.{container.name}.{number}."), weight, outer=False)
    for weight in net.outer:
        component = weight.component or net.component
        yield PlacedWeight(weight.originals, weight.fused(f"{component}."), weight, outer=True)


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
    scaled = [shape for weight, _, shape in found if len(shape) > 1 and weight.scaled]
    if any(min(shape[:2]) >= SMALLEST_REAL_WIDTH for shape in scaled):
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
