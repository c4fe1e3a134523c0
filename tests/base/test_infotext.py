from __future__ import annotations

from pathlib import Path

from PIL import Image

from loratools import __version__
from loratools.base.infotext import Facts, LoraUse, infotext, number, quoted, read_png, write_png

STYLE = LoraUse("Test0-000008", "3f2a9c0d11ee" + "0" * 52, 0.8, "1,0.6")
FACTS = Facts("1girl, smile", "lowres, bad hands", 20, "DPM++ 2M Karras", 7.0, 1, (768, 512), "AnythingV5",
              "7f96a1a9ca" + "0" * 54, clip_skip=2, loras=(STYLE, LoraUse("a:b,c", "", -1, te=0.5)))  # fmt: skip


def test_the_text_is_what_the_webui_reads_back() -> None:
    assert infotext(FACTS) == (
        "1girl, smile, <lora:Test0-000008:0.8:lbw=1,0.6>, <lora:abc:te=-0.5:unet=-1>\n"
        "Negative prompt: lowres, bad hands\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, "
        "Model hash: 7f96a1a9ca, Model: AnythingV5, Clip skip: 2, "
        f'Lora hashes: Test0-000008: 3f2a9c0d11ee", Version: loratools {__version__}'.replace(
            "hashes: Test", 'hashes: "Test'
        )
    )


def test_the_strength_multiplies_every_lora_and_zero_names_none() -> None:
    from dataclasses import replace

    assert "<lora:Test0-000008:0.4:" in infotext(replace(FACTS, strength=0.5))
    base = infotext(replace(FACTS, strength=0.0, negative="", clip_skip=1))
    assert base.startswith("1girl, smile\nSteps: 20") and "lora" not in base.replace("loratools", "")
    assert "Clip skip" not in base


def test_numbers_and_quotes() -> None:
    assert [number(value) for value in (0.1 + 0.2, 1.0, -0.0, -1.25, 0.1)] == ["0.3", "1", "0", "-1.25", "0.1"]
    assert [quoted(text) for text in ("a b", "a, b", "a: b", "a\nb")] == ["a b", '"a, b"', '"a: b"', '"a\\nb"']


def test_a_png_carries_both_texts(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.png"
    write_png(Image.new("RGB", (8, 8)), path, "1girl, 画风\nSteps: 1", {"key": "k", "row": "стиль"})
    assert read_png(path) == ("1girl, 画风\nSteps: 1", {"key": "k", "row": "стиль"})
    write_png(Image.effect_noise((64, 64), 90), path, "x", {"key": "k"})
    path.write_bytes(path.read_bytes()[:-2000])
    assert read_png(path) == ("", {})
    assert read_png(tmp_path / "none.png") == ("", {})
