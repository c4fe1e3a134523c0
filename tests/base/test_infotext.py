from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from loratools import __version__
from loratools.base.infotext import (
    LoraUse,
    Parameters,
    PictureInfo,
    infotext,
    number,
    parameters,
    plain_name,
    quoted,
    read_png,
    write_png,
)
from loratools.base.sampling.noise_kinds import NOISE_KINDS, RNG

STYLE = LoraUse("Test0-000008", "3f2a9c0d11ee" + "0" * 52, 0.8, "1,0.6")
FACTS = PictureInfo(
    "1girl, smile",
    "lowres, bad hands",
    20,
    "DPM++ 2M Karras",
    7.0,
    1,
    (768, 512),
    "AnythingV5",
    "7f96a1a9ca" + "0" * 54,
    clip_skip=2,
    loras=(STYLE, LoraUse("a:b,c", "", -1, te=0.5)),
)


def test_the_text_is_what_the_webui_reads_back() -> None:
    assert infotext(FACTS) == (
        "1girl, smile, <lora:Test0-000008:0.8:lbw=1,0.6>, <lora:abc:te=-0.5:unet=-1>\n"
        "Negative prompt: lowres, bad hands\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, "
        "Model hash: 7f96a1a9ca, Model: AnythingV5, Clip skip: 2, RNG: CPU, "
        f'Lora hashes: Test0-000008: 3f2a9c0d11ee", Version: loratools {__version__}'.replace(
            "hashes: Test", 'hashes: "Test'
        )
    )


@pytest.mark.parametrize(
    ("sampler", "written"),
    [
        ("DPM++ 2M", "DPM++ 2M, Schedule type: Uniform"),
        ("Euler", "Euler"),
        ("DDIM CFG++", "DDIM CFG++"),
        ("Euler SGM Uniform", "Euler, Schedule type: SGM Uniform"),
        ("DPM++ 2M SDE Heun Karras", "DPM++ 2M SDE Heun, Schedule type: Karras"),
    ],
)
def test_the_schedule_type_is_told_where_automatic_would_be_another(sampler: str, written: str) -> None:
    assert f"Steps: 20, Sampler: {written}, CFG scale" in infotext(replace(FACTS, sampler=sampler))


def test_the_strength_multiplies_every_lora_and_zero_names_none() -> None:
    assert "<lora:Test0-000008:0.4:" in infotext(replace(FACTS, strength=0.5))
    base = infotext(replace(FACTS, strength=0.0, negative="", clip_skip=1))
    assert base.startswith("1girl, smile\nSteps: 20") and "lora" not in base.replace("loratools", "")
    assert infotext(replace(FACTS, prompt="1girl,")).startswith(
        "1girl, <lora:Test0"
    )  # a prompt whose tag was taken out
    assert infotext(replace(FACTS, prompt="")).startswith("<lora:Test0-000008:0.8:lbw=1,0.6> <lora:abc")
    assert "Clip skip" not in base


def test_numbers_and_quotes() -> None:
    assert [number(value) for value in (0.1 + 0.2, 1.0, -0.0, -1.25, 0.1)] == ["0.3", "1", "0", "-1.25", "0.1"]
    assert [quoted(text) for text in ("a b", "a, b", "a: b", "a\nb")] == ["a b", '"a, b"', '"a: b"', '"a\\nb"']


