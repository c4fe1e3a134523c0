import ast
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loratools.blocks
from loratools.adapter.architectures.names import kohya_name, lora_targets, module_tree
from loratools.blocks.explain import explain
from loratools.blocks.parse import find_preset, parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import (
    FLUX_61,
    SCHEMES,
    SD1_17,
    SD1_26,
    SDXL_12,
    SDXL_20,
    Scheme,
    full_scheme,
    scheme_of_length,
)
from loratools.blocks.vector import BlockVector, vector_from
from loratools.errors import BlockError, FileError, RecipeError
from tests.oracle import GP1, GP2, SD1_PREFIXES

PRESETS = load_presets()
SEVENTEEN = ["BASE", "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{i:02d}" for i in range(3, 12))]


def counts(scheme: Scheme, names: list[str] | tuple[str, ...]) -> dict[str | None, int]:
    return dict(Counter(scheme.block_of(name) for name in names))


def test_the_lists_are_those_that_other_tools_use() -> None:
    assert list(SD1_17.names) == SEVENTEEN
    ins, outs = [f"IN{i:02d}" for i in range(12)], [f"OUT{i:02d}" for i in range(12)]
    assert list(SD1_26.names) == ["BASE", *ins, "M00", *outs]
    assert SDXL_12.names == ("BASE", "IN04", "IN05", "IN07", "IN08", "M00", *outs[:6])
    assert list(SDXL_20.names) == ["BASE", *ins[:9], "M00", *outs[:9]]
    assert (
        len(FLUX_61) == 61 and FLUX_61.names[:4] == ("CLIP", "T5", "IN", "D00") and FLUX_61.names[-2:] == ("S37", "OUT")
    )
    assert sorted(len(scheme) for scheme in SCHEMES) == [12, 17, 20, 26, 42, 61]


def test_every_module_of_an_sd1_lora_is_in_the_block_that_its_key_says() -> None:
    for name in lora_targets("sd1"):
        stem = kohya_name(name, "sd1")
        (index,) = (i for i, prefix in enumerate(SD1_PREFIXES) if stem.startswith(prefix))
        assert SD1_17.block_of(name) == SD1_26.block_of(name) == SEVENTEEN[index]
    assert counts(SD1_17, lora_targets("sd1")) == {"BASE": 72, **dict.fromkeys(SEVENTEEN[1:], 12)}


def test_locon_counts_are_the_measured_ones() -> None:
    modules = counts(SD1_26, lora_targets("sd1", conv=True))
    assert modules == {
        "BASE": 72, "IN01": 15, "IN02": 15, "IN03": 1, "IN04": 16, "IN05": 15, "IN06": 1, "IN07": 16, "IN08": 15,
        "IN09": 1, "IN10": 3, "IN11": 3, "M00": 18, "OUT00": 4, "OUT01": 4, "OUT02": 5, "OUT03": 16, "OUT04": 16,
        "OUT05": 17, "OUT06": 16, "OUT07": 16, "OUT08": 17, "OUT09": 16, "OUT10": 16, "OUT11": 16,
    }  # fmt: skip
    outside = [module.name for module in module_tree("sd1") if SD1_26.block_of(module.name) is None]
    assert outside == ["unet.time_embedding.linear_1", "unet.time_embedding.linear_2", "unet.conv_out"]
    assert counts(SD1_17, lora_targets("sd1", conv=True))[None] == 22


def test_sdxl_counts_are_the_measured_ones() -> None:
    modules = counts(SDXL_12, lora_targets("sdxl"))
    assert modules == {"BASE": 264, "IN04": 22, "IN05": 22, "IN07": 102, "IN08": 102, "M00": 102, "OUT00": 102,
                     "OUT01": 102, "OUT02": 102, "OUT03": 22, "OUT04": 22, "OUT05": 22}  # fmt: skip
    assert SDXL_20.block_of("unet.up_blocks.0.upsamplers.0.conv") == "OUT02"
    assert SDXL_20.block_of("unet.down_blocks.0.downsamplers.0.conv") == "IN03"


def test_a_longer_number_is_not_taken_for_its_prefix() -> None:
    assert FLUX_61.block_of("transformer.transformer_blocks.1.attn.to_q") == "D01"
    assert FLUX_61.block_of("transformer.transformer_blocks.11.attn.to_q") == "D11"
    assert FLUX_61.block_of("text_encoder_2.encoder.block.0") == "T5"
    assert FLUX_61.block_of("text_encoder.text_model") == "CLIP"


