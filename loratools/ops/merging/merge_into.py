"""A merge written into a checkpoint: streamed tensor by tensor, every other byte as it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from loratools import files
from loratools.adapter.algebra.fuse import put
from loratools.adapter.algebra.lowrank import Delta, finite
from loratools.adapter.architectures.compvis import ParameterView
from loratools.adapter.architectures.family import UNKNOWN
from loratools.adapter.files.checkpoint import Checkpoint, open_checkpoint, view_of
from loratools.adapter.files.encode import CastError
from loratools.adapter.files.metadata import KEY, Provenance, guard_overwrite
from loratools.adapter.files.rewrite_header import MODEL_HASH, SPEC_HASH
from loratools.adapter.files.write_model import model_marks, write_checkpoint
from loratools.adapter.header import Header, TensorInfo, encode_header, read_header
from loratools.adapter.parallel import in_order
from loratools.dtypes import torch_dtype_of
from loratools.errors import BaseModelError, FileError, NonFiniteError, ShapeError
from loratools.module_path import is_text
from loratools.ops.merging.lazy_result import LazyResult
from loratools.ops.report import grouped
from loratools.ops.text_table import table

_CHUNK = 1 << 22
_HASHES = {SPEC_HASH: "0x", MODEL_HASH: ""}  # header entry -> what stands before the digest


@dataclass(frozen=True)
class IntoReport:
    """A written checkpoint: where, how many modules changed, and the rounding of its dtype against the change."""

    path: Path
    modules: int
    size: int
    total: CastError
    blocks: Mapping[str, CastError]
    warnings: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """``{"path","modules","size","error","blocks": {NAME: error},"warnings"}``."""
        blocks = {name: one.relative for name, one in self.blocks.items()}
        return {
            "path": str(self.path),
            "modules": self.modules,
            "size": self.size,
            "error": self.total.relative,
            "blocks": blocks,
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """A table of rounding errors by block."""
        rows = [["block", "rounding / change"]]
        rows += [[name, f"{one.relative:.2e}"] for name, one in (*self.blocks.items(), ("total", self.total))]
        facts = f"{self.path}  {self.modules} modules changed, {self.size / 2**20:.1f} MiB"
        return "\n".join([facts, table(rows)])


def merge_into(
    source: LazyResult,
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    provenance: Provenance,
    force: bool = False,
) -> IntoReport:
    """Write the checkpoint ``base`` with ``source`` added to its weights, whole or not at all.

    A Diffusers folder becomes one file with the original keys, as A1111 and ComfyUI read it, which says what its
    scheduler's config does of v-prediction and zero terminal SNR. Dtypes stay; tensors that
    no module changes, and every header entry, stay byte for byte; the header gains how the file was made, and a hash of
    the tensors in it is made true.

    Raises:
        BaseModelError: if ``base`` is no safetensors checkpoint or whole Diffusers folder, or lacks a module that
            ``source`` changes.
        ShapeError: if a module's shape is not the weight's.
        NonFiniteError: if a changed weight does not fit its dtype.
        FileError: if ``out`` may not be overwritten or written.
    """
    model, target = Path(base), Path(out)
    if not model.is_dir() and model.suffix.lower() != ".safetensors":
        raise BaseModelError(
            f"{model} cannot be merged into: a .safetensors checkpoint or a Diffusers folder is needed here; convert "
            "it first"
        )
    guard_overwrite(target, provenance.owner, force)
    checkpoint = open_checkpoint(model)
    _check(checkpoint, source)
    if model.is_dir():
        summed = _Summed(checkpoint, source)
        title = {"modelspec.sai_model_spec": "1.0.1", "modelspec.title": target.stem}
        schedule = _scheduler(model)
        velocity = schedule.get("prediction_type") == "v_prediction"
        zero_snr = velocity and bool(schedule.get("rescale_betas_zero_snr"))
        title |= {"modelspec.prediction_type": "v"} if velocity else {}
        title |= {"ss_zero_terminal_snr": "True"} if zero_snr else {}
        write_checkpoint(
            checkpoint,
            target,
            summed,
            dtype=None,
            metadata=title,
            provenance=provenance,
            marks=model_marks(str(checkpoint.family), velocity=velocity, zero_snr=zero_snr),
            force=force,
        )
        written = summed.written
    else:
        stream = _Stream(checkpoint, source, read_header(model))
        with files.replacing(target) as part, open(part, "wb") as to:
            stream.write(to, provenance)
        written = stream.written
    groups = grouped(written, source.family)
    blocks = {block: sum((written[name] for name in names), CastError()) for block, names in groups.items()}
    return IntoReport(target, len(written), target.stat().st_size, sum(written.values(), CastError()), blocks)


def _scheduler(folder: Path) -> Mapping[str, Any]:
    """What a Diffusers folder says of its noise; nothing where it has no such file."""
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise BaseModelError(f"{path} is no JSON ({error}); download the folder again") from error
    return said if isinstance(said, dict) else {}


def _check(checkpoint: Checkpoint, source: LazyResult) -> None:
    own = {name: checkpoint.own_name(weight_name(name)) for name in _changing(source)}
    lost = [name for name, weight in own.items() if weight is None]
    if (key := checkpoint.scaled.first) is not None:
        raise BaseModelError(
            f"{checkpoint.path} stores weights as fp8 numbers with scales beside them ('{key}'), to which nothing can "
            "be added without choosing new scales; give the model in bf16 or fp16"
        )
    if checkpoint.family not in (None, source.family) and source.family != UNKNOWN.name:
        raise BaseModelError(
            f"{checkpoint.path} is {checkpoint.family} and the LoRA is for {source.family}; "
            "a LoRA fits only the family it was trained on"
        )
    if lost:
        raise BaseModelError(
            f"{checkpoint.path} lacks {len(lost)} modules that the LoRA changes, such as {lost[0]}; "
            f"{_remedy(checkpoint, lost)}"
        )
    for name, weight in own.items():
        shape = source.shapes[name]
        stored = checkpoint.shapes[str(weight)]
        if stored[0] != shape[0] or math.prod(stored) != math.prod(shape):
            raise ShapeError(
                f"module {name} is {shape} in the LoRA and {stored} in {checkpoint.path}; it was trained "
                "on a different base model"
            )


def _remedy(checkpoint: Checkpoint, lost: list[str]) -> str:
    """What to do about modules that a checkpoint lacks."""
    if all(is_text(name) for name in lost):
        return "give a checkpoint that holds the text encoders, or leave them out with te=0"
    named = next((name.removesuffix(".weight") for name in checkpoint if name.endswith(".weight")), "none")
    return f"give the full checkpoint of the model that the LoRA was trained on (this one names them as in {named})"


def _changing(source: LazyResult) -> list[str]:
    """The modules that are changed at all: of a sum, those with a term whose strength is not 0."""
    return [name for name in source if source.changes(name)]


def weight_name(name: str) -> str:
    """The parameter that a module's difference is added to; a name that already is a parameter's stays."""
    return name if name.endswith((".weight", ".bias")) else f"{name}.weight"


class _Summed(Mapping[str, Tensor]):
    """A checkpoint's changed parameters with the difference added, each rounded to its own type."""

    def __init__(self, checkpoint: Checkpoint, source: LazyResult) -> None:
        self._checkpoint, self._source = checkpoint, source
        self._modules = {str(checkpoint.own_name(weight_name(name))): name for name in _changing(source)}
        self.written: dict[str, CastError] = {}

    def __getitem__(self, name: str) -> Tensor:
        weight, module = self._checkpoint[name].clone(), self._modules[name]
        self.written[module] = add_to(weight, self._source[module], module, self._checkpoint.path)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)


