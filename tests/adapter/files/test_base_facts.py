"""What files say of their bases: prediction type, zero terminal SNR, variant; agreement and disagreement of several."""

import json

import pytest

from loratools.adapter.files.base_facts import (
    DISAGREEMENT,
    NOT_STATED,
    VARIANT,
    StatedBase,
    agreed_entries,
    disagreement,
    disagreement_message,
)


def of(name: str, **words: str) -> StatedBase:
    return StatedBase.of(name, {key.replace("__", "."): text for key, text in words.items()})


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ({"modelspec.prediction_type": "v"}, "v"),
        ({"modelspec.prediction_type": "v_prediction"}, "v"),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"ss_v_parameterization": "True"}, "v"),
        ({"ss_v_parameterization": "False"}, "epsilon"),
        ({"ss_base_model_version": "sd_v2_v"}, "v"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "v"),
        ({"ss_sd_model_name": "NoobAI-XL-Vpred-v1.0.safetensors"}, "v"),
        ({"ss_sd_model_name": "noob_v-pred.safetensors", "modelspec.prediction_type": "epsilon"}, "epsilon"),
    ],
)
def test_the_prediction_type_in_all_words(words: dict[str, str], value: str) -> None:
    assert StatedBase.of("a", words).values["prediction_type"] == (value,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("z_image_turbo_bf16.safetensors", "turbo"),
        ("sd_xl_turbo_1.0.safetensors", "turbo"),
        ("dreamshaperXL_lightningDPMSDE.safetensors", "lightning"),
        ("SDXLLightning.safetensors", "lightning"),
        ("flux1-schnell.safetensors", "schnell"),
        ("flux1-krea-dev.safetensors", "krea"),
        ("krea-2.safetensors", "full"),
        ("flux1-dev.safetensors", "full"),
        ("illustriousXL_v01.safetensors", "full"),
    ],
)
def test_the_variant_by_the_bases_name(name: str, value: str) -> None:
    assert of("a", ss_sd_model_name=name).values["variant"] == (value,)


def test_a_header_without_words_states_nothing() -> None:
    assert not StatedBase.of("a", {"ss_zero_terminal_snr": "None", "ss_sd_model_name": "None"}).values


def test_files_that_agree_or_are_silent_about_what_is_usual_do_not_disagree() -> None:
    usual = of("a", modelspec__prediction_type="epsilon", ss_zero_terminal_snr="False", ss_sd_model_name="x")
    assert not disagreement([usual, of("b")]) and not disagreement([of("a"), of("b")])
    unusual = of("v", ss_v_parameterization="True")
    assert not disagreement([unusual, of("w", modelspec__prediction_type="v")])


def test_silence_beside_what_is_unusual_is_told() -> None:
    differing = disagreement([of("v", modelspec__prediction_type="v"), of("a")])
    assert differing == {"prediction_type": {NOT_STATED: ["a"], "v": ["v"]}}


def test_what_an_earlier_merge_recorded_stays_open() -> None:
    recorded = {"prediction_type": {"v": ["n"], "epsilon": ["i"]}}
    merged = StatedBase.of("m", {DISAGREEMENT: json.dumps(recorded), "modelspec.prediction_type": "v"})
    differing = disagreement([merged, of("e", modelspec__prediction_type="epsilon")])
    assert differing == {"prediction_type": {"epsilon": ["m", "e"], "v": ["m"]}}
    assert "prediction type is epsilon in m, e and v in m" in disagreement_message(differing)
    for text in ("[]", "x", '{"prediction_type": 3}', "[" * 100_000):
        assert not StatedBase.of("m", {DISAGREEMENT: text}).values


def test_what_all_state_in_other_words_is_kept() -> None:
    bases = [
        of("a", ss_v_parameterization="True", ss_sd_model_name="one_turbo"),
        of("b", modelspec__prediction_type="v", ss_sd_model_name="two-Turbo"),
    ]
    assert agreed_entries(bases, {}) == {"modelspec.prediction_type": "v", VARIANT: "turbo"}
    assert agreed_entries(bases, {"modelspec.prediction_type": "v", "ss_sd_model_name": "turbo"}) == {}
    assert StatedBase.of("c", {VARIANT: "turbo"}).values == {"variant": ("turbo",)}
