from __future__ import annotations

import pytest

from loratools.blocks.webui_tag import take_tags
from loratools.errors import GridError
from loratools.preview.request.arrange import arrange
from loratools.preview.request.axes import Axis, parse_axis, split_texts
from loratools.preview.request.numbers import parse_integers, parse_numbers
from loratools.preview.request.prompt_loras import merge_string
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import CellSetting, replace_all

INK, NEON = GridRow("ink", {}), GridRow("neon", {})
START = CellSetting("1girl", 0)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-1 (+0.25)", (0, 0.25, 0.5, 0.75, 1)),
        ("0-1 (+0.3)", (0, 0.3, 0.6, 0.9)),  # the WebUI passes the end here
        ("0-1 [6]", (0, 0.2, 0.4, 0.6, 0.8, 1)),
        ("0-1[3], 2", (0, 0.5, 1, 2)),
        ("1-0 [3]", (1, 0.5, 0)),
        ("10-5 (-2.5)", (10, 7.5, 5)),
        ("-1-1 (+1)", (-1, 0, 1)),
        ("-1--0.5 (+0.25)", (-1, -0.75, -0.5)),
        ("0.5-2", (0.5, 1.5)),
        ("0-0.6 [7]", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        ("1e-1,0.1", (0.1,)),
    ],
)
def test_the_webui_s_ranges_are_read_and_never_pass_their_end(text: str, numbers: tuple[float, ...]) -> None:
    assert parse_numbers(text) == numbers


def test_whole_numbers() -> None:
    assert parse_integers("1-5", "steps") == (1, 2, 3, 4, 5)
    assert parse_integers("1-10 (+3), 30", "steps") == (1, 4, 7, 10, 30)
    assert parse_integers("1-10 [5]", "steps") == (1, 3, 5, 7, 10)  # as the WebUI cuts them
    assert parse_integers("5-1", "steps") == (5, 4, 3, 2, 1)
    with pytest.raises(GridError, match=r"gives 1\.5 for the steps.*the nearest is 2"):
        parse_integers("1.5", "steps")
    for bad in ("1-5 (-2)", "0-1 (+0)", "0-1 [0]", "0-9999", "1-a", "0-1 (+x)"):
        with pytest.raises(GridError):
            parse_numbers(bad)


def test_lists_of_texts_are_quoted_as_csv() -> None:
    assert split_texts('red hair, "long, green hair" ,blue') == ["red hair", "long, green hair", "blue"]
    assert split_texts("GP1; 1,0.5; ALL") == ["GP1", "1,0.5", "ALL"]
    assert split_texts('"say ""a"", b", c') == ['say "a", b', "c"]
    assert split_texts('"my, file":1:GP1; b') == ['"my, file":1:GP1', "b"]
    assert split_texts("a cat, red; a dog", commas=False) == ["a cat, red", "a dog"]
    assert split_texts("a cat, red", commas=False) == ["a cat, red"]
    with pytest.raises(GridError, match="not closed"):
        split_texts('a, "b')


