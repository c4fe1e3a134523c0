"""What a LoRA file is, in facts: family, kind, ranks, blocks, hashes (stored and true) and how it was made.

``brief`` needs the header alone and neither torch nor a tensor's bytes; ``describe`` reads every tensor once.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.adapter.architectures.family import UNKNOWN
from loratools.adapter.architectures.header_words import COMPONENTS, UNCERTAIN
from loratools.adapter.files.base_facts import DISAGREEMENT
from loratools.adapter.files.decode import NEED_BASE, Decoded, Piece, decode
from loratools.adapter.files.lora_file import LoraFile, open_lora_file
from loratools.adapter.files.metadata import KEY, Provenance
from loratools.blocks.scheme import NO_BLOCK, Scheme, shortest_scheme, sorted_blocks
from loratools.files import sha256
from loratools.ops.text_table import table

if TYPE_CHECKING:
    from loratools.adapter.files.file import Adapter

_VECTORS = ("norm", "bias")  # kinds without a rank
_TRAINING = (
    ("base", "ss_sd_model_name"),
    ("epoch", "ss_epoch"),
    ("of epochs", "ss_num_epochs"),
    ("steps", "ss_steps"),
    ("images", "ss_num_train_images"),
    ("unet lr", "ss_unet_lr"),
    ("text encoder lr", "ss_text_encoder_lr"),
    ("optimizer", "ss_optimizer"),
    ("scheduler", "ss_lr_scheduler"),
    ("resolution", "ss_resolution"),
    ("clip skip", "ss_clip_skip"),
    ("noise offset", "ss_noise_offset"),
    ("seed", "ss_seed"),
    ("trigger", "modelspec.trigger_phrase"),
    ("prediction", "modelspec.prediction_type"),
    ("bases differ", DISAGREEMENT),
)


@dataclass(frozen=True)
class BlockFacts:
    """One block's part: its modules, and the Frobenius norm of all their differences together (None if not read)."""

    modules: int
    norm: float | None


