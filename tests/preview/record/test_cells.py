from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratools.errors import GridError
from loratools.preview.record.cells import Cell, SamplingSettings, cell_path, folder_names
from loratools.preview.request.numbers import check_seeds, parse_seeds, parse_size, parse_weights, with_base_first


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("0:1:0.25", (0, 0.25, 0.5, 0.75, 1)),
        ("0:1:0.1", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)),
        ("0:1:0.3", (0, 0.3, 0.6, 0.9)),
        ("1:0:0.5", (1, 0.5, 0)),
        ("1:0:-0.5", (1, 0.5, 0)),
        ("-1:1:1", (-1, 0, 1)),
        ("0, 0.5,1", (0, 0.5, 1)),
        ("0,0.5:1:0.25,1,1.5", (0, 0.5, 0.75, 1, 1.5)),
        ("0.7", (0.7,)),
        ("2:2:1", (2,)),
        ("1e-1", (0.1,)),
    ],
)
def test_weights_are_read(text: str, weights: tuple[float, ...]) -> None:
    assert parse_weights(text) == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:1", "write START:END:STEP"),
        ("0:1:0", "never reaches"),
        ("0:1:-0.1", "never reaches"),
        ("a", "'a' in the weights"),
        ("", "empty place"),
        ("1,,2", "empty place"),
        ("nan", "not a number"),
        ("inf", "not a number"),
        ("0:1:0.0001", "asks for 10001 weights"),
        ("0:1:0.1:2", "write START:END:STEP"),
        ("0:1:", "'' in the weights"),
        ("0--", "'0--' in the weights"),
    ],
)
def test_what_is_not_weights_is_told(text: str, message: str) -> None:
    with pytest.raises(GridError, match=message):
        parse_weights(text)


@given(st.integers(-20, 20), st.integers(1, 40), st.integers(1, 9))
def test_ranges_include_their_end_and_never_pass_it(start: int, count: int, tenths: int) -> None:
    end = start * 10 + count * tenths
    weights = parse_weights(f"{start}:{end / 10}:{tenths / 10}")
    assert weights == tuple(round(start + n * tenths / 10, 10) for n in range(count + 1))


def test_the_base_stands_first_and_only_once() -> None:
    assert with_base_first([0.5, 1, 0, 0.5, -0.0]) == (0, 0.5, 1)
    assert with_base_first([]) == (0,)
    with pytest.raises(GridError, match="inf makes no picture"):
        with_base_first([float("inf")])
    with pytest.raises(GridError, match="nan makes no picture"):
        with_base_first([float("nan")])


def test_seeds_and_sizes_are_read() -> None:
    assert parse_seeds("1,2, 5-7 ,2") == (1, 2, 5, 6, 7)
    assert parse_size("512x768") == (768, 512) and parse_size("128") == (128, 128)
    assert check_seeds([3, 3, 1]) == (3, 1)
    for bad in ("", "a", "-1", "1.5"):
        with pytest.raises(GridError, match="seed"):
            parse_seeds(bad)
    for bad in ("512x", "big", "512x768x2"):
        with pytest.raises(GridError, match="WIDTHxHEIGHT"):
            parse_size(bad)
    with pytest.raises(GridError, match="-5 is not a seed"):
        check_seeds([-5])
    with pytest.raises(GridError, match="no seed"):
        check_seeds([])


def test_folder_names_are_safe_and_different() -> None:
    names = folder_names(["a/b", "a:b", "Style", "style", "画风", "", "..", "con", "base", "x" * 200])
    assert names[:5] == ["a_b", "a_b-2", "Style", "style-2", "画风"]
    assert names[5:9] == ["row", "row-2", "_con", "base-2"] and len(names[9]) == 80
    assert folder_names(["aux.v2"]) == ["_aux.v2"]  # what stands before the first dot is what Windows keeps to itself
    assert cell_path("a_b", 0.1 + 0.2, 1, 7) == "cells/a_b/0.3/prompt1_7.png"


SETTINGS = SamplingSettings(20, 7.0, "dpmpp_2m", (64, 64))
CELL = Cell("row", 0.5, "a", 1)


def test_the_key_follows_everything_that_makes_the_picture() -> None:
    key = CELL.key(SETTINGS, "base", "float32 cpu")
    assert key == CELL.key(replace(SETTINGS, sampler="DPM++ 2M"), "base", "float32 cpu")
    others = {
        replace(CELL, row="x").key(SETTINGS, "base", "float32 cpu"),
        replace(CELL, weight=0.6).key(SETTINGS, "base", "float32 cpu"),
        replace(CELL, prompt="b").key(SETTINGS, "base", "float32 cpu"),
        replace(CELL, seed=2).key(SETTINGS, "base", "float32 cpu"),
        CELL.key(SETTINGS, "other", "float32 cpu"),
        CELL.key(SETTINGS, "base", "float16 cuda"),
        *(
            CELL.key(replace(SETTINGS, **{name: value}), "base", "float32 cpu")
            for name, value in {
                "steps": 21,
                "cfg": 7.5,
                "sampler": "DDIM",
                "size": (64, 72),
                "negative": "x",
                "clip_skip": 2,
            }.items()
        ),
    }
    assert len(others) == 12 and key not in others


def test_weight_zero_is_the_base_whatever_the_row() -> None:
    zero = replace(CELL, weight=0.0)
    assert zero.key(SETTINGS, "b", "c") == replace(zero, row="another").key(SETTINGS, "b", "c")


@pytest.mark.parametrize("cfg", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_makes_no_picture(cfg: float) -> None:
    with pytest.raises(GridError, match="use a finite number"):
        replace(SETTINGS, cfg=cfg)
