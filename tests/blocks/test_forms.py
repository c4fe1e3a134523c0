"""Every form in which people have block vectors, what they turn into, and what is said when they cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratools.adapter.architectures.names import lora_targets
from loratools.blocks.elements import elemental_presets, parse_rule
from loratools.blocks.explain import BlockShare, explain, sparkline
from loratools.blocks.export import as_diffusers, as_inspire, as_lbw, as_prompt, scheme_named
from loratools.blocks.inspire import ORDERS, find_order, inspire_numbers
from loratools.blocks.parse import find_preset, parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import FLUX_61, SD1_17, SD1_26, SDXL_12, SDXL_20, full_scheme
from loratools.blocks.vector import vector_from
from loratools.blocks.webui_tag import LoraTag, parse_tag
from loratools.errors import BlockError
from tests.oracle import GP1

PRESETS = load_presets()


def read(text: str, family: str | None = None) -> list[float]:
    return list(parse_vector(text, PRESETS, family).weights.values())


def numbers(count: int) -> str:
    return ",".join(str(i) for i in range(1, count + 1))


def test_groups_ranges_and_single_blocks() -> None:
    vector = parse_vector("IN=0.5, MID=1, OUT04-OUT08=0.3, TE=0, OUT05=2", PRESETS, "sd1")
    assert vector.scheme is SD1_26 and not vector.lists("OUT03") and not vector.lists("OUT09")
    assert {vector.weight(f"IN{n:02d}") for n in range(12)} == {0.5}
    assert [vector.weight(f"OUT{n:02d}") for n in range(4, 9)] == [0.3, 2, 0.3, 0.3, 0.3]
    assert (vector.weight("M00"), vector.weight("BASE")) == (1, 0)
    assert parse_vector("OUT04-08=1", PRESETS).weights == dict.fromkeys([f"OUT{n:02d}" for n in range(4, 9)], 1.0)
    assert set(parse_vector("ALL=0.5", PRESETS, "sdxl").weights) == set(SDXL_20.names)
    assert len(parse_vector("D=0.5,S00-S02=1,CLIP=0", PRESETS).weights) == 19 + 3 + 1
    # over a preset, a group reaches what the preset lists and nothing else
    over = parse_vector("GP1,IN=0", PRESETS)
    assert tuple(over.weights) == SD1_17.names and over.weight("IN08") == 0 and over.weight("OUT03") == 0.4


@pytest.mark.parametrize(
    ("text", "family", "message"),
    [
        ("INN=0.5", "sd1", r"no block or group 'INN' \(did you mean 'IN'\?\); groups are IN OUT"),
        ("OUT08-OUT04=1", "sd1", "runs backwards; write OUT04-OUT08"),
        ("OUT04-OUT13=1", "sd1", "no block 'OUT13'"),
        ("D=1", "sd1", "no block or group 'D'"),
        ("OUT09-OUT11=1", "sdxl", "no block 'OUT09'"),
        ("mix(GP1,ALL)", "sd1", r"should look like mix\(GP1, ALL, 0.5\)"),
        ("mxi(GP1,ALL,1)", "sd1", r"no 'mxi\(...\)' of vectors \(did you mean 'mix'"),
        ("mix(GP1,ALL,0.5", "sd1", "no partner"),
        ("mix(GP1,FLUXALL,0.5)", None, "have other blocks"),
        ("scale(GP3,2)", "sd1", "unknown block preset 'GP3'"),
        ("1 0 0 " + "1 " * 14, "sd1", "parted by commas, 1,0,0,... in place of '1 0 0 1"),
        ("1;0;0;" + "1;" * 13 + "1", "sd1", "parted by commas, 1,0,0,... in place of '1;0;0;1"),
        ("lbw=OUTALL", "sd1", "is how a prompt's tag spells it; here write OUTALL alone"),
        ("scale(scale(GP1,1e300),1e300)", "sd1", "not finite"),
        ("lbwe=GP1", "sd1", "should name an elemental preset"),
        ("lbwe=ATTNDEPOFF", "sd1", r"did you mean 'ATTNDEEPOFF'"),
        ("OUT03/=1", "sd1", "names no part of a module"),
        ("OUT3x/attn=1", "sd1", "no block 'OUT3x'"),
        (",".join(["R"] * 17), "sd1", "needs a seed.*add ,seed=1"),
        (",".join(["X"] * 17), "sd1", r"variable weight.*add ,x=0\.7"),
        (",".join(["1"] * 17) + ",seed=z", "sd1", "should be a whole number"),
        (",".join(["1"] * 17) + ",OUT03=1", "sd1", "mixes bare numbers and names"),
        ("inspire-22:" + numbers(22), None, r"no order 'inspire-22' \(did you mean 'inspire-2"),
        ("inspire-21:" + numbers(20), None, "inspire-21 takes 21 numbers, and .* has 20"),
        ("inspire-27:" + numbers(27), "sdxl", r"inspire-27 \(27 numbers\) is for sd1, and this model is sdxl"),
        ("%default=1,inn=0.5", "sd1", r"no section 'inn' \(did you mean 'in'"),
        ("%default=1,in1-9=0.5", "sd1", "in counts from 1 to 6 in inspire-17"),
        ("%default", "sd1", "should look like in1-3=0.5"),
    ],
)
def test_forms_that_cannot_be_read_are_named(text: str, family: str | None, message: str) -> None:
    with pytest.raises(BlockError, match=message):
        parse_vector(text, PRESETS, family)


def test_letters_need_a_seed_and_give_the_same_numbers_again() -> None:
    letters = ",".join(["R", "U", "X", "X+0.2", *["1"] * 13])
    first = parse_vector(letters + ",seed=7,x=0.5", PRESETS)
    assert first == parse_vector(letters + ",x=0.5,seed=7", PRESETS)
    assert first != parse_vector(letters + ",seed=8,x=0.5", PRESETS)
    values = list(first.weights.values())
    assert 0 <= values[0] <= 1 and -0.5 <= values[1] <= 1.5 and values[2:4] == [0.5, 0.7]
    assert parse_vector(first.text(), PRESETS) == first, "the resolved numbers stand in the text"


def test_expressions() -> None:
    assert read("mix(GP1, ALL, 0.5)") == pytest.approx([(w + 1) / 2 for w in GP1])
    assert read("mix(GP1;1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1;0.5)") == read("mix(GP1,ALL,0.5)")
    assert read("scale(GP1, 2)") == pytest.approx([2 * w for w in GP1])
    assert read("product(GP1, GP1, ALL0.5)") == pytest.approx([w * w / 2 for w in GP1])
    assert parse_vector("mix(GP1,ALL,0),OUT03=0.8", PRESETS).weight("OUT03") == 0.8
    assert read("scale(mix(GP1,ALL,1),0.5)") == [0.5] * 17


@given(st.lists(st.floats(-2, 2), min_size=17, max_size=17), st.floats(-1, 2), st.floats(-2, 2))
def test_the_algebra_is_what_it_says(values: list[float], share: float, factor: float) -> None:
    a, b = vector_from(values), vector_from(GP1)
    assert list(a.mixed(b, share).weights.values()) == pytest.approx(
        [(1 - share) * x + share * y for x, y in zip(values, GP1, strict=True)]
    )
    assert list(a.composed(b).scaled(factor).weights.values()) == pytest.approx(
        [x * y * factor for x, y in zip(values, GP1, strict=True)]
    )
    assert a.mixed(b, 0).weights == a.weights


def test_rules_replace_the_weight_of_the_modules_that_they_match() -> None:
    vector = parse_vector("GP1,IN05-OUT05/attn=0,OUT03/attn2.to_k=0.7", PRESETS, "sd1")
    attn = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    key = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    ff = "unet.up_blocks.1.attentions.0.transformer_blocks.0.ff.net.2"
    assert (vector.at("OUT03", attn), vector.at("OUT03", key), vector.at("OUT03", ff)) == (0, 0.7, 0.4)
    assert vector.at("OUT06", attn) == 1.0, "outside the rule's blocks"
    assert parse_vector(vector.text(), PRESETS) == vector
    assert vector.scaled(2).at("OUT03", key) == 1.4
    alone = parse_vector("lbwe=ATTNDEEPOFF", PRESETS, "sd1")
    assert alone.at("OUT03", attn) == 0 and alone.at("OUT03", ff) == 1 and alone.at("BASE", "x") == 1
    assert parse_vector("ATTNDEEPOFF", PRESETS, "sd1") == alone
    with pytest.raises(BlockError, match="cannot be multiplied or mixed"):
        vector.mixed(vector, 0.5)
    assert parse_rule("IN05-OUT05/attn", 0, SD1_26).blocks == {
        *(f"IN{n:02d}" for n in range(5, 12)),
        "M00",
        *(f"OUT{n:02d}" for n in range(6)),
    }
    outside = parse_rule("NOT IN BASE/NOT attn ff", 0, SD1_26)
    assert outside.blocks == {"M00", *(f"OUT{n:02d}" for n in range(12))}
    assert not outside.applies("OUT03", attn) and outside.applies("OUT03", "unet.up_blocks.1.attentions.0.proj_in")


def test_elemental_presets_as_they_are(tmp_path: Path) -> None:
    text = "ATTNDEEPON:IN05-OUT05:attn:1\n\nMINE:IN01 M00:proj ff:0.5,\nNOT OUT:attn2:0\n\nXYZ:::1\n"
    assert elemental_presets(text) == {
        "ATTNDEEPON": "IN05-OUT05/attn=1",
        "MINE": "IN01 M00/proj ff=0.5,NOT OUT/attn2=0",
        "XYZ": "*/_=1",
    }
    (tmp_path / "elempresets.txt").write_text(text)
    presets = load_presets(tmp_path / "elempresets.txt")
    mine = parse_vector("GP2,lbwe=mine", presets, "sd1")
    proj, attn2 = "unet.down_blocks.0.attentions.0.proj_in", "unet.mid_block.attentions.0.x.attn2.to_q"
    assert mine.at("IN01", proj) == 0.5 and mine.at("M00", attn2) == 0 and mine.at("OUT03", attn2) == 0.1
    assert parse_vector("lbwe=XYZ", presets, "sd1").at("OUT03", attn2) == 1


def test_lbw_preset_files_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "lbwpresets.txt"
    path.write_text(
        "see also: the README\nMINE:"
        + ",".join(["0.5"] * 17)
        + "\nMINE:"
        + ",".join(["0.25"] * 17)
        + "\n#OLD:"
        + ",".join(["1"] * 17)
        + "\nRAND:"
        + ",".join(["R"] * 17)
        + "\nSHORT:1,1,1\r\n"
        + "XL:"
        + ",".join(["1"] * 12)
        + "\n",
        encoding="utf-8-sig",
    )
    presets = load_presets(path)
    assert find_preset("mine", presets).weight("BASE") == 0.25, "the last one of a name wins, as there"
    assert not {"see also", "OLD", "#OLD"} & set(presets)
    with pytest.raises(BlockError, match=r"the preset 'RAND': 'R' is a random weight, which needs a seed"):
        parse_vector("RAND", presets)
    assert parse_vector("RAND,seed=3", presets) == parse_vector("rand,seed=3", presets)
    with pytest.raises(BlockError, match=r"the preset 'SHORT': .*has 3 numbers"):
        parse_vector("SHORT", presets)
    assert find_preset("XL", presets, "sdxl").scheme is SDXL_12
    with pytest.raises(BlockError, match=r"the preset 'XL'.*takes 17 or 26"):
        find_preset("XL", presets, "sd1")


def test_conversion_reproduces_the_measured_table() -> None:
    vector = vector_from(range(1, 18))
    assert list(vector.converted(SD1_26, 0).weights.values()) == [
        1, 0, 2, 3, 0, 4, 5, 0, 6, 7, 0, 0, 0, 8, 0, 0, 0, 9, 10, 11, 12, 13, 14, 15, 16, 17]  # fmt: skip
    short = vector_from(range(1, 13))
    assert list(short.converted(SDXL_20, 0).weights.values()) == [
        1, 0, 0, 0, 0, 2, 3, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0]  # fmt: skip
    assert short.converted(SDXL_20, 1).converted(SDXL_12) == short
    half = parse_vector("ALL=0.5", PRESETS, "sd1")
    with pytest.raises(BlockError, match="drop=True"):
        half.converted(SD1_17, 0)
    assert list(half.converted(SD1_17, drop=True).weights.values()) == [0.5] * 17


def test_inspire_orders_hold_what_they_should() -> None:
    assert {name: order.length for name, order in ORDERS.items()} == {
        "inspire-12": 12,
        "inspire-17": 17,
        "inspire-20": 20,
        "inspire-21": 21,
        "inspire-27": 27,
        "inspire-58": 58,
    }
    assert all(len(o.slots) == o.length or o.name == "inspire-20" for o in ORDERS.values())
    lycoris = parse_vector("inspire-27:" + numbers(27), PRESETS, "sd1")
    assert lycoris.weight("IN11") == 12 and lycoris.weight("M00") == 14 and lycoris.weight("OUT00") == 16
    assert lycoris.at("M00", "unet.mid_block.resnets.0.conv1") == 13
    assert lycoris.at("M00", "unet.mid_block.resnets.1.conv1") == 15 and not lycoris.lists("IN00")
    assert inspire_numbers(lycoris, ORDERS["inspire-27"]) == list(range(1, 28))
    flux = parse_vector("inspire-58:" + numbers(58), PRESETS)
    assert flux.scheme is FLUX_61 and flux.weight("T5") == flux.weight("OUT") == 1 and flux.weight("S37") == 58
    assert inspire_numbers(flux, find_order("INSPIRE-58")) == list(range(1, 59))
    short = parse_vector("inspire-20(" + numbers(20) + ")", PRESETS, "flux")
    assert short.weight("D18") == 20 and short.weight("S00") == short.weight("S37") == 20
    assert inspire_numbers(short, ORDERS["inspire-20"]) == list(range(1, 21))
    assert read(numbers(20)) == list(range(1, 21)), "a bare 20 is SDXL's"
    assert parse_vector("inspire-21:" + numbers(21), PRESETS).weight("OUT00") == 13
    with pytest.raises(BlockError, match="one number for CLIP T5 IN OUT, whose weights differ"):
        as_inspire(vector_from(range(61)))
    with pytest.raises(BlockError, match=r"no place for D00|no place for S00"):
        inspire_numbers(flux, ORDERS["inspire-20"])


def test_inspires_sections_count_from_one() -> None:
    vector = parse_vector("%default=1,base=0.9,in1-3=0.5,out=0,out2=0.7,mid=0.2", PRESETS, "sd1")
    assert list(vector.weights.values()) == [0.9, 0.5, 0.5, 0.5, 1, 1, 1, 0.2, 0, 0.7, *[0] * 7]
    flux = parse_vector("%default=0,double1-19=1,single1=0.5", PRESETS)
    assert flux.weight("D18") == 1 and flux.weight("S00") == 0.5 and flux.weight("S01") == 0
    lycoris = parse_vector("inspire-27:%default=1,in3=0.5,mid2=0.1", PRESETS)
    assert lycoris.weight("IN03") == 0.5 and lycoris.weight("M00") == 0.1 and lycoris.rules[0].weight == 1


def test_inspires_letters_are_its_own() -> None:
    vector = parse_vector("inspire-17:" + ",".join(["A", "B", "a", "b", *["1"] * 13]), PRESETS)
    assert list(vector.weights.values())[:4] == [4, 1, 2, 0.5]
    body = ",".join(["R"] * 17)
    wide = [read(f"inspire-17:{body},seed={seed}") for seed in range(5)]
    assert 1 < max(max(values) for values in wide) <= 3 and read(f"inspire-17:{body},seed=0") == wide[0]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("<lora:x:1>", ("x", 1, 1, None)),
        ("<lora:x:0.5>", ("x", 0.5, 0.5, None)),
        ("<lyco:x:0.5:0.8>", ("x", 0.5, 0.8, None)),
        ("<lora:x:te=0.5:unet=0.8>", ("x", 0.5, 0.8, None)),
        ("<lora:x:1:lbw=MIDD>", ("x", 1, 1, "MIDD")),
        ("<lora:x:1:w=MIDD>", ("x", 1, 1, "MIDD")),
        ("<lora:x:1:MIDD>", ("x", 1, 1, "MIDD")),
        ("<lora:x:1:0.5:lbw=" + numbers(17) + ">", ("x", 1, 0.5, numbers(17))),
        ("<lora:x:1:1:" + numbers(17) + ">", ("x", 1, 1, numbers(17))),
        ("<lora:x:1:lbw=" + ",".join(["X"] * 17) + ":x=0.7>", ("x", 1, 1, ",".join(["0.7"] * 17))),
        ("<lora:x:1:lbwe=ATTNDEEPOFF>", ("x", 1, 1, "ATTNDEEPOFF")),
        ("<lora:x:1:lbw=GP1:lbwe=ATTNDEEPOFF>", ("x", 1, 1, "GP1,lbwe=ATTNDEEPOFF")),
    ],
)
def test_prompt_tags(text: str, tag: tuple[str, float, float, str | None]) -> None:
    name, te, unet, vector = tag
    expected = LoraTag(name, te, unet, None if vector is None else parse_vector(vector, PRESETS, "sd1"))
    assert parse_tag(text, PRESETS, "sd1") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<lora::1>", "names no LoRA"),
        ("<lora:x:1:start=10>", "window of sampler steps"),
        ("<lora:x:1:dyn=8>", "truncates the rank"),
        ("<lora:x:1:lwb=GP1>", "'lwb=' .* is unknown"),
        ("<lora:x:te=z>", "te= .* is 'z'"),
        ("<lora:x:GP1:GP2>", "both 'GP1' and 'GP2'"),
        ("lora:x:1", "no prompt tag"),
        ("<lora:a:STRENGTH:lbw=GP1>", "holds both 'STRENGTH', which is no number, and lbw="),
    ],
)
def test_prompt_tags_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(BlockError, match=message):
        parse_tag(text, PRESETS)


def test_exports_are_read_back() -> None:
    vector = find_preset("GP1", PRESETS)
    tag = parse_tag(as_prompt(vector, "my style", 0.8), PRESETS)
    assert (tag.name, tag.te, tag.unet, tag.vector) == ("my style", 0.8, 0.8, vector)
    assert tag.text() == as_prompt(vector, "my style", 0.8)
    assert as_lbw(vector, "MINE") == "MINE:1,0.6,0.9,0.9,0.9,0.6,0.5,0.4,0.4,0.6,0.8,1,1.1,1.1,1.1,1.1,1.1"
    assert parse_vector(f"inspire-17:{as_inspire(vector)}", PRESETS) == vector
    assert as_diffusers(vector) == {
        "text_encoder": 1.0,
        "unet": {
            "down": {"block_0": [0.6, 0.9], "block_1": [0.9, 0.9], "block_2": [0.6, 0.5]},
            "mid": 0.4,
            "up": {"block_1": [0.4, 0.6, 0.8], "block_2": [1.0, 1.1, 1.1], "block_3": [1.1, 1.1, 1.1]},
        },
    }
    xl = as_diffusers(vector_from(range(12)))
    assert xl["unet"]["up"] == {"block_0": [6, 7, 8], "block_1": [9, 10, 11]} and xl["text_encoder_2"] == 0
    with pytest.raises(BlockError, match="to=17"):
        as_diffusers(vector.converted(SD1_26, 1))
    with pytest.raises(BlockError, match="cannot hold the elemental rules"):
        as_lbw(parse_vector("GP1,lbwe=ATTNDEEPOFF", PRESETS), "A")
    with pytest.raises(BlockError, match="cannot name a preset"):
        as_lbw(vector, "XYZ")
    with pytest.raises(BlockError, match="convert it with `to=`"):
        as_prompt(parse_vector("OUT03=1", PRESETS), "x")
    assert scheme_named("26") is SD1_26 and scheme_named("sdxl-12") is SDXL_12
    with pytest.raises(BlockError, match="no scheme '18'"):
        scheme_named("18")


def test_explanations_and_sparklines() -> None:
    rows = explain(find_preset("GP1", PRESETS))
    assert [row.block for row in rows] == list(SD1_17.names) and rows[0].known.size == "text"
    assert all(row.known.governs and row.known.source for row in rows)
    with_parts = explain(
        parse_vector("OUT03=0", PRESETS), {"OUT03": BlockShare(12, 0.5, 0.0), "IN03": BlockShare(1, 0.5, 1.0)}
    )
    assert [(row.block, row.weight) for row in with_parts] == [("IN03", None), ("OUT03", 0.0)]
    assert sparkline(find_preset("INS", PRESETS)) == "████" + " " * 13
    for family in ("sd1", "sdxl"):
        assert {row.block for row in explain(parse_vector("ALL=1", PRESETS, family)) if not row.known.governs} <= {
            "IN00",
            "IN01",
            "IN02",
            "IN03",
            "IN06",
            "OUT06",
            "OUT07",
            "OUT08",
        }


def test_every_module_has_a_weight_under_every_whole_vector() -> None:
    vector = parse_vector("ALL=1", PRESETS, "sd1")
    scheme = full_scheme("sd1")
    for module in lora_targets("sd1", conv=True):
        block = scheme.block_of(module)
        assert block is not None and vector.at(block, module) == 1


PIECES = ["0", "1", ".5", ",", ";", "=", "-", "/", "(", ")", "%", ":", " ", "R", "U", "X", "GP1", "IN0", "OUT", "mix(",
          "inspire-17:", "seed=", "lbwe=", "a"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_text_is_a_vector_or_a_named_error(text: str) -> None:
    for family in (None, "sdxl"):
        try:
            assert parse_vector(text, PRESETS, family).scheme
        except BlockError as error:
            assert str(error) and "\n" not in str(error)
    try:
        parse_tag(f"<lora:{text}>", PRESETS)
    except BlockError as error:
        assert str(error)
