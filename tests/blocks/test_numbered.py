"""Blocks of a model that no table knows: by number and range, by container, all, and its text encoder's."""

import pytest

from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import full_scheme, numbered_scheme, sorted_blocks
from loratools.errors import BlockError

PRESETS = load_presets()
MODULES = [
    *(f"lora_unet_layers_{i}_attention_to_q" for i in (0, 1, 2, 9, 10, 100)),
    *(f"diffusion_model.noise_refiner.{i}.attention.to_q" for i in range(2)),
    "lora_te_layers_3_self_attn_q_proj",
    "lora_unet_x_embedder",
]
NAMES = (
    "BASE",
    "layers.00",
    "layers.01",
    "layers.02",
    "layers.09",
    "layers.10",
    "layers.100",
    "noise_refiner.00",
    "noise_refiner.01",
)


def weights(text: str) -> dict[str, float]:
    return dict(parse_vector(text, PRESETS, "unknown", MODULES).weights)


def test_blocks_are_listed_by_number() -> None:
    assert numbered_scheme(MODULES).names == NAMES
    assert sorted_blocks(full_scheme("unknown"), reversed(NAMES)) == NAMES


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("layers.00-layers.09=0.5", ["layers.00", "layers.01", "layers.02", "layers.09"]),
        ("layers.1-9=0.5", ["layers.01", "layers.02", "layers.09"]),
        ("layers.9-layers.100=0.5", ["layers.09", "layers.10", "layers.100"]),
        ("LAYERS.2=0.5", ["layers.02"]),
        ("noise_refiner=0.5", ["noise_refiner.00", "noise_refiner.01"]),
        ("noise.refiner.1=0.5", ["noise_refiner.01"]),
        ("ALL=0.5", list(NAMES)),
        ("BASE=0.5", ["BASE"]),
        ("TE=0.5", ["BASE"]),
    ],
)
def test_words_for_blocks(text: str, listed: list[str]) -> None:
    assert weights(text) == dict.fromkeys(listed, 0.5)


def test_a_later_item_changes_an_earlier_group() -> None:
    whole = weights("ALL=1,layers.00-layers.09=0.5,layers.02=0,BASE=0")
    assert whole == dict.fromkeys(NAMES, 1.0) | dict.fromkeys(NAMES[1:5], 0.5) | {"layers.02": 0.0, "BASE": 0.0}


def test_a_rule_reaches_a_range() -> None:
    vector = parse_vector("ALL=1,layers.00-layers.02/to_q=0.25", PRESETS, "unknown", MODULES)
    assert vector.at("layers.01", MODULES[1]) == 0.25 and vector.at("layers.10", MODULES[4]) == 1


def test_a_vector_is_written_by_name() -> None:
    text = parse_vector("ALL=0.5", PRESETS, "unknown", MODULES).text()
    assert weights(text) == weights("ALL=0.5") and text.startswith("BASE=0.5,layers.00=0.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers.00-layers.11=0.5", "ends at layers.11, which the file lacks"),
        ("layers.09-layers.00=0.5", "runs backwards"),
        ("layers.00-noise_refiner.01=0.5", "of a container to another of the same"),
        ("BASE-layers.01=0.5", "of a container to another of the same"),
        ("layer=0.5", "no block of a model that no table knows .* layers.03; its blocks are BASE layers.00"),
        ("1,1,1", "have no agreed order; name them, as in ALL=1,layers.00-layers.09=0.5"),
    ],
)
def test_what_means_no_block_says_so(text: str, message: str) -> None:
    with pytest.raises(BlockError, match=message):
        weights(text)


def test_without_its_file_all_is_refused_and_a_range_is_read() -> None:
    with pytest.raises(BlockError, match="told by its file alone"):
        parse_vector("ALL=0.5", PRESETS, "unknown")
    assert len(parse_vector("layers.0-layers.3=0.5", PRESETS, "unknown").weights) == 4
    assert parse_vector("ALL=1,layers.0-layers.3=0.5", PRESETS).scheme.family == "unknown"  # as a recipe's plan asks


# --- transformers that are declared -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "length", "text", "listed"),
    [
        ("flux2", 57, "single_blocks.3=0.5", ["single.03"]),
        ("flux2", 57, "single_transformer_blocks.3=0.5", ["single.03"]),
        ("hunyuan-video", 63, "double_blocks.18-19=0.5", ["double.18", "double.19"]),
        ("hunyuan-video", 63, "refiner=0.5", ["refiner.00", "refiner.01"]),
        ("krea-2", 33, "txtfusion.layerwise_blocks.1=0.5", ["layerwise.01"]),
        ("krea-2", 33, "transformer_blocks.27=0.5", ["blocks.27"]),
        ("lumina-2", 31, "layers.24-25=0.5", ["layers.24", "layers.25"]),
        ("chroma", 61, "D18-D18=0.5", ["D18"]),
        ("hidream-i1", 49, "single.31=0.5", ["single.31"]),
        ("auraflow", 37, "double=0.5", [f"double.0{n}" for n in range(4)]),
    ],
)
def test_declared_blocks_have_both_networks_names(family: str, length: int, text: str, listed: list[str]) -> None:
    assert dict(parse_vector(text, PRESETS, family).weights) == dict.fromkeys(listed, 0.5)
    numbers = parse_vector(",".join(["1"] * length), PRESETS, family)
    assert len(numbers.weights) == length and set(listed) <= set(numbers.weights)
    with pytest.raises(BlockError, match=str(length)):
        parse_vector(",".join(["1"] * (length + 1)), PRESETS, family)