@dataclass(frozen=True)
class Description:
    """A LoRA file described.

    Attributes:
        family: a key of ``FAMILIES``, ``unknown``, or the name of a model that only shares a family's names.
        model: which model it is for, in words, as far as names, shapes and header tell.
        kind: ``lora`` (linear and 1x1 layers), ``locon`` (3x3 convolutions too), or what its modules are (``loha``,
            ``lokr``, ``diff``, ``dora``, ``norm``, ``bias``); several are joined by ``+``.
        ranks, alphas: how many modules have each; a module without a stored alpha counts as alpha = rank. Vectors have
            neither.
        sha256: of the whole file. ``model_hash``: of the bytes after the header, as a true ``sshs_model_hash`` says.
            Both are None, and ``alphas`` is empty, where the header alone was read.
        unknown: keys that no table knows, which operations carry through untouched.
        needs_base: modules whose difference depends on a base (DoRA); they are not in the norms.
        switched_off: modules whose alpha is 0, so that they change nothing; None where the header alone was read.
    """

    path: Path
    family: str
    model: str
    scheme: str
    kind: str
    modules: int
    ranks: Mapping[int, int]
    alphas: Mapping[float, int]
    dtypes: tuple[str, ...]
    blocks: Mapping[str, BlockFacts]
    size: int
    sha256: str | None
    model_hash: str | None
    metadata: Mapping[str, str]
    unknown: tuple[str, ...] = ()
    needs_base: int = 0
    switched_off: int | None = None

    @property
    def made(self) -> Provenance | None:
        """How it was made, if loratools made it."""
        return Provenance.from_metadata(self.metadata)

    def json(self) -> dict[str, Any]:
        """As JSON values. ``ranks`` lists the distinct ranks; what the file itself claims stands under ``metadata``."""
        return {
            "path": str(self.path),
            "family": self.family,
            "model": self.model,
            "scheme": self.scheme,
            "kind": self.kind,
            "modules": self.modules,
            "ranks": sorted(self.ranks),
            "rank_counts": {str(rank): count for rank, count in sorted(self.ranks.items())},
            "alphas": sorted(self.alphas),
            "dtypes": list(self.dtypes),
            "blocks": {name: {"modules": block.modules, "norm": block.norm} for name, block in self.blocks.items()},
            "size": self.size,
            "sha256": self.sha256,
            "model_hash": self.model_hash,
            "metadata": dict(self.metadata),
            "unknown": list(self.unknown),
            "needs_base": self.needs_base,
            "switched_off": self.switched_off,
        }

    def text(self) -> str:
        """For a person: facts, training, how it was made, and a table of blocks."""
        lines = [f"{self.path}", *(f"  {name:<16}{value}" for name, value in self._facts())]
        rows = [["block", "modules", "norm"]]
        rows += [[name, str(b.modules), "-" if b.norm is None else f"{b.norm:.4g}"] for name, b in self.blocks.items()]
        return "\n".join([*lines, table(rows)])

    def _facts(self) -> list[tuple[str, str]]:
        facts = [
            ("family", f"{self._family_text()}, {self.kind}, blocks {self.scheme}"),
            ("modules", str(self.modules)),
            ("rank", _counts(self.ranks)),
            ("alpha", _counts(self.alphas)),
            ("switched off", f"{_modules(self.switched_off)} (alpha 0)" if self.switched_off else ""),
            ("dtype", ", ".join(self.dtypes)),
            ("size", f"{self.size / 2**20:.2f} MiB"),
            ("sha256", self.sha256 or ""),
            ("model hash", self._hash_text()),
            ("unknown keys", ", ".join(self.unknown[:8]) + (", ..." if len(self.unknown) > 8 else "")),
            ("needs a base", f"{self.needs_base} DoRA modules, whose norm is not counted" if self.needs_base else ""),
        ]
        facts = [(name, text) for name, text in facts if text]
        facts += [(name, self.metadata[key]) for name, key in _TRAINING if self.metadata.get(key, "None") != "None"]
        made = self.made
        return facts if made is None else [*facts, *_made(made)]

    def _family_text(self) -> str:
        """The family by its key, and the model in words where the key alone would not tell, or be too sure."""
        if self.model in (UNCERTAIN, UNKNOWN.title):
            return self.model if self.model == UNCERTAIN else self.family
        return f"{self.family} ({self.model})" if self.family == UNKNOWN.name else self.family

    def _hash_text(self) -> str:
        stored = self.metadata.get("sshs_model_hash")
        if self.model_hash is None:
            return f"{stored} (stored; not checked)" if stored else ""
        if stored is None:
            return f"{self.model_hash} (none is stored)"
        return (
            f"{self.model_hash} ({'the stored one is the same' if stored == self.model_hash else f'STORED: {stored}'})"
        )


def describe(path: str | os.PathLike[str], *, allow_unknown: bool = False, drop: Sequence[str] = ()) -> Description:
    """Read a LoRA file and describe it; every tensor is read once. A DoRA is described without its base.

    Raises:
        FileError, FormatError: if it is missing, damaged, or no LoRA.
        UnknownKeysError: for keys that no table knows, without ``allow_unknown``.
    """
    from loratools.adapter.files.file import open_adapter

    adapter = open_adapter(path, allow_unknown=allow_unknown, drop=drop)
    ranks = _ranks(adapter.kinds, adapter.ranks)
    scheme = shortest_scheme(adapter.family, tuple(adapter))
    alphas = Counter(adapter.alphas.get(name, float(rank)) for name, rank in ranks.items())
    return Description(
        path=Path(path),
        family=adapter.identity.label,
        model=adapter.identity.title,
        scheme=scheme.name,
        kind=_kind(adapter.kinds, adapter.shapes),
        modules=len(adapter),
        ranks=Counter(ranks.values()),
        alphas=alphas,
        dtypes=adapter.dtypes,
        blocks=_blocks(adapter, scheme),
        size=adapter.path.stat().st_size,
        sha256=sha256(adapter.path),
        model_hash=adapter.tensors_digest,
        metadata=adapter.metadata,
        unknown=tuple(adapter.carried),
        needs_base=len(adapter.needs_base),
        switched_off=len(adapter.switched_off),
    )


