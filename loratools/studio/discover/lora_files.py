"""What the header of a LoRA or base file says, kept by the file's stamp, also over a restart of the server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from loratools.adapter.architectures.compvis import TEXT, UNET
from loratools.adapter.header import Header, read_header
from loratools.errors import LoratoolsError
from loratools.files import write_text
from loratools.studio.discover.walk import Stamp

_FORMAT = 1  # of the kept facts; another one is read anew
_TRIGGERS = ("modelspec.trigger_phrase", "ss_trigger_words")
_LONGEST = 200  # letters of a trigger


@dataclass(frozen=True)
class LoraFacts:
    """A file in short.

    Attributes:
        kind: ``lora``, ``base`` (a whole checkpoint), or ``other``: neither, or not readable.
        rank: the most frequent one; None where there is none.
        scheme: the name of the shortest one that shows all of its modules.
        problem: why it cannot be read; empty if it can.
    """

    kind: str
    family: str = ""
    rank: int | None = None
    trigger: str | None = None
    scheme: str = ""
    problem: str = ""


def read_facts(path: Path) -> LoraFacts:
    """The facts of a ``.safetensors`` file; never raises for what is in it."""
    from loratools.ops.analysis.describe import brief

    try:
        header = read_header(path)
        if family := checkpoint_family(header):
            return LoraFacts("base", family)
        facts = brief(path, allow_unknown=True)
    except LoratoolsError as error:
        return LoraFacts("other", problem=str(error))
    except OSError as error:
        return LoraFacts("other", problem=f"{path.name} cannot be read: {error.strerror or error}")
    rank = max(facts.ranks, key=lambda own: (facts.ranks[own], own), default=None)
    trigger = next((text for key in _TRIGGERS if (text := facts.metadata.get(key, "").strip())), None)
    return LoraFacts("lora", facts.family, rank, trigger[:_LONGEST] if trigger else None, facts.scheme)


def checkpoint_family(header: Header) -> str:
    """The family of a whole model in one file, by its text encoders' names; empty for anything else."""
    if not any(name.startswith(UNET) for name in header.tensors):
        return ""
    for family in ("sdxl", "sd2", "sd1"):
        if all(any(name.startswith(prefix) for name in header.tensors) for prefix in TEXT[family]):
            return family
    return "unknown"


class FactsCache:
    """Facts by path and stamp.

    Args:
        file: where they are kept between two starts.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._facts: dict[str, tuple[Stamp, LoraFacts]] = dict(_load(file))
        self._changed = False

    def get(self, path: Path, stamp: Stamp) -> LoraFacts | None:
        """What is known of the file as it is; None if it has to be read."""
        known = self._facts.get(str(path))
        return known[1] if known is not None and known[0] == stamp else None

    def put(self, path: Path, stamp: Stamp, facts: LoraFacts) -> None:
        """Keep what was read."""
        self._facts[str(path)] = (stamp, facts)
        self._changed = True

    def keep_only(self, paths: Iterable[Path]) -> None:
        """Forget every other file."""
        wanted = {str(path) for path in paths}
        for gone in self._facts.keys() - wanted:
            del self._facts[gone]
            self._changed = True

    def save(self) -> None:
        """Write what has changed; a cache that cannot be written is made again next time."""
        if not self._changed:
            return
        entries = {path: [stamp.mtime_ns, stamp.size, asdict(facts)] for path, (stamp, facts) in self._facts.items()}
        write_text(self._file, json.dumps({"format": _FORMAT, "files": entries}, ensure_ascii=False))
        self._changed = False


def _load(file: Path) -> Mapping[str, tuple[Stamp, LoraFacts]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return {}
        return {
            path: (Stamp(int(mtime), int(size)), LoraFacts(**facts))
            for path, (mtime, size, facts) in content["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