def test_prompt_search_and_replace() -> None:
    assert replace_all("red", "blue", "red hair, red", "no red", "x") == ("blue hair, blue", "no blue")
    with pytest.raises(GridError, match=r"x \(Prompt S/R\): 'rde hair' stands neither.*did you mean 'red hair'"):
        replace_all("rde hair", "b", "1girl, red hair", "", "x")


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("weight: 0-1 [2]", Axis("weight", (0.0, 1.0), slot="x")),
        ("CFG Scale: 4,7.5", Axis("cfg", (4.0, 7.5), slot="x")),
        ("Sampler: euler_a, DPM++ 2M Karras", Axis("sampler", ("Euler a", "DPM++ 2M Karras"), slot="x")),
        ("size: 512x768, 64", Axis("size", ((768, 512), (64, 64)), slot="x")),
        ("block OUT04: 0,1", Axis("block", (0.0, 1.0), block="OUT04", slot="x")),
        ("weight of my base: -1:0:0.5", Axis("weight", (-1.0, -0.5, 0.0), "my base", slot="x")),
        ("Clip skip: 1-2", Axis("clip skip", (1, 2), slot="x")),
        ("epoch: 1-3 (+2), best", Axis("epoch", ("1", "3", "best"), slot="x")),
        ("Prompt S/R: a, b", Axis("s/r", ("a", "b"), slot="x")),
    ],
)
def test_axes_are_read_by_the_names_people_know(text: str, axis: Axis) -> None:
    assert parse_axis(text, "x") == axis


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight", r"axis y: 'weight' has no values"),
        ("wieght: 1", r"axis y: 'wieght' is no kind.*did you mean 'weight'"),
        ("steps: 0,5", r"axis y, steps: 0 is too small"),
        ("sampler: Euler b", r"axis y, sampler: .*Euler a"),
        ("cfg: a", r"axis y, cfg: 'a' in the CFG scales"),
        ("seed: -1", r"axis y, seed: -1 is not a seed"),
        ("block: 1", r"axis y: which block"),
        ("cfg of ink: 1", r"axis y: 'of ink' goes with"),
        ("prompt:", r"there is no value after the colon"),
    ],
)
def test_what_is_no_axis_is_told_with_its_name_and_the_nearest_value(text: str, message: str) -> None:
    with pytest.raises(GridError, match=message):
        parse_axis(text, "y")


def test_an_empty_negative_prompt_is_a_value() -> None:
    assert parse_axis("negative: ; lowres", "x").values == ("", "lowres")
    assert parse_axis('negative: lowres; ""; bad;', "x").values == ("lowres", "", "bad")
    with pytest.raises(GridError, match="no value after the colon"):
        parse_axis("negative: ", "x")


def test_an_unquoted_vector_is_told_of_quotes() -> None:
    with pytest.raises(GridError, match=r"axis x, vector: a comma parts values, so '1' would be .* in double quotes"):
        parse_axis("vector: 1,0,0,0,1,1,1,0.5,1,1,1,1,1,1,1,1,1", "x")
    assert parse_axis('vector: GP1, "1,0,0"', "x").values == ("GP1", "1,0,0")


def test_spaces_within_a_range_are_passed_over() -> None:
    assert parse_axis("weight: 0-1 (+ 0.5)", "x").values == (0, 0.5, 1)
    assert parse_axis("weight: 1-0 (- 0.5)", "x").values == (1, 0.5, 0)


def test_titles_and_labels() -> None:
    axis = parse_axis("weight of BASE: -1,0", "x")
    assert axis.title == "weight of BASE" and axis.label(1) == "0"
    assert parse_axis("weight: 0,0.5", "x").label(0) == "base"
    assert parse_axis("size: 512x768", "x").label(0) == "512x768"
    assert Axis("adapter", (None, INK)).label(0) == "base" and Axis("adapter", (None, INK)).label(1) == "ink"


def axes(*texts: str, **options: object) -> list[tuple[str, tuple[object, ...], str]]:
    asked = [parse_axis(text, slot) for text, slot in zip(texts, "xyz", strict=False)]
    given: dict[str, object] = {"prompts": ["1girl"], "seeds": [1], **options}
    arrangement = arrange(asked, START, **given)  # type: ignore[arg-type]
    return [(axis.kind, axis.values, axis.slot) for axis in arrangement.axes if len(axis.values) > 1 or axis.slot]


def test_rows_and_weights_take_the_free_places_and_the_base_stands_first() -> None:
    rows = (INK, NEON)
    assert axes(rows=rows, weights=(0.5, 1.0)) == [("weight", (0, 0.5, 1), "x"), ("adapter", rows, "y")]
    assert axes("cfg: 4,7", rows=rows) == [("cfg", (4, 7), "x"), ("adapter", (None, *rows), "y")]
    assert axes("cfg: 4,7", "steps: 1,2", rows=rows[:1]) == [
        ("cfg", (4, 7), "x"),
        ("steps", (1, 2), "y"),
        ("adapter", (None, INK), "z"),
    ]
    assert axes("vector: GP1; ALL", "seed: 1,2", rows=rows[:1]) == [
        ("vector", (None, "GP1", "ALL"), "x"),
        ("seed", (1, 2), "y"),
    ]
    assert axes("weight: 0.5,1", rows=rows[:1], base=False) == [("weight", (0.5, 1), "x"), ("adapter", (INK,), "y")]
    assert axes("weight of b: 0,1", "te: 0,1", "unet: 0,1", rows=rows, seeds=[1, 2]) == [
        ("weight", (0, 1), "x"),
        ("te", (0, 1), "y"),
        ("unet", (0, 1), "z"),
        ("adapter", (None, *rows), "z2"),
        ("seed", (1, 2), ""),
    ]


