"""From a wish's files to what is added to the base: as the merge sums it, or as its file would hold it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path

from loratools.adapter.files.file import Adapter, read
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import full_scheme
from loratools.blocks.vector import BlockVector, named_vector
from loratools.dtypes import torch_dtype
from loratools.errors import FileError
from loratools.ops.merging.combine import combine
from loratools.ops.merging.stored import StoredMerge, TermProducts
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack, content_keys_of
from loratools.studio.api.words import problem
from loratools.studio.live.wish import PictureWish, State, TermWish, file_state

_KEPT = 32  # opened files


class OpenFiles:
    """LoRA files that stay open from one picture to the next, each as long as it is as it was."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[State, Adapter]] = OrderedDict()
        self._products = TermProducts()

    def adapter(self, path: Path) -> Adapter:
        """The file, read anew if it changed.

        Raises:
            StudioError: if it is gone; LoratoolsError of the kinds that ``read`` names.
        """
        state = file_state(path)
        if not state:
            self._open.pop(path, None)
            raise problem("live.gone", name=path.name)
        known = self._open.get(path)
        if known is None or known[0] != state:
            self._open[path] = known = state, read(path)
        self._open.move_to_end(path)
        while len(self._open) > _KEPT:
            self._open.popitem(last=False)
        return known[1]

    def stack(self, wish: PictureWish) -> Stack:
        """What the wish adds to its base.

        Raises:
            LoratoolsError: what is wrong with a file, a vector or their sum, in one sentence.
        """
        if not wish.terms:
            return Stack()
        terms = [term_of(self.adapter(own.lora), own) for own in wish.terms]
        try:
            if wish.quality == "rest":
                stored = StoredMerge(terms, torch_dtype(wish.dtype), self._products)
                return Stack(stored, 1.0, _digest(stored.content_keys), stored.content_keys)
            whole = combine(terms)
            content_keys = content_keys_of(whole) or {}
            return Stack(whole, 1.0, _digest(content_keys), content_keys)
        except FileError as error:
            raise problem("live.reading", error=str(error)) from error


def term_of(adapter: Adapter, wish: TermWish) -> Term:
    """A term of the merge that the page's stack means: blocks that weights by name leave out stay at 1.

    Raises:
        BlockError: for a vector that cannot be read, or does not fit the file.
    """
    vector, missing = _vector(adapter, wish.vector), 1.0 if isinstance(wish.vector, Mapping) else None
    return Term(adapter, wish.weight, vector, wish.te, wish.unet, adapter.path.stem, missing)


def _vector(adapter: Adapter, vector: Mapping[str, float] | str | None) -> BlockVector | None:
    if vector is None or not vector:
        return None
    if isinstance(vector, str):
        return parse_vector(vector, load_presets(), adapter.family, adapter)
    return named_vector(full_scheme(adapter.family), vector)


def _digest(content_keys: Mapping[str, Hashable]) -> str:
    return hashlib.sha256(repr(sorted(content_keys.items())).encode()).hexdigest()