def test_the_shipped_presets_by_value() -> None:
    assert set(PRESETS) == {"GP1", "GP2", "GP1_STRONG", "GP2_STRONG", "NONE", "ALL", "ALL0.5", "INS", "IND", "INALL",
                            "MIDD", "OUTD", "OUTS", "OUTALL", "FLUXALL", "ATTNDEEPON", "ATTNDEEPOFF",
                            "BLORA_CONTENT", "BLORA_STYLE",
                            "PROJDEEPOFF"}  # fmt: skip

    def values(name: str) -> tuple[float, ...]:
        return tuple(find_preset(name, PRESETS, "sd1").weights.values())

    assert values("GP1") == GP1 and values("GP2") == GP2
    assert values("GP1_STRONG") == (1, 0.6, 1, 1, 1, 0.8, 0.6, 0.4, 0.4, 0.5, 0.6, 1, 1.2, 1.2, 1.2, 1.2, 1.2)
    assert values("GP2_STRONG") == (0.3, *[0.1] * 11, *[0.3] * 5)
    assert values("ALL") == (1,) * 17 and values("NONE") == (0,) * 17 and values("ALL0.5") == (0.5,) * 17
    ones = {"INS": {0, 1, 2, 3}, "IND": {0, 4, 5, 6}, "INALL": set(range(7))}
    for name, places in ones.items():
        assert values(name) == tuple(float(i in places) for i in range(17))
    assert values("MIDD") == (1, 0, 0, 0, *[1] * 8, *[0] * 5) and values("OUTD") == (1, *[0] * 7, *[1] * 4, *[0] * 5)
    assert values("OUTS") == (1, *[0] * 11, *[1] * 5) and values("OUTALL") == (1, *[0] * 7, *[1] * 9)
    assert find_preset("ALL", PRESETS, "sdxl").scheme is SDXL_12
    assert tuple(find_preset("FLUXALL", PRESETS).weights.values()) == (1,) * 61


def test_b_loras_blocks_are_those_that_its_authors_train() -> None:
    """``up_blocks.0.attentions.0`` for content and ``.1`` for style (2403.14572), of SDXL alone."""
    for name, layer in (("BLORA_CONTENT", 0), ("BLORA_STYLE", 1)):
        vector = find_preset(name, PRESETS, "sdxl")
        assert vector.scheme is SDXL_12
        for place in range(3):
            block = SDXL_12.block_of(f"unet.up_blocks.0.attentions.{place}.transformer_blocks.3.attn2.to_k")
            assert block is not None and vector.weight(block) == float(place == layer)
        assert sum(vector.weights.values()) == 1
        row = next(row for row in explain(vector) if row.weight == 1)
        assert name in row.known.governs and row.known.source == "blora"
        with pytest.raises(BlockError, match=name):
            find_preset(name, PRESETS, "sd1")
    assert tuple(parse_vector("BLORA_STYLE,BASE=1", PRESETS, "sdxl").weights.values()) == (1, *[0] * 6, 1, *[0] * 4)


def test_vectors_in_every_form() -> None:
    numbers = parse_vector(",".join(map(str, GP1)), PRESETS, "sd1")
    assert numbers == parse_vector("gp1", PRESETS, "sd2") == parse_vector(" GP1 ", PRESETS)
    changed = parse_vector("GP1,out03=0.8,MID=0.5,TE=0", PRESETS, "sd1")
    assert (changed.weight("OUT03"), changed.weight("M00"), changed.weight("BASE")) == (0.8, 0.5, 0.0)
    assert changed.weight("IN01") == 0.6
    named = parse_vector("OUT03=0.8, MID=0.5", PRESETS, "sd1")
    assert dict(named.weights) == {"OUT03": 0.8, "M00": 0.5} and not named.lists("IN01")
    assert parse_vector("D03=1", PRESETS).scheme is FLUX_61
    assert parse_vector(numbers.text(), PRESETS) == numbers and parse_vector(named.text(), PRESETS) == named
    assert numbers.scaled(2).weight("BASE") == 2 and numbers.composed(named).weights == {"OUT03": 0.4 * 0.8, "M00": 0.2}
    assert numbers.explain().splitlines()[0].split() == ["BASE", "1"]


