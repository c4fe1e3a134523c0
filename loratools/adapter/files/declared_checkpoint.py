"""Which declared transformer a checkpoint is, by its names and shapes, and which canonical parameters its tensors hold.

A checkpoint of the original network (ComfyUI's, behind ``model.diffusion_model.`` or bare) keeps in one matrix what
Diffusers keeps in several. The same tables that read LoRA files say which rows are whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loratools.adapter.algebra.fused_rows import rows_of
from loratools.adapter.architectures.compvis import UNET, ParameterView
from loratools.adapter.architectures.identify import identify
from loratools.adapter.architectures.known_families import DECLARED
from loratools.adapter.architectures.names import resolve
from loratools.errors import FormatError
from loratools.module_path import is_text

Shape = tuple[int, ...]

_MOST = 0.9  # of a checkpoint's matrices, which a family that it is of has at least: the rest may be newer ones
_VALUES = (".weight", ".scale", ".bias")  # how parameters end; a normalisation's is a ``scale`` in some networks


def declared_family(shapes: Mapping[str, Shape]) -> str | None:
    """The declared family that has a checkpoint's matrices, if there is one and no other has them all."""
    own = [key for key in shapes if key.startswith(UNET)] or list(shapes)
    matrices = {key.removesuffix(".weight"): shapes[key] for key in own if key.endswith(".weight")}
    matrices = {stem: shape for stem, shape in matrices.items() if len(shape) > 1 and not is_text(stem)}
    counts = {family.name: sum(resolve(stem, family.name) is not None for stem in matrices) for family in DECLARED}
    most = max(counts.values())
    if most <= _MOST * len(matrices):
        return None
    best = [name for name, count in counts.items() if count == most]
    common = {stem: shape for stem, shape in matrices.items() if all(resolve(stem, name) for name in best)}
    identity = identify(common, {})
    return identity.family if identity.family in best and identity.own_table else None


def declared_views(shapes: Mapping[str, Shape], family: str) -> Iterator[tuple[str, ParameterView]]:
    """``(key, what it holds)`` for every tensor of a checkpoint of ``family``; what no table knows keeps its name."""
    for key, shape in shapes.items():
        ending = next((end for end in _VALUES if key.endswith(end)), "")
        fused = resolve(key.removesuffix(ending), family) if ending and shape else None
        try:
            rows = rows_of(fused, shape[0], shape[1] if len(shape) > 1 else None) if fused is not None else ()
        except FormatError:
            fused, rows = None, ()
        if fused is None:
            yield key, ParameterView(key)
            continue
        kind = ".bias" if ending == ".bias" else ".weight"
        for name, own in zip(fused.names, rows, strict=True):
            yield key, ParameterView(f"{name}{kind}", rows=None if own == ((0, shape[0]),) else own)
