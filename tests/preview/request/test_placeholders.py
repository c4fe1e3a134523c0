"""``<lora:ink-NUM:STRENGTH>`` with Prompt S/R, as guides write it: the words mark a place and are drawn nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from loratools.blocks.presets import load_presets
from loratools.errors import FileError, GridError, LoratoolsError, PromptError
from loratools.preview.request.axes import parse_axis
from loratools.preview.request.prompt_loras import merge_string
from loratools.preview.request.read_axes import build_arrangement
from loratools.preview.request.read_rows import NameLookup
from loratools.preview.request.request import GridRequest

THERE = ("ink-000001", "ink-000002", "GHIBLI", "neon")


def lookup(ref: str) -> Path:
    if ref not in THERE:
        raise FileError(f"no LoRA '{ref}'")
    return Path(ref)


NAMES = NameLookup(lookup, lambda _: None, load_presets())


def shown(prompt: str, *texts: str, base: bool = True) -> tuple[list[tuple[object, ...]], list[tuple[str, float]]]:
    """The values of both axes, and every place's prompt and weight."""
    axes = tuple(parse_axis(text, slot) for text, slot in zip(texts, "xyz", strict=False))
    arrangement = build_arrangement(GridRequest(axes=axes, prompts=(prompt,), base_alone=base), NAMES)
    settings = [setting for _, setting in arrangement.places()]
    slots = [axis.values for axis in arrangement.axes if axis.slot]
    return slots, [(setting.prompt, setting.weight) for setting in settings]


def test_the_guides_own_grid() -> None:
    axes, places = shown("1girl <lora:ink-NUM:STRENGTH>", "s/r: NUM,000001,000002", "s/r: STRENGTH,0.5,1", base=False)
    assert axes == [("000001", "000002"), ("0.5", "1")]
    wanted = [f"1girl <lora:ink-{number}:{weight}>" for number in ("000001", "000002") for weight in ("0.5", "1")]
    assert places == [(prompt, 1.0) for prompt in wanted]


def test_the_base_stands_where_the_marking_word_would() -> None:
    axes, places = shown("1girl <lora:ink-NUM:STRENGTH>", "s/r: NUM,000001,000002", "s/r: STRENGTH,0.5,1")
    assert axes == [(None, "000001", "000002"), ("0.5", "1")]
    assert places[:2] == [("1girl <lora:ink-000001:0.5>", 0.0), ("1girl <lora:ink-000001:1>", 0.0)]


@pytest.mark.parametrize(
    ("prompt", "axis", "values"),
    [
        ("a <lora:neon:STRENGTH>", "s/r: STRENGTH, 0.5, 1", ("0.5", "1")),
        ("a <lora:neon:strength>", "s/r: strength, 0.5, 1", ("0.5", "1")),
        ("a <lora:neon:1:lbw=XYZ>", "s/r: XYZ, GP1, ALL", ("GP1", "ALL")),
        ("a <lora:NAME:1>", "s/r: NAME, neon, GHIBLI", ("neon", "GHIBLI")),
        ("a <lora:GHIBLI:1>", "s/r: GHIBLI, neon", ("GHIBLI", "neon")),
        ("a <lora:neon:1:lbw=GP2>", "s/r: GP2, GP1", ("GP2", "GP1")),
        ("a <lora:neon:1>", "s/r: neon, GHIBLI", ("neon", "GHIBLI")),
        ("a HAT <lora:neon:1>", "s/r: HAT, cap", ("HAT", "cap")),
        ("a __hat__", "s/r: __hat__, cap, bonnet", ("cap", "bonnet")),
        ("a {cap|hat}", "s/r: {cap|hat}, cap, hat", ("cap", "hat")),
    ],
)
def test_which_first_values_only_mark_a_place(prompt: str, axis: str, values: Sequence[str]) -> None:
    axes, _ = shown(prompt, axis, base=False)
    assert axes[0] == values


@pytest.mark.parametrize(
    ("prompt", "texts", "words", "kind"),
    [
        ("a <lora:ink-NUM:1>", ["s/r: NUM"], "'NUM' only marks the place, and no value follows", GridError),
        ("a <lora:ink-NUM:1>", ["s/r: 000001,000002"], r"NUM marks a place, .* `x=s/r: NUM,VALUE,VALUE`", GridError),
        ("a __hat__", ["cfg: 1,2"], "'__hat__' is a wildcard", PromptError),
        ("a", ["prompt: a; {b|c}"], "'{b|c}' is a random choice", PromptError),
        ("a", ["negative: a; <lora:x:1"], "no > closes", PromptError),
        ("a red", ["s/r: red, __hat__"], "'__hat__' is a wildcard", PromptError),
    ],
)
def test_bad_uses_are_told_in_a_sentence(
    prompt: str, texts: Sequence[str], words: str, kind: type[LoratoolsError]
) -> None:
    with pytest.raises(kind, match=words):
        shown(prompt, *texts)


def test_a_word_for_a_strength_without_an_axis_is_told_of_one() -> None:
    with pytest.raises(PromptError, match=r"'STRENGTH' is no strength; if STRENGTH marks a place, an axis fills it"):
        merge_string(["<lora:neon:STRENGTH>"], load_presets())
    with pytest.raises(PromptError, match="unknown block preset 'GP9'"):
        merge_string(["<lora:neon:1:GP9>"], load_presets())


def test_a_first_value_that_is_a_mistake_is_no_place_holder() -> None:
    axes, _ = shown("a <lora:ink-9:1>", "s/r: ink-9, neon", base=False)
    assert axes[0] == ("ink-9", "neon")  # so that the run says which LoRA is not there


@pytest.mark.parametrize("prompt", ["1girl <lora:neon:1", "1girl, {a|b}"])
def test_a_prompt_that_was_meant_to_name_a_lora_is_told_first(prompt: str) -> None:
    with pytest.raises(PromptError, match=r"no > closes|a random choice"):
        build_arrangement(GridRequest(prompts=(prompt,)), NAMES)
