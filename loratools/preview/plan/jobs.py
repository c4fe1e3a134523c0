"""What an engine renders: pictures as jobs, and the stacks of adapters that they are made under."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from loratools.adapter.algebra.factor_sum import Summand
from loratools.adapter.algebra.lowrank import Delta
from loratools.adapter.architectures.names import is_text
from loratools.adapter.files.file import Adapter
from loratools.base.patching.summands import AdapterSum
from loratools.ops.merging.combine import Combined
from loratools.preview.record.cells import SamplingSettings


@dataclass(frozen=True, eq=False)
class Stack:
    """What is added to the base: ``weight`` * ``deltas``. Stacks of one ``digest`` and weight are patched once.

    Args:
        digest: of every number in ``deltas``; empty for the base alone.
        content_keys: for every module a key of its delta's content, such as the (adapter digest, strength) pairs that
            it is the sum of. Going from one stack to the next then writes only modules whose key or weight differs: one
            block's value in a vector costs one block. By default a module's key is the whole stack's digest.
    """

    deltas: Mapping[str, Delta] = field(default_factory=dict)
    weight: float = 1.0
    digest: str = ""
    content_keys: Mapping[str, Hashable] | None = None

    @property
    def key(self) -> tuple[str, float]:
        """Equal for stacks that are the same; the base alone is ("", 0)."""
        return (self.digest, self.weight) if self.weight != 0 and self.deltas else ("", 0.0)

    @property
    def keys_by_module(self) -> Mapping[str, Hashable]:
        """:attr:`content_keys`, or every module's default one."""
        return self.content_keys if self.content_keys is not None else dict.fromkeys(self.deltas, self.digest)

    @cached_property
    def text_part(self) -> Mapping[str, Delta]:
        """What goes to the text encoders alone; no factor is read for it."""
        return _SomeModules(self.deltas, tuple(name for name in self.deltas if is_text(name)))

    @cached_property
    def unet_part(self) -> AdapterSum:
        """What goes to the UNet, as the sum of adapters that it is; no factor is read for it."""
        return AdapterSum({name: own for name, own in _summands(self.deltas, self.digest) if name.startswith("unet.")})


class _SomeModules(Mapping[str, Delta]):
    """Some names of another mapping, as lazy as that one."""

    def __init__(self, whole: Mapping[str, Delta], names: tuple[str, ...]) -> None:
        self._whole, self._names = whole, names
        shapes = getattr(whole, "shapes", None)
        self.shapes = {name: (shapes or {}).get(name) or tuple(whole[name].shape) for name in names}

    def __getitem__(self, name: str) -> Delta:
        if name not in self.shapes:
            raise KeyError(name)
        return self._whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _summands(deltas: Mapping[str, Delta], digest: str) -> Iterator[tuple[str, tuple[Summand, ...]]]:
    """Every module's summands: those of a sum of files, else the delta itself."""
    if isinstance(deltas, Combined):
        yield from ((name, deltas.summands(name)) for name in deltas)
    elif (by_module := getattr(deltas, "summands", None)) is not None:  # of a mapping that stands for another one
        yield from by_module.items()
    else:
        whole = (Summand(deltas.digest if isinstance(deltas, Adapter) else digest, 1.0, deltas),)
        yield from ((name, whole) for name in deltas)


def content_keys_of(deltas: Mapping[str, Delta]) -> Mapping[str, Hashable] | None:
    """A key of every module's content without reading a factor: files by digest, and the strengths of their sum.

    None for a mapping that is neither a file nor a sum of files.
    """
    if isinstance(deltas, Adapter):
        return dict.fromkeys(deltas, ((deltas.digest, 1.0),))
    if isinstance(deltas, Combined):
        return {
            name: tuple((term.adapter.digest, strength) for term, strength in deltas.parts(name)) for name in deltas
        }
    return None


@dataclass(frozen=True, eq=False)
class Job:
    """One picture, as an engine draws it; ``key`` is its caller's name for it, different for each picture of a call."""

    stack: Stack
    prompt: str
    seed: int
    settings: SamplingSettings
    key: Hashable

    @property
    def steps(self) -> int:
        """Sampler steps."""
        return self.settings.steps

    @property
    def cfg(self) -> float:
        """The CFG scale."""
        return self.settings.cfg

    @property
    def sampler(self) -> str:
        """The sampler's name."""
        return self.settings.sampler

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.settings.size

    @property
    def noise_size(self) -> tuple[int, int]:
        """(height, width) of the picture whose noise this one begins from: its own."""
        return self.settings.size

    @property
    def noise(self) -> str:
        """A kind of :mod:`loratools.base.sampling.noise`."""
        return self.settings.noise

    @property
    def shape(self) -> tuple[int, float, str, tuple[int, int], str]:
        """Jobs of one stack that agree in this share batches."""
        return self.steps, self.cfg, self.sampler, self.size, self.noise


@dataclass(frozen=True)
class PictureFile:
    """A picture that the grid asks for: its file, its key, and the texts that belong in it."""

    path: Path
    key: str
    parameters: str
    made: dict[str, Any]


@dataclass(frozen=True, eq=False)
class GridJob(Job):
    """One picture of a grid, and what it is saved as."""

    key: Hashable = field(init=False)
    file: PictureFile

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.file.key)