def _decoded(source: LoraFile, allow_unknown: bool) -> Decoded:
    header = source.header
    if COMPONENTS in header.metadata:
        from loratools.adapter.files.tuned_model import decode_tuned  # torch

        return decode_tuned(source.path, header)
    return decode(source.path, header.tensors, header.metadata, component=source.component, allow_unknown=allow_unknown)


def brief(path: str | os.PathLike[str], *, allow_unknown: bool = False, drop: Sequence[str] = ()) -> Description:
    """Describe a LoRA file by its header alone: no norms, alphas or hashes. Torch is not imported, but for a whole
    model of a full training.

    Raises:
        FileError, FormatError: as :func:`describe`.
    """
    source = open_lora_file(path, drop)
    tensors = source.header.tensors
    decoded = _decoded(source, allow_unknown)
    pieces = decoded.pieces
    kinds = {name: piece.kind for name, piece in pieces.items()}
    ranks = _ranks(kinds, {name: piece.rank for name, piece in pieces.items()})
    scheme = shortest_scheme(decoded.family, tuple(pieces))
    counts = Counter(scheme.block_of(name) or NO_BLOCK for name in pieces)
    order = (*sorted_blocks(scheme, (name for name in counts if name != NO_BLOCK)), NO_BLOCK)
    return Description(
        path=Path(path),
        family=decoded.identity.label,
        model=decoded.identity.title,
        scheme=scheme.name,
        kind=_kind(kinds, {name: piece.shape for name, piece in pieces.items()}),
        modules=len(pieces),
        ranks=Counter(ranks.values()),
        alphas={},
        dtypes=_dtypes(pieces, {key: info.dtype for key, info in tensors.items()}),
        blocks={name: BlockFacts(counts[name], None) for name in order if counts[name]},
        size=source.header.size,
        sha256=None,
        model_hash=None,
        metadata=source.header.metadata,
        unknown=decoded.leftover,
        needs_base=sum(kind in NEED_BASE for kind in kinds.values()),
    )


def _ranks(kinds: Mapping[str, str], ranks: Mapping[str, int]) -> dict[str, int]:
    return {name: rank for name, rank in ranks.items() if kinds[name] not in _VECTORS}


def _dtypes(pieces: Mapping[str, Piece], dtypes: Mapping[str, str]) -> tuple[str, ...]:
    keys = (key for piece in pieces.values() for role, key in piece.group.keys.items() if role != "alpha")
    return tuple(sorted({dtypes[key] for key in keys}))


def _kind(kinds: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    present = sorted(set(kinds.values()))
    if not set(present) <= {"lora", "tucker"}:
        return "+".join(present)
    wide = any(len(shape) >= 4 and math.prod(shape[2:]) > 1 for shape in shapes.values())
    return "locon" if wide or "tucker" in present else "lora"


def _blocks(adapter: Adapter, scheme: Scheme) -> dict[str, BlockFacts]:
    from loratools.adapter.parallel import in_order

    def measure(name: str) -> tuple[str, float]:
        return name, 0.0 if name in adapter.needs_base else adapter[name].norm() ** 2

    squares: dict[str, list[float]] = {}
    for name, square in in_order(measure, adapter):
        squares.setdefault(scheme.block_of(name) or NO_BLOCK, []).append(square)
    order = (*sorted_blocks(scheme, (name for name in squares if name != NO_BLOCK)), NO_BLOCK)
    return {name: BlockFacts(len(squares[name]), math.sqrt(sum(squares[name]))) for name in order if name in squares}


def _modules(count: int) -> str:
    return f"{count} module" if count == 1 else f"{count} modules"


def _counts(values: Mapping[Any, int]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{next(iter(values)):g}"
    return ", ".join(f"{value:g} ({count})" for value, count in sorted(values.items()))


def _made(made: Provenance) -> list[tuple[str, str]]:
    inputs = ", ".join(str(item.get("name", "?")) for item in made.inputs)
    step = json.dumps(made.step, ensure_ascii=False)
    shown = step if len(step) <= 300 else f"{step[:297]}..."
    return [("made by", f"{KEY} {made.version}, {made.owner}"), ("from", inputs or "nothing"), ("step", shown)]
