"""The prompts that a run draws while it goes on, in sd-scripts' syntax: a text file, TOML, JSON, or lines in a config.

A line is a prompt and its options: ``1girl, smile --n low quality --w 512 --h 768 --d 1 --l 7 --s 28 --ss euler_a``.
Lines that begin with ``#`` are comments. ``<lora:NAME:0.8>``, of the LoRA in training, says how
strong it is in that picture.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.base.generate import PictureRequest
from loratools.base.model import Base
from loratools.base.picture_size import check_size
from loratools.base.prompt.foreign_syntax import check_prompt
from loratools.base.sampling.samplers import find_sampler
from loratools.blocks.presets import load_presets
from loratools.blocks.webui_tag import LoraTag, has_tag, parse_tag, take_tags
from loratools.errors import BlockError, GridError, PromptError, did_you_mean
from loratools.train.config.config import TrainConfig


class _OutOfRange(ValueError):
    """A number that an option does not take; the message is half a sentence, such as "it must be 1 or more"."""


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise _OutOfRange("it must be 1 or more")
    return value


def _seed(text: str) -> int | None:
    """None below 0, which stands for no seed."""
    value = int(text)
    if value >= 2**63:
        raise _OutOfRange("it must be below 2 to the power of 63")
    return value if value >= 0 else None


_Read = Callable[[str], Any]
# option of a line -> what it is called in TOML and JSON, and how its value is read
_OPTIONS: Mapping[str, tuple[str, _Read]] = {
    "n": ("negative_prompt", str),
    "w": ("width", _count),
    "h": ("height", _count),
    "d": ("seed", _seed),
    "l": ("scale", float),
    "s": ("sample_steps", _count),
    "ss": ("sample_sampler", str),
}
# of other families, or of a ControlNet beside the base: option of a line -> what it is called in TOML and JSON
_ELSEWHERE: Mapping[str, str] = {
    "cn": "controlnet_image",
    "g": "guidance_scale",
    "fs": "flow_shift",
    "ctr": "cfg_trunc_ratio",
    "rcfg": "renorm_cfg",
}
_BY_NAME = {name: (name, read) for name, read in _OPTIONS.values()}
_ONLY_THERE = "it is of a ControlNet or of another family of models"
_OPTION = re.compile(r"(?:^|\s)--(?=[A-Za-z])")


@dataclass(frozen=True)
class Strength:
    """Factors for the difference of the LoRA in training: one for the text encoders, one for the UNet."""

    te: float = 1.0
    unet: float = 1.0


@dataclass(frozen=True)
class SampleRequest:
    """A picture that a run draws of itself: its prompt holds no tags, what they say is ``strength``."""

    request: PictureRequest
    strength: Strength = Strength()


def read_sample_prompts(config: TrainConfig, base: Base, notes: list[str]) -> list[SampleRequest]:
    """Every picture of the config's ``sample_prompts``; what a line does not say is the base's own.

    Without ``--d`` a line has the run's seed, so that all its pictures begin at the same noise. As in sd-scripts, sides
    are rounded down to multiples of 8, and a seed below 0 is none.

    Args:
        notes: gets a sentence for every size that is rounded, and every option that only other families have.
    Raises:
        PromptError: naming the file and the line, for a file or an option that cannot be read, for the tag of another
            LoRA than the one in training, and for what nothing here carries out, such as a wildcard.
        GridError: for a sampler or a size that the base does not have.
    """
    return [_resolved(where, given, config, base, notes) for where, given in _lines(config.sample_prompts, notes)]


def check_prompts(prompts: Path | tuple[str, ...], name: str) -> None:
    """Raise what is wrong with ``prompts`` whatever the base is.

    Args:
        name: of the LoRA in training.
    Raises:
        PromptError, GridError: as :func:`read_sample_prompts`.
    """
    for where, given in _lines(prompts, []):
        _check_sampler(where, given.get("sample_sampler"))
        _check_negative(where, given.get("negative_prompt", ""))
        _live(where, given["prompt"], name)


def _check_negative(where: str, text: str) -> None:
    if has_tag(text):
        raise PromptError(f"{where}: the negative prompt names a LoRA, '{text}'; only the prompt may")
    check_prompt(text, where)


def _live(where: str, text: str, name: str) -> tuple[str, Strength]:
    """The prompt without its tags, and how strong they ask the LoRA in training, ``name``, to be; several add up."""
    prompt, tags = take_tags(text)
    check_prompt(prompt, where)
    read = [_tag(where, tag, name) for tag in tags]
    return prompt, Strength(sum(own.te for own in read), sum(own.unet for own in read)) if read else Strength()


def _tag(where: str, text: str, name: str) -> LoraTag:
    try:
        tag = parse_tag(text, load_presets())
    except BlockError as error:
        raise PromptError(f"{where}: {error}") from error
    if tag.name != name:
        raise PromptError(
            f"{where}: {text} names another LoRA than '{name}', which is in training and needs no tag; samples show "
            "that one alone: leave the tag out, or draw both with `loratools grid` once files are there"
        )
    if tag.vector is not None:
        raise PromptError(
            f"{where}: {text} has a block vector, and samples show every block as it is trained; leave the vector "
            "out, or draw it with `loratools grid` once files are there"
        )
    return tag


def _check_sampler(where: str, name: str | None) -> None:
    try:
        if name:
            find_sampler(name)
    except GridError as error:
        raise GridError(f"{where}: {error}") from error


def _lines(prompts: Path | tuple[str, ...] | None, notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each prompt stands, and what is said of it."""
    if isinstance(prompts, Path):
        text = _text(prompts)
        match prompts.suffix.lower():
            case ".toml":
                yield from _tables(prompts, _toml(prompts, text), notes)
            case ".json":
                yield from _tables(prompts, _json(prompts, text), notes)
            case _:
                yield from _numbered(f"{prompts}, line", text.splitlines(), notes)
    elif prompts is not None:
        yield from _numbered("sample_prompts, line", prompts, notes)


