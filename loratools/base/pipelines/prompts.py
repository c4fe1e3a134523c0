"""Prompts encoded once: what a pipeline's own ``encode_prompt`` gave is given again.

A pipeline calls it inside its call, so that every family's texts are encoded as the family does it, and a text that is
known never wakes a text encoder.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch

_MOST_BYTES = 1 << 30


class KeptPrompts:
    """Encoded prompts of one pipeline, in main memory, by the state of its text encoders.

    Args:
        kept: calls that are kept, as long as they take no more than a GiB.
    """

    def __init__(self, kept: int) -> None:
        self._kept, self._bytes = kept, 0
        self._known: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    @contextlib.contextmanager
    def used(self, pipeline: Any, state: Hashable) -> Iterator[None]:
        """Inside the block ``pipeline`` encodes no prompt twice.

        Args:
            state: equal where the text encoders hold equal numbers.
        """
        encode = getattr(pipeline, "encode_prompt", None)
        if encode is None or self._kept < 1:
            yield
            return

        def remembered(*args: Any, **kwargs: Any) -> Any:
            key = _key(args, kwargs)
            return encode(*args, **kwargs) if key is None else self._get((state, key), encode, args, kwargs)

        pipeline.encode_prompt = remembered
        try:
            yield
        finally:
            del pipeline.encode_prompt  # the class's own again

    def forget(self) -> None:
        """Drop everything."""
        self._known.clear()
        self._bytes = 0

    def _get(self, key: Hashable, encode: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if key not in self._known:
            made = encode(*args, **kwargs)
            stored = _stored(made)
            self._known[key] = stored, _bytes(stored)
            self._bytes += _bytes(stored)
            while len(self._known) > 1 and (len(self._known) > self._kept or self._bytes > _MOST_BYTES):
                self._bytes -= self._known.popitem(last=False)[1][1]
            return made
        self._known.move_to_end(key)
        return _restored(self._known[key][0])


def _key(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable | None:
    """The arguments as a key; None where one of them is no plain value, such as a picture or encoded prompts."""
    try:
        return _plain(args), tuple((name, _plain(value)) for name, value in sorted(kwargs.items()))
    except TypeError:
        return None


def _plain(value: Any) -> Hashable:
    if value is None or isinstance(value, (str, bool, int, float, torch.device, torch.dtype)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_plain(own) for own in value)
    if isinstance(value, dict):
        return tuple((name, _plain(own)) for name, own in sorted(value.items()))
    raise TypeError(type(value).__name__)


class _Stored:
    """A tensor in main memory, and the device that it goes back to; a fresh copy each time."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._device, self._host = tensor.device, tensor.to("cpu", copy=True)

    @property
    def nbytes(self) -> int:
        """Bytes in main memory."""
        return self._host.nbytes

    def tensor(self) -> torch.Tensor:
        """The tensor as it was."""
        return self._host.to(self._device, copy=True)


def _stored(value: Any) -> Any:
    """Nested tuples and lists with stored tensors in the place of tensors."""
    if isinstance(value, torch.Tensor):
        return _Stored(value)
    return type(value)(map(_stored, value)) if type(value) in (tuple, list) else value


def _restored(value: Any) -> Any:
    if isinstance(value, _Stored):
        return value.tensor()
    return type(value)(map(_restored, value)) if type(value) in (tuple, list) else value


def _bytes(value: Any) -> int:
    if isinstance(value, _Stored):
        return value.nbytes
    return sum(map(_bytes, value)) if type(value) in (tuple, list) else 0
