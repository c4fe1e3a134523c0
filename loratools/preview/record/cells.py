"""Cells of a grid: how each is sampled, a key of everything that determines its picture, and its file name."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from loratools.base.infotext import LoraUse, PictureInfo, infotext, number
from loratools.base.sampling.noise_kinds import OWN, check_kind
from loratools.base.sampling.samplers import sampler_name
from loratools.errors import GridError

RENDERER = 4  # raised when the same settings begin to give another picture


@dataclass(frozen=True, repr=False)
class SamplingSettings:
    """How every cell of a grid is sampled; ``size`` is (height, width) in pixels, ``noise`` a kind of
    :mod:`loratools.base.sampling.noise`, ``frames`` the length of the video whose middle is shown (0: a picture)."""

    steps: int
    cfg: float
    sampler: str
    size: tuple[int, int]
    negative: str = ""
    clip_skip: int = 1
    noise: str = OWN
    frames: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise GridError(f"{self.steps} sampler steps make no picture; use 1 or more")
        if not math.isfinite(self.cfg):
            raise GridError(f"a CFG scale of {self.cfg} makes no picture; use a finite number such as 7")
        object.__setattr__(self, "sampler", sampler_name(self.sampler))
        check_kind(self.noise)

    def facts(self) -> dict[str, Any]:
        """By name, without the number of frames where there are none: keys and records are made of it."""
        return {name: value for name, value in asdict(self).items() if name != "frames" or value}

    def __repr__(self) -> str:
        """Of :meth:`facts`, since the keys of a search are made of it."""
        return f"SamplingSettings({', '.join(f'{name}={value!r}' for name, value in self.facts().items())})"

    def infotext(
        self,
        prompt: str,
        seed: int,
        model: tuple[str, str],
        loras: Sequence[LoraUse] = (),
        strength: float = 1.0,
        embeddings: Sequence[tuple[str, str]] = (),
    ) -> str:
        """The WebUI's text of a picture that is sampled so.

        Args:
            model: name and digest of the base model.
            loras: what is added to it, each ``strength`` times.
            embeddings: those that the prompts name, with the sha256 of their files.
        """
        name, digest = model
        return infotext(
            PictureInfo(
                prompt=prompt,
                negative=self.negative,
                steps=self.steps,
                sampler=self.sampler,
                cfg=self.cfg,
                seed=seed,
                size=self.size,
                model=name,
                model_digest=digest,
                clip_skip=self.clip_skip,
                loras=loras,
                strength=strength,
                noise=self.noise,
                embeddings=embeddings,
                extra={"Frames": str(self.frames)} if self.frames else {},
            )
        )


@dataclass(frozen=True)
class Cell:
    """One picture: a row's content (a digest, empty for the base alone), its weight, the prompt and the seed.

    ``embeddings`` are the digests of those that its prompts name.
    """

    row: str
    weight: float
    prompt: str
    seed: int
    embeddings: tuple[str, ...] = ()

    def key(self, settings: SamplingSettings, base: str, compute: str) -> str:
        """sha256 over all that determines the picture; ``compute`` names the dtype and the kind of device."""
        content = {"renderer": RENDERER, "base": base, "compute": compute, **settings.facts(), **asdict(self)}
        content |= _versions()
        if self.weight == 0:
            content["row"] = ""
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    """Of the libraries that compute pictures; another one may round otherwise."""
    return {name: version(name).partition("+")[0] for name in ("torch", "diffusers", "transformers")}


def folder_names(labels: Sequence[str]) -> list[str]:
    """One folder name for each label, safe on every system and different even where case does not count."""
    names: list[str] = []
    taken = {"base"}
    for label in labels:
        stem = re.sub(r"[^\w.+@=-]+", "_", label).strip("._ ")[:80] or "row"
        stem = f"_{stem}" if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", stem.split(".")[0]) else stem
        name, copy = stem, 2
        while name.casefold() in taken:
            name, copy = f"{stem}-{copy}", copy + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def cell_path(folder: str, weight: float, prompt: int, seed: int) -> str:
    """Where a picture lies below the grid's folder; ``prompt`` counts from 1."""
    return f"cells/{folder}/{number(weight)}/prompt{prompt}_{seed}.png"