def _numbered(where: str, lines: Any, notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines as in sd-scripts' text files; blank ones and comments are left out.

    Args:
        where: what stands before a line's number in a message.
    """
    stripped = [(f"{where} {number}", line.strip()) for number, line in enumerate(lines, start=1)]
    prompts = [(place, line) for place, line in stripped if line and not line.startswith("#")]
    if not prompts:
        raise PromptError(f"{where.removesuffix(', line')} holds no prompt; write one a line")
    for place, line in prompts:
        prompt, *options = _OPTION.split(line)
        read = (_option(option, place, notes) for option in options)
        yield place, {"prompt": prompt.strip(), **dict(option for option in read if option is not None)}


def _option(text: str, place: str, notes: list[str]) -> tuple[str, Any] | None:
    """``w 512`` as (``width``, 512); None, and a note, for an option of another family."""
    name, _, value = text.partition(" ")
    if name.lower() in _ELSEWHERE:
        notes.append(f"{place}: --{name} has no effect; {_ONLY_THERE}")
        return None
    if name.lower() not in _OPTIONS:
        raise PromptError(
            f"{place}: there is no option '--{name}' here; there are {', '.join(f'--{known}' for known in _OPTIONS)}"
        )
    key, read = _OPTIONS[name.lower()]
    return key, _value(f"--{name}", value.strip(), read, place)


def _tables(path: Path, tables: Any, notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Prompts of a TOML or JSON file."""
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise PromptError(f"{path} holds no prompts; list them, each with its `prompt`")
    for number, table in enumerate(tables, start=1):
        place, given = f"{path}, prompt {number}", {}
        for key, value in table.items():
            if key in _ELSEWHERE.values():
                notes.append(f"{place}: {key} has no effect; {_ONLY_THERE}")
                continue
            if key != "prompt" and key not in _BY_NAME:
                raise PromptError(
                    f"{place}: there is no key '{key}'{did_you_mean(key, ['prompt', *_BY_NAME])}; there "
                    f"are prompt, {', '.join(_BY_NAME)}"
                )
            given[key] = _value(key, str(value), str if key == "prompt" else _BY_NAME[key][1], place)
        yield place, {"prompt": "", **given}


def _value(name: str, text: str, read: _Read, place: str) -> Any:
    try:
        return read(text)
    except _OutOfRange as error:
        raise PromptError(f"{place}: {name} is '{text}'; {error}") from error
    except ValueError as error:
        raise PromptError(f"{place}: {name} is '{text}'; it must be a number") from error


def _resolved(where: str, given: Mapping[str, Any], config: TrainConfig, base: Base, notes: list[str]) -> SampleRequest:
    _check_negative(where, given.get("negative_prompt", ""))
    prompt, strength = _live(where, given["prompt"], config.name)
    height, width = base.resolution
    size = _rounded(where, (given.get("height", height), given.get("width", width)), notes)
    seed = given.get("seed")
    try:
        check_size(size, base.vae_scale_factor)
        sampler = find_sampler(given.get("sample_sampler") or config.sample_sampler or base.defaults.sampler).name
    except GridError as error:
        raise GridError(f"{where}: {error}") from error
    request = PictureRequest(
        prompt=prompt,
        negative=given.get("negative_prompt", ""),
        size=size,
        seed=config.seed if seed is None else seed,
        steps=given.get("sample_steps", base.defaults.steps),
        cfg=given.get("scale", base.defaults.cfg),
        sampler=sampler,
        clip_skip=config.clip_skip,
    )
    return SampleRequest(request, strength)


def _rounded(where: str, size: tuple[int, int], notes: list[str]) -> tuple[int, int]:
    """(height, width) down to multiples of 8, as in sd-scripts, with a note where that changes them."""
    height, width = (max(side - side % 8, 64) if side % 8 else side for side in size)
    if (height, width) != size:
        notes.append(f"{where}: {size[1]}x{size[0]} is drawn at {width}x{height}, since sides are multiples of 8")
    return height, width


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise PromptError(
            f"cannot read sample_prompts {path}: {reason}; name a file of prompts, or list them in the "
            "config as `sample_prompts: [1girl --w 512]`"
        ) from error


def _toml(path: Path, text: str) -> Any:
    """``[prompt]`` with what all have, and ``[[prompt.subset]]`` for each."""
    try:
        table = tomllib.loads(text).get("prompt", {})
    except tomllib.TOMLDecodeError as error:
        raise PromptError(f"cannot read {path}: {error}; write [prompt] and [[prompt.subset]]") from error
    if not isinstance(table, dict):
        return table
    shared = {key: value for key, value in table.items() if key != "subset"}
    return [{**shared, **own} for own in table.get("subset", [{}] if shared else [])]


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise PromptError(f"cannot read {path}: {error}; write a list of prompts") from error
