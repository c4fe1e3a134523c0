"""From a method's name and numbers to what it makes of terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from loratools.ops.merging.combine import combine
from loratools.ops.merging.lazy_result import LazyResult
from loratools.ops.merging.methods.core_space import CoreMerge, CoreMethod, Draws
from loratools.ops.merging.methods.declared import MethodName
from loratools.ops.merging.methods.elementwise import breadcrumbs, dare, knots, ties
from loratools.ops.merging.methods.spectral import iso_c, tsv_m
from loratools.ops.merging.methods.sphere import SphereMerge, karcher, slerp
from loratools.ops.merging.terms import Term


def build(name: MethodName, terms: Sequence[Term], settings: Mapping[str, float]) -> LazyResult:
    """What the method ``name``, one that is not the exact sum, makes of ``terms``.

    Args:
        settings: every parameter of the method by name.
    Raises:
        LoratoolsError: of the kinds that :func:`~loratools.ops.merging.combine.combine` names.
    """
    if name in ("slerp", "karcher"):
        return SphereMerge(combine(terms).terms, slerp if name == "slerp" else karcher)
    return CoreMerge(terms, _core_method(name, settings))


def _core_method(name: str, settings: Mapping[str, float]) -> CoreMethod:
    density = settings.get("density", 1.0)
    match name:
        case "ties":
            return _alike(partial(ties, density=density))
        case "breadcrumbs":
            return _alike(partial(breadcrumbs, density=density, gamma=settings["gamma"]))
        case "dare":
            draw = partial(dare, density=density, seed=int(settings["seed"]))

            def drawn(matrices: Sequence[Tensor], draws: Draws) -> Tensor:
                return draw(matrices, draws=draws)

            return CoreMethod(drawn, drawn)
        case "knots":
            return CoreMethod(
                _plain(partial(knots, density=density)), _plain(partial(ties, density=density)), left_only=True
            )
        case "iso-c":
            return CoreMethod(_plain(partial(iso_c, floor=settings["floor"])), _sum)
    return CoreMethod(_plain(partial(tsv_m, keep=settings["keep"])), _sum)


def _alike(formula: Callable[[Sequence[Tensor]], Tensor]) -> CoreMethod:
    """A method that treats the entries of matrices and of vectors alike."""
    return CoreMethod(_plain(formula), _plain(formula))


def _plain(formula: Callable[[Sequence[Tensor]], Tensor]) -> Callable[[Sequence[Tensor], Draws], Tensor]:
    """A formula without random draws."""
    return lambda matrices, _: formula(matrices)


def _sum(vectors: Sequence[Tensor], _: Draws) -> Tensor:
    """Biases and norms have no spectrum that says anything; both papers sum them."""
    return torch.stack(list(vectors)).sum(0)
