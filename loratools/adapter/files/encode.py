"""From differences to the tensors of a file: the values of each slot, and what the cast loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from loratools.adapter.algebra.fuse import cut_factors, join, take
from loratools.adapter.algebra.lowrank import Delta, LowRank, balance, finite, gram
from loratools.adapter.algebra.relative_error import relative_error
from loratools.adapter.files.key_layout import Slot
from loratools.dtypes import stored_name
from loratools.errors import FormatError, NonFiniteError


@dataclass(frozen=True)
class CastError:
    """What storing a module, or several, cost: squared norms of what was asked, and of what the file misses of it."""

    norm2: float = 0.0
    error2: float = 0.0

    def __add__(self, other: CastError) -> CastError:
        return CastError(self.norm2 + other.norm2, self.error2 + other.error2)

    @property
    def relative(self) -> float:
        """``|stored - asked| / |asked|`` (Frobenius)."""
        return relative_error(self.error2, self.norm2)


def encode(adapter: Mapping[str, Delta], slot: Slot, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, CastError]]:
    """The tensors of one slot as they are stored, and what each of its modules loses by that.

    Raises:
        NonFiniteError: if an entry is not finite in ``dtype``.
    """
    asked = _asked(adapter, slot)
    tensors = _stored(asked, slot, dtype)
    if isinstance(asked, Tensor):
        return tensors, _full_errors(asked, tensors[-1], slot)
    down, up = (tensor.reshape(side.shape) for tensor, side in zip(tensors[-2:], (asked.down, asked.up), strict=True))
    return tensors, {
        name: cast_error(cut_factors(asked, rows), take(up, rows), down, slot.scale)
        for name, rows in zip(slot.names, slot.rows, strict=True)
    }


def stored_tensors(adapter: Mapping[str, Delta], slot: Slot, dtype: torch.dtype) -> list[Tensor]:
    """:func:`encode` without what that loses."""
    return _stored(_asked(adapter, slot), slot, dtype)


def _asked(adapter: Mapping[str, Delta], slot: Slot) -> LowRank | Tensor:
    """What the slot should hold, in float32: factors whose components fit its dtype, or a whole difference."""
    given = [(rows, adapter[name]) for name, rows in zip(slot.names, slot.rows, strict=True)]
    whole = given[0][1] if given[0][0] == ((0, slot.shape[0]),) else join(given, slot.shape)
    if slot.kind == "full":
        return _plain(whole.dense(torch.float32)).reshape(slot.shape)
    factors = _plain_factors(whole if isinstance(whole, LowRank) else _as_factors(whole)).scaled(1 / slot.scale)
    factors = balance(factors) if slot.balanced else factors
    return factors.padded(slot.rank) if slot.kind == "diffusers" else factors


def _stored(asked: LowRank | Tensor, slot: Slot, dtype: torch.dtype) -> list[Tensor]:
    """The tensors in ``dtype``, in the file's order."""
    if isinstance(asked, Tensor):
        tensors = [asked.to(dtype)]
    else:
        up, down = asked.up.to(dtype), asked.down.to(dtype)
        tensors = [down.reshape(slot.tensors[-2].shape), up.reshape(slot.tensors[-1].shape)]
    if slot.kind == "kohya":
        tensors = [torch.tensor(slot.alpha, dtype=dtype), *tensors]
    if [tuple(tensor.shape) for tensor in tensors] != [tensor.shape for tensor in slot.tensors]:
        raise FormatError(f"module {slot.names[0]} changed its shape while it was written")
    if not all(finite(tensor) for tensor in tensors):
        raise NonFiniteError(does_not_fit(slot.names[0], dtype))
    return tensors


def does_not_fit(name: str, dtype: torch.dtype) -> str:
    """The message for a module whose numbers ``dtype`` cannot hold."""
    return f"module {name} does not fit into {stored_name(dtype)} (or is not finite); write another type, such as fp32"


def _full_errors(asked: Tensor, stored: Tensor, slot: Slot) -> dict[str, CastError]:
    squares, lost = asked.double() ** 2, (asked.double() - stored.double()) ** 2
    return {
        name: CastError(float(take(squares, rows).sum()), float(take(lost, rows).sum()))
        for name, rows in zip(slot.names, slot.rows, strict=True)
    }


def _as_factors(delta: Delta) -> LowRank:
    """A full difference as the product of itself and a unit matrix, which is exact."""
    matrix = delta.dense(torch.float32).reshape(delta.shape[0], -1)
    rows, columns = matrix.shape
    unit = torch.eye(min(rows, columns))
    return LowRank(unit, matrix, delta.shape) if rows <= columns else LowRank(matrix, unit, delta.shape)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32)


def _plain_factors(delta: LowRank) -> LowRank:
    """``delta`` itself where its factors are plain already, so that what is known of it stays known."""
    factors = (delta.up, delta.down)
    if all(f.dtype == torch.float32 and f.device.type == "cpu" and not f.requires_grad for f in factors):
        return delta
    return LowRank(_plain(delta.up), _plain(delta.down), delta.shape)


def cast_error(given: LowRank, up: Tensor, down: Tensor, scale: float) -> CastError:
    """``|scale * given|^2`` and ``|scale * (given - up @ down)|^2`` for factors that were rounded from ``given``'s.

    The difference is ``(u - u') d' + u (d - d')``: rounding residues are exact in float32, nothing cancels.
    """
    kept_up, kept_down = up.to(given.up.dtype), down.to(given.down.dtype)
    exact_up, exact_down = torch.equal(kept_up, given.up), torch.equal(kept_down, given.down)
    gram_up, gram_down = given.grams
    norm2 = float((gram_up * gram_down).sum())
    if exact_up and exact_down:
        return CastError(max(norm2, 0.0) * scale**2, 0.0)
    lost_up, lost_down = given.up - kept_up, given.down - kept_down
    if exact_down:
        error2 = float((gram(lost_up, lost_up) * gram_down).sum())
    else:
        gram_kept = gram(kept_down.T, kept_down.T)
        errors = gram(lost_up, lost_up) * gram_kept + gram_up * gram(lost_down.T, lost_down.T)
        error2 = float((errors + 2 * gram(lost_up, given.up) * gram(kept_down.T, lost_down.T)).sum())
    return CastError(max(norm2, 0.0) * scale**2, max(error2, 0.0) * scale**2)
