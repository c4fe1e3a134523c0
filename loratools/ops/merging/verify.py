"""How far a file is from what was asked, recomputed in float64 from the files themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from loratools.adapter.algebra.lowrank import Delta, concatenate, same_matrix
from loratools.adapter.files.file import read
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.adapter.parallel import in_order
from loratools.errors import FormatError, ShapeError
from loratools.ops.merging.combine import combine, shapes_differ
from loratools.ops.merging.lazy_result import norm2_of
from loratools.ops.merging.one_model import read_alike
from loratools.ops.merging.one_spelling import no_common_module, one_spelling
from loratools.ops.merging.terms import Term
from loratools.ops.report import ModuleError, Verification, report_blocks


def verify(path: str | os.PathLike[str], terms: Sequence[Term], keys: KeyRules = STRICT) -> Verification:
    """Recompute ``terms`` in float64 and say how far the file at ``path`` is from them, in total and per block.

    Modules that only one side has count in full. The error is ``|file - asked| / |asked|``; where terms cancel
    (``|asked|`` under half of ``sqrt(sum |w d|^2)``) it is stated against that root.

    Args:
        keys: what is done about keys of the file at ``path`` that no table knows.
    Raises:
        FormatError: if the file and the terms have no module in common, or are for different models.
    """
    combined = combine(terms)
    (stored,) = read_alike([read(path, None, keys.allow_unknown, keys.drop)], combined.family)
    if stored.family != combined.family:
        raise FormatError(
            f"{path} is a {stored.family} LoRA and the terms are {combined.family}; they cannot be compared"
        )
    *_, stored = one_spelling([*(term.adapter for term in combined.terms), stored])
    if not set(stored) & set(combined):
        raise no_common_module(path, " + ".join(term.label or str(term.adapter.path) for term in combined.terms))
    for name in combined:
        if name in stored and not same_matrix(stored.shapes[name], combined.shapes[name]):
            raise ShapeError(shapes_differ(name, combined.terms[0].adapter, combined.shapes[name], stored))

    def compare(name: str) -> tuple[str, ModuleError]:
        pieces: list[tuple[float, Delta]] = []
        asked: Delta | None = None
        if name in combined:
            asked = combined.delta(name, torch.float64)
            pieces.append((-1.0, asked))
        if name in stored:
            pieces.append((1.0, stored.delta(name, torch.float64)))
        root2 = sum(
            s * s * norm2_of(t.adapter.delta(name, torch.float64))
            for t, s in (combined.parts(name) if name in combined else ())
        )
        norm2 = 0.0 if asked is None else norm2_of(asked)
        return name, ModuleError(norm2, root2, norm2_of(concatenate(pieces)), 0.0)

    names = sorted({*stored, *combined})
    errors = dict(in_order(compare, names))
    total, blocks = report_blocks(errors, combined.family)
    return Verification(total.error, {name: block.error for name, block in blocks.items()})
