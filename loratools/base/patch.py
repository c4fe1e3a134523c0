"""Live patching: a base runs as W0 + w * delta, and is W0 again afterwards, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loratools.adapter.lowrank import Delta, LowRank, same_matrix
from loratools.base.model import Base
from loratools.base.text_model import canonical
from loratools.errors import BaseModelError, ShapeError

_KEEP_DENSE = 6 << 30  # bytes of formed deltas that are kept while a row's weights follow each other


@dataclass(frozen=True)
class _Target:
    """One parameter that a delta goes to."""

    name: str
    parameter: nn.Parameter
    delta: Delta


class Patcher:
    """Adds adapters to a loaded base and takes them away again.

    Every touched weight is saved once (on its own device) before it is first changed; leaving :meth:`applied` copies
    the saved bits back, whatever happened inside. The sum W0 + w * delta is done in float32 and then cast.
    """

    def __init__(self, base: Base) -> None:
        self._modules = live_modules(base)
        self._name = base.name or "base"
        self._saved: dict[str, Tensor] = {}
        self._row: tuple[Mapping[str, Delta], list[_Target]] | None = None
        self._dense: dict[str, Tensor] = {}
        self._dense_bytes = 0
        self._busy = False

    def check(self, deltas: Mapping[str, Delta]) -> None:
        """Raise what :meth:`applied` would raise, without touching a weight."""
        self._targets(deltas)

    @contextlib.contextmanager
    def applied(self, deltas: Mapping[str, Delta], weight: float = 1.0) -> Iterator[None]:
        """Run the block with every weight at W0 + ``weight`` * delta; a weight of 0 does no arithmetic at all.

        The formed deltas are kept until another mapping comes, so a row of many weights forms them once.

        Raises:
            BaseModelError: if the base lacks modules that the adapter has (a file of another family).
            ShapeError: if a delta does not fit its module.
        """
        if self._busy:
            raise RuntimeError("a patch is already applied to this base; leave it before the next one")
        targets = self._targets(deltas)
        touched: list[_Target] = []
        self._busy = True
        try:
            if weight != 0:
                for target in targets:
                    touched.append(target)
                    self._add(target, weight)
            yield
        finally:
            self._restore(touched)
            self._busy = False

    def forget(self) -> None:
        """Free the kept deltas and the saved weights (which are identical to the live ones between patches)."""
        self._row = None
        self._drop_dense()
        self._saved.clear()

    @torch.no_grad()
    def _add(self, target: _Target, weight: float) -> None:
        live = target.parameter
        if target.name not in self._saved:
            self._saved[target.name] = live.detach().clone()
        live.copy_(torch.add(self._saved[target.name].float(), self._formed(target), alpha=weight))

    def _drop_dense(self) -> None:
        self._dense.clear()
        self._dense_bytes = 0

    def _formed(self, target: _Target) -> Tensor:
        """The delta in float32 on the weight's device, seen in the weight's shape."""
        if (kept := self._dense.get(target.name)) is not None:
            return kept
        live = target.parameter
        formed = _dense(target.delta, live.device).reshape(live.shape)
        if self._dense_bytes + formed.nbytes <= _KEEP_DENSE:
            self._dense[target.name] = formed
            self._dense_bytes += formed.nbytes
        return formed

    @torch.no_grad()
    def _restore(self, touched: list[_Target]) -> None:
        for target in touched:
            if target.name in self._saved:
                target.parameter.copy_(self._saved[target.name])

    def _targets(self, deltas: Mapping[str, Delta]) -> list[_Target]:
        if self._row is not None and self._row[0] is deltas:
            return self._row[1]
        found = {name: _parameter(self._modules, name) for name in deltas}
        if lacking := [name for name, parameter in found.items() if parameter is None]:
            shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            raise BaseModelError(
                f"{self._name} lacks {len(lacking)} of the adapter's {len(found)} modules ({shown}); "
                "it was made for another base family"
            )
        targets = [_Target(name, parameter, deltas[name]) for name, parameter in found.items() if parameter is not None]
        for target in targets:
            _check_shape(target, self._name)
        self._drop_dense()
        self._row = (deltas, targets)
        return targets


def live_modules(base: Base) -> dict[str, nn.Module]:
    """Every module of the base by its canonical name, ``text_model.`` included whatever transformers left of it."""
    table: dict[str, nn.Module] = {}
    for part, model in base.components().items():
        for name, module in model.named_modules():
            full = canonical(name) if part.startswith("text_encoder") else name
            table.setdefault(f"{part}.{full}", module)
    return table


def _parameter(modules: Mapping[str, nn.Module], name: str) -> nn.Parameter | None:
    """The parameter that a delta called ``name`` changes: a module's weight, or the one that the name ends with."""
    module, kind = modules.get(name), "weight"
    if module is None and name.endswith((".weight", ".bias")):
        stem, kind = name.rsplit(".", 1)
        module = modules.get(stem)
    found = getattr(module, kind, None)
    return found if isinstance(found, nn.Parameter) else None


def _check_shape(target: _Target, base: str) -> None:
    shape, live = tuple(target.delta.shape), tuple(target.parameter.shape)
    if not same_matrix(shape, live):
        raise ShapeError(
            f"{target.name} is {shape} in the adapter and {live} in {base}; "
            "the adapter was made for a base of other widths"
        )


def _dense(delta: Delta, device: torch.device) -> Tensor:
    """The delta multiplied out in float32 on ``device``: only the factors travel there."""
    if isinstance(delta, LowRank):
        return delta.up.to(device, torch.float32) @ delta.down.to(device, torch.float32)
    return delta.value.to(device, torch.float32)
