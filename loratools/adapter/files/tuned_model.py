"""A whole checkpoint that a full training wrote, read as what it differs by from the base that it was trained on.

So that everything that takes a LoRA takes an epoch of such a run. The base is rounded to the checkpoint's number type
first: the rounding of weights that hardly changed is then no part of the difference, and not one of all weights.

The checkpoint's header says which components were
trained; where the base lies stands in the run's own folder, on the machine where it ran, or the reader is given it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from loratools.adapter.algebra.fused_rows import FusedWeight
from loratools.adapter.algebra.shapes import limit
from loratools.adapter.architectures.compvis import ParameterView
from loratools.adapter.architectures.header_words import COMPONENTS
from loratools.adapter.architectures.identify import Identity
from loratools.adapter.architectures.known_families import family_of
from loratools.adapter.files.checkpoint import Checkpoint, open_checkpoint
from loratools.adapter.files.decode import Decoded, Group, Piece
from loratools.adapter.header import Header
from loratools.digests import file_digest
from loratools.errors import LoratoolsError, NeedsBaseError
from loratools.files import write_text

TUNED = "tuned"  # the kind of such differences
_NUMBERED = re.compile(r"(?P<name>.+)-(?:\d{6}|step\d{8}|last)")


@dataclass(frozen=True)
class TunedGroup(Group):
    """A parameter of a whole model. ``keys`` has the tensor that holds it, ``view`` which part of that it is."""

    view: ParameterView


def is_tuned(header: Header) -> bool:
    """Whether a file is a whole model that a full training wrote."""
    return COMPONENTS in header.metadata


def decode_tuned(path: Path, header: Header) -> Decoded:
    """The pieces of such a file: every parameter of the components that were trained."""
    checkpoint = open_checkpoint(path)
    family = family_of(str(checkpoint.family))
    trained = tuple(f"{name}." for name in header.metadata[COMPONENTS].split(","))
    pieces: dict[str, Piece] = {}
    for parameter, place in checkpoint.locations.items():
        shape = checkpoint.shapes[parameter]
        if not parameter.startswith(trained) or parameter.endswith(("position_ids", "logit_scale")):
            continue
        name = parameter if len(shape) == 1 else parameter.removesuffix(".weight")
        module = parameter.rpartition(".")[0]
        rank = limit(shape) if len(shape) > 1 else 1
        group = TunedGroup(module, TUNED, {TUNED: place.key}, FusedWeight((module,)), shape, rank, place.view)
        pieces[name] = Piece(group, ((0, shape[0]),), shape, bias=False)
    identity = Identity(family.name, family.name, family.title, (family.name,))
    return Decoded(identity, family.name, dict(sorted(pieces.items())), ())


def note_base(place: Path, base: Path) -> None:
    """Write to ``place`` where the base of a run lies and which one it is."""
    checkpoint = open_checkpoint(base)
    files = sorted({location.file for location in checkpoint.locations.values()})
    digests = {str(file): file_digest(file) for file in files}
    write_text(place, json.dumps({"base": str(base.resolve()), "files": digests}, indent=1))


def noted_at(path: Path) -> Path:
    """Where the base of the run that ``path`` is a file of is noted: ``NAME-state/base.json`` beside it."""
    match = _NUMBERED.fullmatch(path.stem)
    return path.with_name(f"{match['name'] if match else path.stem}-state") / "base.json"


def base_of(path: Path) -> Checkpoint:
    """The base that a run's checkpoint was trained on.

    Raises:
        NeedsBaseError: if it is not known, gone, or another one by now; the message says what to do.
    """
    place = noted_at(path)
    remedy = "give its base, or make a LoRA of it with `loratools extract --base BASE --tuned FILE`"
    try:
        noted = json.loads(place.read_text(encoding="utf-8"))
        base, digests = Path(noted["base"]), dict(noted["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NeedsBaseError(
            f"{path} is a whole checkpoint, whose difference is to the base that it was trained on, and {place}, which "
            f"says where that lies, is not there; {remedy}"
        ) from error
    try:
        checkpoint = open_checkpoint(base)
        same = all(file_digest(file) == digest for file, digest in digests.items())
    except (LoratoolsError, OSError) as error:
        raise NeedsBaseError(
            f"{path} was trained on {base}, which cannot be read any more ({error}); {remedy}"
        ) from error
    if not same:
        raise NeedsBaseError(f"{path} was trained on {base}, which has been changed since; {remedy}")
    return checkpoint


def weight_before(base: Mapping[str, Tensor], path: Path, parameter: str) -> Tensor:
    """A parameter of the base.

    Raises:
        NeedsBaseError: if it lacks it, so that it is another model.
    """
    if parameter not in base:
        raise NeedsBaseError(f"{path} has the parameter {parameter}, which the given base lacks; give its own base")
    return base[parameter]
