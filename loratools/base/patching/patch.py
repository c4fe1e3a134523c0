"""Live patching: a base runs as W0 + w * delta, and is W0 again afterwards, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loratools.adapter.algebra.lowrank import Delta, same_matrix
from loratools.adapter.architectures.names import is_text
from loratools.base.model import LoadedBase
from loratools.base.patching.quantized import QuantizedBranches, beside, quantized_shape
from loratools.base.patching.weight_writer import Target, WeightWriter, writer_for
from loratools.base.text_model import canonical_in
from loratools.errors import BaseModelError, ShapeError

ContentKeys = Mapping[str, Hashable]


@dataclass(frozen=True)
class PatchChange:
    """What :meth:`Patcher.patch` changed: how many modules, and whether text encoders are among them, so that prompts
    have to be encoded again."""

    modules: int
    text: bool


class Patcher:
    """Adds adapters to a loaded base and takes them away again, always from the saved W0, never from an earlier sum.

    Every touched weight is saved once (on its own device) before it is first changed; :meth:`restore` copies the saved
    bits back. The sum W0 + w * delta is computed in float32 and then cast once.

    Beside quantised layers the difference is computed apart (:mod:`.quantized`); their weights are never touched.

    A module is written only if it does not hold the right sum already. ``content_keys`` identify deltas: equal keys
    under a name mean equal numbers. Without keys the deltas of one mapping equal themselves and no others.
    """

    def __init__(self, base: LoadedBase) -> None:
        self._modules = live_modules(base)
        self._name = base.name or "base"
        self._saved: dict[str, Tensor] = {}
        self._applied: dict[
            str, tuple[Hashable, float]
        ] = {}  # (content key, weight) of the delta in every patched module
        self._last_targets: tuple[Mapping[str, Delta], _Targets] | None = None
        self._branches = QuantizedBranches()
        self._writer: WeightWriter = writer_for(base.home)
        self._busy = False

    def check(self, deltas: Mapping[str, Delta], *, loaded: bool = True) -> None:
        """Raise what :meth:`patch` would raise, without touching a weight.

        Args:
            loaded: the base has its weights; without them no more is looked at than names and shapes.
        """
        targets = self._targets(deltas)
        if loaded:
            _check_loaded(targets)

    @property
    def text_state(self) -> Hashable:
        """A key of everything that the text encoders hold now beside W0."""
        return frozenset((name, *state) for name, state in self._applied.items() if is_text(name))

    @torch.no_grad()
    def patch(
        self, deltas: Mapping[str, Delta], weight: float = 1.0, content_keys: ContentKeys | None = None
    ) -> PatchChange:
        """Set every weight to W0 + ``weight`` * delta, and those without a delta to W0; only differing modules are
        written.

        Raises:
            BaseModelError: if the base lacks modules that the adapter has (a file of another family).
            ShapeError: if a delta does not fit its module.
        """
        targets = self._targets(deltas) if weight != 0 else _Targets({}, ())
        _check_loaded(targets)
        wanted = {name: (_content_key(deltas, name, content_keys), weight) for name in targets.names}
        stale = [name for name in self._applied if name not in wanted]
        differing = [target for name, target in targets.plain.items() if self._applied.get(name) != wanted[name]]
        other = [name for name in targets.quantized if self._applied.get(name) != wanted[name]]
        try:
            self._restore(stale)
            for target in differing:
                self._save(target)
                self._applied[target.name] = wanted[target.name]
            self._writer.write(
                [(target, self._saved[target.name]) for target in differing],
                weight,
                {target.name: wanted[target.name][0] for target in differing},
            )
            for name in other:
                self._branches.put(name, self._modules[name], deltas[name], weight)
                self._applied[name] = wanted[name]
        except BaseException:
            self.restore()
            raise
        names = [*stale, *(target.name for target in differing), *other]
        return PatchChange(len(names), any(is_text(name) for name in names))

    def restore(self) -> None:
        """Bring every weight back to W0."""
        self._restore(list(self._applied))

    @contextlib.contextmanager
    def applied(self, deltas: Mapping[str, Delta], weight: float = 1.0) -> Iterator[None]:
        """Run the block with every weight at W0 + ``weight`` * delta; a weight of 0 does no arithmetic at all.

        The formed deltas are kept until another mapping comes, so a row of many weights forms them once.
        """
        if self._busy:
            raise RuntimeError("a patch is already applied to this base; leave it before the next one")
        self.check(deltas)
        self._busy = True
        try:
            self.patch(deltas, weight)
            yield
        finally:
            self.restore()
            self._busy = False

    def free(self) -> None:
        """Restore W0, and free formed deltas and saved weights."""
        self.restore()
        self._last_targets = None
        self._writer.clear_cache()
        self._saved.clear()

    def clear_cache(self) -> None:
        """Free what can be computed again; everything stays patched as it is."""
        self._writer.clear_cache()

    def saved_bytes(self, names: Iterable[str]) -> int:
        """Bytes that the saved weights of these modules take, once they are patched."""
        parameters = (_parameter(self._modules, name) for name in names)
        return sum(parameter.nbytes for parameter in parameters if parameter is not None)

    def _save(self, target: Target) -> None:
        if target.name not in self._saved:
            self._saved[target.name] = target.parameter.detach().clone()

    @torch.no_grad()
    def _restore(self, names: Sequence[str]) -> None:
        if not names:
            return
        self._branches.remove(names)
        written = [name for name in names if name in self._saved]
        live = [_parameter(self._modules, name) for name in written]
        if written:
            torch._foreach_copy_([p for p in live if p is not None], [self._saved[name] for name in written])
        for name in names:
            del self._applied[name]

    def _targets(self, deltas: Mapping[str, Delta]) -> _Targets:
        """What every delta goes to, checked; those of the mapping before are kept."""
        if self._last_targets is not None and self._last_targets[0] is deltas:
            return self._last_targets[1]
        quantized = beside(self._modules, deltas)
        parameters = {name: _parameter(self._modules, name) for name in deltas}
        if lacking := [name for name, parameter in parameters.items() if parameter is None and name not in quantized]:
            shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            raise BaseModelError(
                f"{self._name} lacks {len(lacking)} of the adapter's {len(parameters)} modules ({shown}); "
                "it was made for another base family"
            )
        targets = _Targets(
            {
                name: Target(name, parameter, deltas)
                for name, parameter in parameters.items()
                if parameter is not None and name not in quantized
            },
            tuple(quantized),
        )
        for target in targets.plain.values():
            self._check_shape(target.name, target.shape, tuple(target.parameter.shape))
        for name in targets.quantized:
            self._check_quantized(name, tuple(deltas[name].shape))
        self._last_targets = (deltas, targets)
        return targets

    def _check_shape(self, name: str, shape: tuple[int, ...], live: tuple[int, ...]) -> None:
        if not same_matrix(shape, live):
            raise ShapeError(
                f"{name} is {shape} in the adapter and {live} in {self._name}; "
                "the adapter was made for a base of other widths"
            )

    def _check_quantized(self, name: str, shape: tuple[int, ...]) -> None:
        live = quantized_shape(self._modules[name])
        if live is None:
            raise BaseModelError(
                f"{name} of {self._name} is quantised and no linear layer, so that nothing can be added to it; "
                "use the base in full precision"
            )
        self._check_shape(name, shape, live)


@dataclass(frozen=True)
class _Targets:
    """What the deltas of one mapping go to: weights that are written, and quantised layers by name."""

    plain: Mapping[str, Target]
    quantized: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.plain, *self.quantized)


def live_modules(base: LoadedBase) -> dict[str, nn.Module]:
    """Every module of the base by its canonical name, whatever the installed transformers calls it."""
    table: dict[str, nn.Module] = {}
    for part, model in base.components().items():
        for name, module in model.named_modules():
            full = canonical_in(model, name) if part.startswith("text_encoder") else name
            table.setdefault(f"{part}.{full}", module)
    return table


def _content_key(deltas: Mapping[str, Delta], name: str, content_keys: ContentKeys | None) -> Hashable:
    return content_keys[name] if content_keys is not None else _Same(deltas)


@dataclass(frozen=True, eq=False)
class _Same:
    """Equal only to a key of the same mapping; holds the mapping, so that its id is not given to another one."""

    deltas: Mapping[str, Delta]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.deltas is self.deltas

    def __hash__(self) -> int:
        return id(self.deltas)


def _parameter(modules: Mapping[str, nn.Module], name: str) -> nn.Parameter | None:
    """The parameter that a delta called ``name`` changes: a module's weight, or the parameter that ends the name."""
    module, kind = modules.get(name), "weight"
    if module is None and name.endswith((".weight", ".bias")):
        stem, kind = name.rsplit(".", 1)
        module = modules.get(stem)
    parameter = getattr(module, kind, None)
    return parameter if isinstance(parameter, nn.Parameter) else None


def _check_loaded(targets: _Targets) -> None:
    """Raise BaseModelError for a weight that diffusers has only while it computes with it."""
    for target in targets.plain.values():
        if target.parameter.is_meta:
            raise BaseModelError(
                f"the weights of {target.name} are not in memory (sequential offload), so that nothing can be added to "
                "them; offload whole models instead"
            )