@pytest.mark.parametrize(
    ("text", "family", "message"),
    [
        (
            ",".join("1" * 16),
            "sd1",
            r"has 16 numbers; accepted lengths are 12 \(SDXL LoRA\), 17 \(SD1/SD2 LoRA\), 20 "
            r"\(SDXL LoCon\), 26 \(SD1/SD2 LoCon\), 42 \(SD3/SD3.5\), 61 \(Flux\); this model, sd1, takes 17 or 26",
        ),
        (",".join("1" * 12), "sd1", "has 12 numbers.*takes 17 or 26"),
        (",".join("1" * 17), "sdxl", "takes 12 or 20"),
        ("GP3", "sd1", r"unknown block preset 'GP3' \(did you mean 'GP\d'\?\); known presets: GP1, GP2"),
        ("gp1strong", "sd1", "did you mean 'GP1_STRONG'"),
        ("GP1", "sdxl", "preset 'GP1' is for SD1/SD2 LoRA"),
        ("OUT13=1", "sd1", r"no block 'OUT13' \(did you mean"),
        ("OUT09=1", "sdxl", "no block 'OUT09'"),
        ("OUT03=x", "sd1", "a number, such as OUT03=0.8"),
        ("OUT03=1,OUT03=2", "sd1", "given twice"),
        ("1,0.5,OUT03=1", "sd1", "mixes bare numbers and names"),
        ("1,R,0", "sd1", "needs a seed.*add ,seed=1"),
        ("1,GP1", "sd1", "not a number"),
        ("1,nan", "sd1", "not a number"),
        ("", "sd1", "is empty"),
        ("1,,1", "sd1", "not a number"),
    ],
)
def test_vectors_that_cannot_be_read_are_named(text: str, family: str, message: str) -> None:
    with pytest.raises(BlockError, match=message):
        parse_vector(text, PRESETS, family)


def test_vectors_convert_by_name_only_when_nothing_is_guessed() -> None:
    vector = vector_from(range(1, 18))
    with pytest.raises(BlockError, match="1 would leave those modules untouched, 0 would remove them"):
        vector.converted(SD1_26)
    assert list(vector.converted(SD1_26, 0).weights.values()) == [
        1, 0, 2, 3, 0, 4, 5, 0, 6, 7, 0, 0, 0, 8, 0, 0, 0, 9, 10, 11, 12, 13, 14, 15, 16, 17]  # fmt: skip
    assert vector.converted(SD1_26, 0).converted(SD1_17, 0) == vector
    with pytest.raises(BlockError, match="no place for the weights of IN03"):
        BlockVector(SD1_26, {**vector.converted(SD1_26, 1).weights, "IN03": 0.5}).converted(SD1_17)
    with pytest.raises(BlockError, match="their blocks differ"):
        vector.converted(SDXL_20, 1)
    with pytest.raises(BlockError, match="does not list block IN03"):
        vector.weight("IN03")


@given(st.integers(0, 200))
def test_only_five_lengths_are_vectors(length: int) -> None:
    if length in [len(scheme) for scheme in SCHEMES]:
        assert len(vector_from([0.5] * length).weights) == length
    else:
        with pytest.raises(BlockError, match=f"has {length} numbers"):
            vector_from([0.5] * length)


def test_presets_of_the_user_win(tmp_path: Path) -> None:
    yaml = tmp_path / "mine.yaml"
    half, ones, twos = (", ".join([value] * count) for value, count in (("0.5", 17), ("1", 17), ("2", 12)))
    yaml.write_text(f"SOFT: [{half}]\ngp1: 'GP2,OUT11=3'\nBOTH: [[{ones}], [{twos}]]\n")
    lbw = tmp_path / "lbwpresets.txt"
    lbw.write_text("a comment\nSOFT:" + ",".join(["0.25"] * 17) + "\n#OLD:1,2\n", encoding="utf-8-sig")
    presets = load_presets(yaml, lbw, {"GP2": list(GP1)}, None)
    assert find_preset("SOFT", presets).weight("BASE") == 0.25 and "OLD" not in presets and "GP1" not in presets
    assert find_preset("GP1", presets).weight("OUT11") == 3 and find_preset("GP2", presets).weight("BASE") == 1
    assert find_preset("both", presets, "sdxl").weight("BASE") == 2
    assert find_preset("GP1", load_presets()).weight("OUT11") == 1.1


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("A: [1, 2]", BlockError, "the preset 'A' has 2 numbers"),
        ("A: 5", BlockError, "should be a list"),
        ("A: [1, x]", BlockError, "after them only rules"),
        ("- 1", BlockError, "should map names"),
        ("a: [", RecipeError, "mine.yaml"),
    ],
)
def test_presets_that_are_none_are_named(tmp_path: Path, content: str, error: type[Exception], message: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(error, match=message):
        load_presets(tmp_path / "mine.yaml")
    with pytest.raises(FileError, match="there is no presets file"):
        load_presets(tmp_path / "none.yaml")


def test_schemes_are_found_by_family() -> None:
    assert full_scheme("sd2") is SD1_26 and full_scheme("sdxl") is SDXL_20 and scheme_of_length(20) is SDXL_20
    with pytest.raises(BlockError, match="no block scheme"):
        full_scheme("sd9")


def test_the_room_knows_families_but_no_adapter_and_no_torch() -> None:
    for path in Path(str(loratools.blocks.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            )
            families = "loratools.adapter.architectures"  # what models there are, as data
            below = [name for name in names if not name.startswith(families)]
            assert not [name for name in below if name.startswith(("torch", "loratools.adapter", "loratools.ops"))]
