"""Writing a whole model: a base with some of its weights replaced, and every other byte as it was.

As one file with the original network's keys, which A1111 and ComfyUI read, or as a Diffusers folder. A base of either
form can become the other: keys are renamed and matrices laid out anew, and the numbers of what is not replaced stay.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from loratools import files
from loratools.adapter.architectures.compvis import TEXT, ParameterView, original_keys
from loratools.adapter.architectures.vae_names import VAE, is_vae_attention, original_vae_names
from loratools.adapter.files.checkpoint import Checkpoint, StoredTensors, open_weights, view_of
from loratools.adapter.files.metadata import KEY, Provenance, guard_overwrite
from loratools.adapter.header import TensorInfo, encode_header
from loratools.adapter.parallel import in_order
from loratools.dtypes import ITEM_BITS, stored_name, torch_dtype_of
from loratools.errors import BaseModelError, NonFiniteError

HASH = "modelspec.hash_sha256"  # of all bytes after the header, as the model spec has it
Replaced = Callable[[str], Tensor]  # a canonical parameter -> its new value, in float32


@dataclass(frozen=True)
class _Entry:
    """A tensor to write; ``views`` are the canonical parameters in it, of which some or none are replaced."""

    key: str
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    read: Callable[[], Tensor]  # as the base has it, of this shape
    views: tuple[ParameterView, ...] = ()

    @property
    def size(self) -> int:
        return math.prod(self.shape) * ITEM_BITS[self.dtype] // 8


def write_checkpoint(
    base: Checkpoint,
    out: Path,
    replaced: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
    provenance: Provenance,
    marks: Collection[str] = (),
    vae: Mapping[str, Tensor] | None = None,
    force: bool = False,
) -> str:
    """Write one ``.safetensors`` file with the original keys, whole or not at all; its digest.

    Args:
        base: a checkpoint of CompVis' names, or a Diffusers folder with its VAE.
        replaced: canonical parameter -> its new value, looked up once; the others' bytes stay.
        dtype: of the tensors that hold something replaced; None leaves each one's own.
        metadata: header text; ``modelspec.hash_sha256`` is set to what is true.
        marks: keys of empty tensors by which other programs know a model, such as SDXL's ``v_pred``.
        vae: the tensors of a VAE that stands in for the base's own, by their original names; None keeps that.
    Raises:
        BaseModelError: if the base is no whole model.
        NonFiniteError: if a value does not fit into ``dtype``.
        FileError: if ``out`` may not be overwritten.
    """
    guard_overwrite(out, provenance.owner, force)
    entries = _original_entries(base, replaced, dtype)
    if vae is not None:
        entries = [entry for entry in entries if not entry.key.startswith(VAE)]
        entries += [_whole(key, tensor) for key, tensor in sorted(vae.items())]
    entries += [_mark(key) for key in sorted(set(marks) - {entry.key for entry in entries})]
    texts = {**metadata, KEY: provenance.to_json(), HASH: "0x" + "0" * 64}
    digest = hashlib.sha256()
    with files.replacing(out) as part, open(part, "wb") as stream:
        stream.write(_header(texts, entries))
        for data in in_order(lambda entry: _data(entry, replaced), entries):
            digest.update(data)
            stream.write(data)
        stream.seek(0)
        stream.write(_header({**texts, HASH: f"0x{digest.hexdigest()}"}, entries))
    return digest.hexdigest()


def _original_entries(base: Checkpoint, replaced: Mapping[str, Tensor], dtype: torch.dtype | None) -> list[_Entry]:
    if base.family not in TEXT:
        raise BaseModelError(
            f"{base.path} is of no family of which a folder becomes one file here ({', '.join(TEXT)} do); give the "
            "model as one .safetensors file, such as its folder's transformer/diffusion_pytorch_model.safetensors"
        )
    if base.path.is_dir():
        entries = [*_renamed_entries(base), *_vae_entries(base)]
    else:
        stored = base.stored(base.path)
        views = base.held_by(base.path)
        entries = [
            _Entry(key, stored.dtypes[key], stored.shapes[key], _reader(stored, key), tuple(views.get(key, ())))
            for key in stored.shapes
        ]
    if dtype is None:
        return entries
    return [
        replace(e, dtype=stored_name(dtype)) if any(view.name in replaced for view in e.views) else e for e in entries
    ]


def _renamed_entries(base: Checkpoint) -> Iterator[_Entry]:
    """The UNet and the text encoders of a Diffusers folder, under the original keys."""
    names = [name for name in base if not name.endswith(("position_ids", "logit_scale"))]
    for key, views in sorted(original_keys(names, str(base.family)).items()):
        first = base.shapes[views[0].name]
        shape = first if views[0].third is None else (3 * first[0], *first[1:])
        shape = tuple(reversed(shape)) if views[0].transposed else shape
        yield _Entry(key, base.dtype(views[0].name), shape, _joiner(base, views), views)


def _vae_entries(base: Checkpoint) -> Iterator[_Entry]:
    for file in open_weights(base.path / "vae"):
        for name, key in sorted(original_vae_names(file.shapes).items(), key=lambda item: item[1]):
            shape = file.shapes[name]
            shape = (*shape, 1, 1) if is_vae_attention(name) and len(shape) == 2 else shape
            yield _Entry(key, file.dtypes[name], shape, _reader(file, name))


def _whole(key: str, tensor: Tensor) -> _Entry:
    return _Entry(key, stored_name(tensor.dtype), tuple(tensor.shape), lambda: tensor)


def model_marks(family: str, *, velocity: bool, zero_snr: bool) -> tuple[str, ...]:
    """The keys by which ComfyUI and the WebUI know an SDXL that predicts v, and one that begins at pure noise."""
    if family != "sdxl" or not velocity:
        return ()
    return ("v_pred", "ztsnr") if zero_snr else ("v_pred",)


def _mark(key: str) -> _Entry:
    return _Entry(key, "F32", (0,), lambda: torch.empty(0))


def _reader(file: StoredTensors, key: str) -> Callable[[], Tensor]:
    return lambda: file.read(key)


def _joiner(base: Checkpoint, views: tuple[ParameterView, ...]) -> Callable[[], Tensor]:
    def read() -> Tensor:
        parts = [base[view.name] for view in views]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        return whole.T if views[0].transposed else whole

    return read


def _data(entry: _Entry, replaced: Mapping[str, Tensor]) -> bytes:
    """The bytes of one tensor."""
    stored = entry.read().reshape(entry.shape)
    if any(view.name in replaced for view in entry.views):
        stored = stored.to(torch_dtype_of(entry.dtype), copy=True).contiguous()
        for view in entry.views:
            if view.name in replaced:
                place = view_of(stored, view)
                place.copy_(replaced[view.name].reshape(place.shape))
                if not place.isfinite().all():
                    raise NonFiniteError(f"{view.name} does not fit into {entry.dtype}; write with another `dtype=`")
    data: bytes = stored.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return data


def _header(texts: Mapping[str, str], entries: list[_Entry]) -> bytes:
    tensors, position = {}, 0
    for entry in entries:
        tensors[entry.key] = TensorInfo(entry.dtype, entry.shape, position, position + entry.size)
        position += entry.size
    return encode_header(dict(sorted(texts.items())), tensors)