class _Stream:
    """The copying of one file, tensor by tensor in its own order."""

    def __init__(self, checkpoint: Checkpoint, source: LazyResult, header: Header) -> None:
        self._path = checkpoint.path
        self._source = source
        self._header = header
        self._held = checkpoint.held_by(checkpoint.path)
        self._modules = {str(checkpoint.own_name(weight_name(name))): name for name in _changing(source)}
        self.written: dict[str, CastError] = {}

    def write(self, to: BinaryIO, provenance: Provenance) -> None:
        texts = {**self._header.metadata, KEY: provenance.to_json()}
        hashed = [key for key in _HASHES if key in texts]  # which are of other tensors now
        digest = hashlib.sha256()

        def put(data: bytes) -> None:
            digest.update(data)
            to.write(data)

        to.write(encode_header({**texts, **{key: _HASHES[key] + "0" * 64 for key in hashed}}, self._header.tensors))
        with open(self._path, "rb") as stream:
            stream.seek(self._header.data_start)
            for runs, info, data in self._pieces():
                _copy(stream, put, runs)
                if info is not None:
                    stream.seek(info.end - info.start, 1)
                    put(data)
        if hashed:
            to.seek(0)
            true = {key: _HASHES[key] + digest.hexdigest() for key in hashed}
            to.write(encode_header({**texts, **true}, self._header.tensors))

    def _pieces(self) -> Iterator[tuple[int, TensorInfo | None, bytes]]:
        """(bytes to copy as they are, then a tensor to replace, its new bytes), in the file's order."""
        order = sorted(self._header.tensors.items(), key=lambda item: (item[1].start, item[1].end))
        changed = [(key, info) for key, info in order if self._views(key)]
        position = 0
        for info, data, written in in_order(self._change, changed):
            self.written.update(written)
            yield info.start - position, info, data
            position = info.end
        yield max((info.end for info in self._header.tensors.values()), default=0) - position, None, b""

    def _views(self, key: str) -> list[ParameterView]:
        return [view for view in self._held.get(key, []) if view.name in self._modules]

    def _change(self, item: tuple[str, TensorInfo]) -> tuple[TensorInfo, bytes, dict[str, CastError]]:
        key, info = item
        dtype = torch_dtype_of(info.dtype)
        if dtype is None or not dtype.is_floating_point:
            raise BaseModelError(f"{self._path}: '{key}' is stored as {info.dtype}, to which nothing can be added")
        with open(self._path, "rb") as stream:
            stream.seek(self._header.data_start + info.start)
            data = bytearray(stream.read(info.end - info.start))
        if len(data) != info.end - info.start:
            raise FileError(f"{self._path} changed while it was being read; run the command again")
        stored = torch.frombuffer(data, dtype=dtype).reshape(info.shape)
        written = {}
        for view in self._views(key):
            weight, module = view_of(stored, view), self._modules[view.name]
            written[module] = add_to(weight, self._source[module], module, self._path)
            if view.rows is not None and len(view.rows) > 1:  # whose view is a copy
                put(stored, view.rows, weight)
        return info, bytes(data), written


def add_to(weight: Tensor, delta: Delta, module: str, path: Path) -> CastError:
    """Add a module's difference to ``weight`` in place, in float32 (float64 for a float64 weight); what rounding cost.

    Raises:
        NonFiniteError: if the sum does not fit into the weight's type.
    """
    precise = torch.float64 if weight.dtype == torch.float64 else torch.float32
    change = delta.dense(precise).reshape(weight.shape)
    wanted = weight.to(precise) + change
    weight.copy_(wanted)
    if not finite(weight.to(precise)):
        raise NonFiniteError(
            f"{path}: {module} does not fit into {weight.dtype} with the LoRA added (or is "
            "not finite); use smaller weights"
        )
    missed = torch.linalg.vector_norm((weight.to(precise) - wanted).double())
    return CastError(float(torch.linalg.vector_norm(change.double())) ** 2, float(missed) ** 2)


def _copy(stream: BinaryIO, put: Callable[[bytes], None], count: int) -> None:
    while count:
        piece = stream.read(min(count, _CHUNK))
        if not piece:
            raise FileError("the checkpoint changed while it was being copied; run the command again")
        put(piece)
        count -= len(piece)
