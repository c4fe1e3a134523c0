"""Live patching: a base runs as W0 + w * delta, and is W0 again afterwards, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loratools.adapter.algebra.lowrank import Delta, same_matrix
from loratools.adapter.architectures.names import is_text
from loratools.base.model import Base
from loratools.base.patching.weight_writer import Target, Writer, writer_for
from loratools.base.text_model import canonical
from loratools.errors import BaseModelError, ShapeError

Marks = Mapping[str, Hashable]


@dataclass(frozen=True)
class PatchChange:
    """What a move changed: how many modules, and whether prompts have to be encoded again."""

    modules: int
    text: bool


class Patcher:
    """Adds adapters to a loaded base and takes them away again, always from the saved W0, never from the sum before.

    Every touched weight is saved once (on its own device) before it is first changed; :meth:`restore` copies the saved
    bits back. The sum W0 + w * delta is done in float32 and then cast once.

    A module is only written if what it has differs from what it should have. ``marks`` say what a delta is: equal marks
    under one name mean equal numbers. Without marks the deltas of one mapping are equal to themselves and to no others.
    """

    def __init__(self, base: Base) -> None:
        self._modules = live_modules(base)
        self._name = base.name or "base"
        self._saved: dict[str, Tensor] = {}
        self._now: dict[str, tuple[Hashable, float]] = {}  # what every touched weight holds beside W0
        self._row: tuple[Mapping[str, Delta], dict[str, Target]] | None = None
        self._writer: Writer = writer_for(base.device)
        self._busy = False

    def check(self, deltas: Mapping[str, Delta]) -> None:
        """Raise what :meth:`move` would raise, without touching a weight."""
        self._targets(deltas)

    @property
    def text_state(self) -> Hashable:
        """A key of everything that is in the text encoders now."""
        return frozenset((name, *state) for name, state in self._now.items() if is_text(name))

    @torch.no_grad()
    def move(self, deltas: Mapping[str, Delta], weight: float = 1.0, marks: Marks | None = None) -> PatchChange:
        """Bring every weight to W0 + ``weight`` * delta, writing only the modules that are not there already.

        Raises:
            BaseModelError: if the base lacks modules that the adapter has (a file of another family).
            ShapeError: if a delta does not fit its module.
        """
        targets = self._targets(deltas) if weight != 0 else {}
        wanted = {name: (_mark(deltas, name, marks), weight) for name in targets}
        stale = [name for name in self._now if name not in wanted]
        differing = [target for name, target in targets.items() if self._now.get(name) != wanted[name]]
        try:
            self._restore(stale)
            for target in differing:
                self._save(target)
                self._now[target.name] = wanted[target.name]
            self._writer.write(
                [(target, self._saved[target.name]) for target in differing],
                weight,
                {target.name: wanted[target.name][0] for target in differing},
            )
        except BaseException:
            self.restore()
            raise
        names = [*stale, *(target.name for target in differing)]
        return PatchChange(len(names), any(is_text(name) for name in names))

    def restore(self) -> None:
        """Bring every weight back to W0."""
        self._restore(list(self._now))

    @contextlib.contextmanager
    def applied(self, deltas: Mapping[str, Delta], weight: float = 1.0) -> Iterator[None]:
        """Run the block with every weight at W0 + ``weight`` * delta; a weight of 0 does no arithmetic at all.

        The formed deltas are kept until another mapping comes, so a row of many weights forms them once.
        """
        if self._busy:
            raise RuntimeError("a patch is already applied to this base; leave it before the next one")
        self._targets(deltas)
        self._busy = True
        try:
            self.move(deltas, weight)
            yield
        finally:
            self.restore()
            self._busy = False

    def forget(self) -> None:
        """Take every delta away, and free what is kept: formed deltas and saved weights."""
        self.restore()
        self._row = None
        self._writer.forget()
        self._saved.clear()

    def shrink(self) -> None:
        """Free what is kept only to save work; everything stays patched as it is."""
        self._writer.forget()

    def size_of(self, names: Iterable[str]) -> int:
        """Bytes that the saved weights of these modules take."""
        found = (_parameter(self._modules, name) for name in names)
        return sum(parameter.nbytes for parameter in found if parameter is not None)

    def _save(self, target: Target) -> None:
        if target.name not in self._saved:
            self._saved[target.name] = target.parameter.detach().clone()

    @torch.no_grad()
    def _restore(self, names: Sequence[str]) -> None:
        if not names:
            return
        live = [_parameter(self._modules, name) for name in names]
        torch._foreach_copy_([p for p in live if p is not None], [self._saved[name] for name in names])
        for name in names:
            del self._now[name]

    def _targets(self, deltas: Mapping[str, Delta]) -> dict[str, Target]:
        if self._row is not None and self._row[0] is deltas:
            return self._row[1]
        found = {name: _parameter(self._modules, name) for name in deltas}
        if lacking := [name for name, parameter in found.items() if parameter is None]:
            shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            raise BaseModelError(
                f"{self._name} lacks {len(lacking)} of the adapter's {len(found)} modules ({shown}); "
                "it was made for another base family"
            )
        targets = {name: Target(name, parameter, deltas) for name, parameter in found.items() if parameter is not None}
        for target in targets.values():
            self._check_shape(target)
        self._row = (deltas, targets)
        return targets

    def _check_shape(self, target: Target) -> None:
        shape, live = target.shape, tuple(target.parameter.shape)
        if not same_matrix(shape, live):
            raise ShapeError(
                f"{target.name} is {shape} in the adapter and {live} in {self._name}; "
                "the adapter was made for a base of other widths"
            )


def live_modules(base: Base) -> dict[str, nn.Module]:
    """Every module of the base by its canonical name, ``text_model.`` included whatever transformers left of it."""
    table: dict[str, nn.Module] = {}
    for part, model in base.components().items():
        for name, module in model.named_modules():
            full = canonical(name) if part.startswith("text_encoder") else name
            table.setdefault(f"{part}.{full}", module)
    return table


def _mark(deltas: Mapping[str, Delta], name: str, marks: Marks | None) -> Hashable:
    return marks[name] if marks is not None else _Same(deltas)


@dataclass(frozen=True, eq=False)
class _Same:
    """Equal to a mark of the same mapping only; holds the mapping, so that its identity is not given to another."""

    deltas: Mapping[str, Delta]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.deltas is self.deltas

    def __hash__(self) -> int:
        return id(self.deltas)


def _parameter(modules: Mapping[str, nn.Module], name: str) -> nn.Parameter | None:
    """The parameter that a delta called ``name`` changes: a module's weight, or the one that the name ends with."""
    module, kind = modules.get(name), "weight"
    if module is None and name.endswith((".weight", ".bias")):
        stem, kind = name.rsplit(".", 1)
        module = modules.get(stem)
    found = getattr(module, kind, None)
    return found if isinstance(found, nn.Parameter) else None
