"""What a LoRA file is, in facts: family, kind, ranks, blocks, hashes (stored and true) and how it was made."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.file import Adapter, read
from loratools.adapter.metadata import KEY, Provenance
from loratools.adapter.parallel import in_order
from loratools.blocks.scheme import SCHEMES, Scheme, full_scheme
from loratools.files import sha256
from loratools.ops.report import NO_BLOCK, table

_TRAINING = (
    ("base", "ss_sd_model_name"), ("epoch", "ss_epoch"), ("of epochs", "ss_num_epochs"), ("steps", "ss_steps"),
    ("images", "ss_num_train_images"), ("unet lr", "ss_unet_lr"), ("text encoder lr", "ss_text_encoder_lr"),
    ("optimizer", "ss_optimizer"), ("scheduler", "ss_lr_scheduler"), ("resolution", "ss_resolution"),
    ("clip skip", "ss_clip_skip"), ("noise offset", "ss_noise_offset"), ("seed", "ss_seed"),
    ("trigger", "modelspec.trigger_phrase"),
)  # fmt: skip


@dataclass(frozen=True)
class BlockFacts:
    """One block's part: its modules, and the Frobenius norm of all their differences together."""

    modules: int
    norm: float


@dataclass(frozen=True)
class Description:
    """A LoRA file described.

    Attributes:
        kind: ``lora`` (linear and 1x1 layers), ``locon`` (3x3 convolutions too), or what its modules are (``loha``,
            ``lokr``, ``diff``); several are joined by ``+``.
        ranks, alphas: how many modules have each; a module without a stored alpha counts as alpha = rank.
        sha256: of the whole file. ``model_hash``: of the bytes after the header, as a true ``sshs_model_hash`` says.
    """

    path: Path
    family: str
    scheme: str
    kind: str
    modules: int
    ranks: Mapping[int, int]
    alphas: Mapping[float, int]
    dtypes: tuple[str, ...]
    blocks: Mapping[str, BlockFacts]
    size: int
    sha256: str
    model_hash: str
    metadata: Mapping[str, str]

    @property
    def made(self) -> Provenance | None:
        """How it was made, if loratools made it."""
        return Provenance.from_metadata(self.metadata)

    def json(self) -> dict[str, Any]:
        """As JSON values. ``ranks`` lists the distinct ranks; what the file itself claims stands under ``metadata``."""
        return {
            "path": str(self.path),
            "family": self.family,
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
        }

    def text(self) -> str:
        """For a person: facts, training, how it was made, and a table of blocks."""
        lines = [f"{self.path}", *(f"  {name:<16}{value}" for name, value in self._facts())]
        rows = [["block", "modules", "norm"]]
        rows += [[name, str(block.modules), f"{block.norm:.4g}"] for name, block in self.blocks.items()]
        return "\n".join([*lines, table(rows)])

    def _facts(self) -> list[tuple[str, str]]:
        facts = [
            ("family", f"{self.family}, {self.kind}, blocks {self.scheme}"),
            ("modules", str(self.modules)),
            ("rank", _counts(self.ranks)),
            ("alpha", _counts(self.alphas)),
            ("dtype", ", ".join(self.dtypes)),
            ("size", f"{self.size / 2**20:.2f} MiB"),
            ("sha256", self.sha256),
            ("model hash", self._hash_text()),
        ]
        facts += [(name, self.metadata[key]) for name, key in _TRAINING if self.metadata.get(key, "None") != "None"]
        made = self.made
        return facts if made is None else [*facts, *_made(made)]

    def _hash_text(self) -> str:
        stored = self.metadata.get("sshs_model_hash")
        if stored is None:
            return f"{self.model_hash} (none is stored)"
        return (
            f"{self.model_hash} ({'the stored one is the same' if stored == self.model_hash else f'STORED: {stored}'})"
        )


def describe(path: str | os.PathLike[str]) -> Description:
    """Read a LoRA file and describe it; every tensor is read once.

    Raises:
        FileError, FormatError: if it is missing, damaged, or no LoRA.
    """
    adapter = read(path)
    scheme = _scheme(adapter)
    alphas = Counter(adapter.alphas.get(name, float(rank)) for name, rank in adapter.ranks.items())
    place = Path(path)
    return Description(
        place, adapter.family, scheme.name, _kind(adapter), len(adapter), Counter(adapter.ranks.values()), alphas,
        adapter.dtypes, _blocks(adapter, scheme), place.stat().st_size, sha256(place), adapter.digest,
        adapter.metadata,
    )  # fmt: skip


def _scheme(adapter: Adapter) -> Scheme:
    """The shortest scheme of the family that has a block for everything which the full one has a block for."""
    full = full_scheme(adapter.family)
    placed = [name for name in adapter if full.block_of(name) is not None]
    fitting = [scheme for scheme in SCHEMES.values() if adapter.family in scheme.families]
    fitting = [scheme for scheme in fitting if all(scheme.block_of(name) is not None for name in placed)]
    return min(fitting, key=lambda scheme: len(scheme.blocks), default=full)


def _kind(adapter: Adapter) -> str:
    kinds = sorted(set(adapter.kinds.values()))
    if not set(kinds) <= {"lora", "tucker"}:
        return "+".join(kinds)
    wide = any(len(shape) == 4 and math.prod(shape[2:]) > 1 for shape in adapter.shapes.values())
    return "locon" if wide or "tucker" in kinds else "lora"


def _blocks(adapter: Adapter, scheme: Scheme) -> dict[str, BlockFacts]:
    squares: dict[str, list[float]] = {name: [] for name in (*scheme.names, NO_BLOCK)}
    for name, square in in_order(lambda name: (name, adapter[name].norm() ** 2), adapter):
        squares[scheme.block_of(name) or NO_BLOCK].append(square)
    return {name: BlockFacts(len(found), math.sqrt(sum(found))) for name, found in squares.items() if found}


def _counts(values: Mapping[Any, int]) -> str:
    if len(values) == 1:
        return f"{next(iter(values)):g}"
    return ", ".join(f"{value:g} ({count})" for value, count in sorted(values.items()))


def _made(made: Provenance) -> list[tuple[str, str]]:
    inputs = ", ".join(str(item.get("name", "?")) for item in made.inputs)
    step = json.dumps(made.step, ensure_ascii=False)
    shown = step if len(step) <= 300 else f"{step[:297]}..."
    return [("made by", f"{KEY} {made.version}, {made.owner}"), ("from", inputs or "nothing"), ("step", shown)]