def test_a_png_carries_both_texts(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.png"
    write_png(Image.new("RGB", (8, 8)), path, "1girl, 画风\nSteps: 1", {"key": "k", "row": "стиль"})
    assert read_png(path) == ("1girl, 画风\nSteps: 1", {"key": "k", "row": "стиль"})
    write_png(Image.new("RGB", (8, 8)), path, "画 \ud83d", {"row": "\ud83d"})  # half an emoji, out of a LoRA's header
    assert read_png(path) == ("画 ?", {"row": "?"})
    write_png(Image.effect_noise((64, 64), 90), path, "x", {"key": "k"})
    path.write_bytes(path.read_bytes()[:-2000])
    assert read_png(path) == ("", {})
    assert read_png(tmp_path / "none.png") == ("", {})


def test_noise_and_embeddings_are_told() -> None:
    text = infotext(replace(FACTS, noise="webui-gpu", embeddings=[("bad,ink:2", "ab" * 32)]))
    assert (
        "Clip skip: 2, RNG: NV, Noise: webui-gpu, Lora hashes:" in text and 'TI hashes: "badink2: abababababab"' in text
    )
    read = parameters(text)
    assert read.noise == "webui-gpu" and read.hashes("TI hashes") == {"badink2": "ab" * 6}
    assert parameters(infotext(FACTS)).noise == "own"
    assert parameters("a\nSteps: 1, Seed: 2, RNG: CPU").noise == "webui-cpu"
    assert parameters("a\nSteps: 1, Seed: 2, Size: 64x64").noise == "webui-gpu"  # the WebUI's default


def test_the_readers_rules() -> None:
    text = "a (cat:1.2), <lora:x:1>\nBREAK\nNegative prompt: bad\nworse \nSteps: 20, Sampler: Euler a, Size: 512x768"
    read = parameters(text)
    assert (read.prompt, read.negative) == ("a (cat:1.2), <lora:x:1>\nBREAK", "bad\nworse")
    assert read.pairs == {"Steps": "20", "Sampler": "Euler a", "Size": "512x768"} and read.size == (768, 512)
    few = parameters("a cat\nSteps: 20, Seed: 1")  # two pairs are words
    assert few.prompt == "a cat\nSteps: 20, Seed: 1" and not few.pairs
    odd = parameters('Steps: 1, Model: "a, b: \\"c\\"", Note: "torn, Seed: 1')
    assert odd.pairs == {"Steps": "1", "Model": 'a, b: "c"', "Note": '"torn', "Seed": "1"}
    assert parameters("") == Parameters("", "", {})
    assert parameters("Negative prompt: x, y").negative == "x, y"
    assert parameters("a\nClip skip: no, Size: big, Seed: 1").clip_skip == 1


words = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" ,:()[]<>\\"), max_size=24)


@settings(max_examples=80, deadline=None)
@given(
    prompt=st.lists(words, max_size=3).map("\n".join).map(str.strip),
    negative=words.map(str.strip),
    model=words,
    names=st.lists(words, max_size=2),
    seed=st.integers(0, 2**63 - 1),
    size=st.tuples(st.integers(8, 4096), st.integers(8, 4096)),
    skip=st.integers(1, 12),
    noise=st.sampled_from(NOISE_KINDS),
)
def test_what_is_written_is_read(
    prompt: str, negative: str, model: str, names: list[str], seed: int, size: tuple[int, int], skip: int, noise: str
) -> None:
    """Lines lose the spaces around them, and a prompt with a line that says ``Negative prompt:`` is another one."""
    assume(not any(line.strip().startswith("Negative prompt:") for line in f"{prompt}\n{negative}".split("\n")))
    uses = {plain_name(name): "0123456789abcdef" * 4 for name in names if plain_name(name)}
    facts = PictureInfo(prompt, negative, 20, "DPM++ 2M Karras", 6.5, seed, size, model, "f" * 64, skip,
                  noise=noise, embeddings=list(uses.items()))  # fmt: skip
    read = parameters(infotext(facts))
    assert read.prompt == "\n".join(line.strip() for line in prompt.split("\n"))
    assert read.negative == negative
    assert (read.size, read.clip_skip, read.pairs["RNG"], read.noise) == (size, skip, RNG[noise], noise)
    assert (read.pairs["Seed"], read.pairs["CFG scale"], read.pairs["Schedule type"]) == (str(seed), "6.5", "Karras")
    assert read.pairs["Model"] == plain_name(model)
    assert read.hashes("TI hashes") == dict.fromkeys(uses, "0123456789ab")
