"""What one picture is: LoRAs on a base, how it is sampled, and whether it is a quick preview or the whole picture.

Files are named by path here, and no longer by the page's ids. Nothing heavy is imported: the server makes these, and
the renderer's process draws them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loratools.blocks.elements import is_rule

Quality = Literal["drag", "rest"]
POCKET = "pocket"
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
State = tuple[tuple[str, int, int], ...]  # (name, size, time of change in nanoseconds) of files


@dataclass(frozen=True)
class TermWish:
    """A LoRA of the stack; ``vector`` as weights by block and by rule, or as text, as in a merge string."""

    lora: Path
    weight: float = 1.0
    vector: Mapping[str, float] | str | None = None
    te: float = 1.0
    unet: float = 1.0


@dataclass(frozen=True)
class SamplingWish:
    """How the picture is sampled; ``size`` is (height, width) in pixels, and None stands for the base's own."""

    prompt: str = ""
    negative: str = ""
    seed: int = 1
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class PictureWish:
    """One picture.

    Attributes:
        base: ``pocket``, or a base model's file or folder.
        quality: ``drag`` is drawn in few steps; ``rest`` whole, from factors rounded to ``dtype``, the storage type
            that the stack would be written in.
    """

    terms: tuple[TermWish, ...]
    base: str
    sampling: SamplingWish
    quality: Quality
    dtype: str = "fp16"

    def key(self) -> str:
        """Equal for wishes that are the same picture: the same numbers, and files that did not change meanwhile."""
        terms = [
            (str(term.lora), file_state(term.lora), term.weight, _plain(term.vector), term.te, term.unet)
            for term in self.terms
        ]
        own = (terms, self.base, base_state(self.base), self.sampling, self.quality)
        text = repr((*own, self.dtype if self.quality == "rest" else ""))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def file_state(path: Path) -> State:
    """What tells whether a file, or a PEFT folder's files, changed; empty where there is none."""
    try:
        files = sorted(own for own in path.iterdir() if own.is_file()) if path.is_dir() else [path]
        facts = [(own.name, own.stat()) for own in files]
    except OSError:
        return ()
    return tuple((name, fact.st_size, fact.st_mtime_ns) for name, fact in facts)


def base_state(base: str) -> State:
    """The same of a base model; of the packaged one nothing changes."""
    path = Path(base)
    if base == POCKET or not path.is_dir():
        return () if base == POCKET else file_state(path)
    folders = [path, *(path / part for part in _PARTS)]
    return tuple(
        (f"{folder.name}/{name}", size, changed)
        for folder in folders
        if folder.is_dir()
        for name, size, changed in file_state(folder)
    )


def _plain(vector: Mapping[str, float] | str | None) -> Hashable:
    """Blocks in any order are the same vector; of rules the last that matches wins, so theirs counts."""
    if not isinstance(vector, Mapping):
        return vector
    blocks = sorted(item for item in vector.items() if not is_rule(item[0]))
    return (*blocks, *(item for item in vector.items() if is_rule(item[0])))