def test_tags_in_prompts_have_a_base_too() -> None:
    tagged = ["1girl, <lora:ink-1:0.2>"]
    assert axes("s/r: ink-1, ink-2", prompts=tagged)[0] == ("s/r", (None, "ink-1", "ink-2"), "x")
    assert axes("s/r: 1girl, 1boy", prompts=tagged)[:2] == [("s/r", ("1girl", "1boy"), "x"), ("weight", (0, 1), "y")]
    assert axes("s/r: 1girl, 1boy") == [("s/r", ("1girl", "1boy"), "x")]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (("cfg: 1", "cfg: 2"), {}, "the axes x and y both change the CFG"),
        (("vector: GP1",), {}, r"axis x: blocks has nothing to change; name a LoRA among the rows"),
        (("prompt: a; b",), {"prompts": ["a", "b"]}, "several prompts are given beside the axis x"),
        (("cfg: 1-10", "steps: 1-10"), {"most": 99}, r"10 CFG x 10 steps = 100 pictures, and 99 .*most=100"),
        ((), {"rows": (INK, INK)}, "two rows are called 'ink'"),
    ],
)
def test_axes_that_do_not_go_together_are_told(
    texts: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(GridError, match=message):
        axes(*texts, **options)


def test_texts_are_replaced_after_everything_else_and_in_order() -> None:
    asked = [parse_axis("s/r: hair, fur", "x"), parse_axis("prompt: red hair; cat", "y")]
    arrangement = arrange(asked, START, prompts=["1girl"], seeds=[1], base=False)
    with pytest.raises(GridError, match=r"axis x \(Prompt S/R\): 'hair' stands neither in the prompt 'cat'"):
        list(arrangement.places())
    chained = arrange(
        [parse_axis("s/r: a, b", "x"), parse_axis("s/r: b, c", "y")],
        CellSetting("a b", 0),
        prompts=["a b"],
        seeds=[1],
        base=False,
    )
    prompts = {at[:2]: setting.prompt for at, setting in chained.places()}
    assert prompts == {(0, 0): "a b", (0, 1): "a c", (1, 0): "b b", (1, 1): "c c"}


def test_tags_are_taken_out_of_prompts_and_read_as_merge_strings() -> None:
    plain, tags = take_tags("1girl, <lora:my ink:0.8:lbw=IN=0.5>, smile <lyco:b:te=0.5:unet=1>")
    assert plain == "1girl, , smile" and len(tags) == 2
    text = merge_string(tags, {})
    assert text.startswith('"my ink":0.8:IN00=0.5,') and text.endswith(',"b":1:te=0.5:unet=1')


def test_errors_say_which_axis_or_option_is_meant() -> None:
    for text in ("cgf: 1", "cfg", "cfg: x", "block: 1", "vector: 1,0.5"):
        with pytest.raises(GridError) as error:
            parse_axis(text, "y")
        assert error.value.axis == "y"
    with pytest.raises(GridError) as error:
        arrange([parse_axis("seed: 1-9", "x"), parse_axis("cfg: 1-9", "z")], START, prompts=["a"], most=80)
    assert (error.value.axis, error.value.option) == ("", "most")
    with pytest.raises(GridError) as error:
        list(arrange([parse_axis("s/r: nowhere, blue", "z")], START, prompts=["a"], seeds=[1]).places())
    assert error.value.axis == "z"
