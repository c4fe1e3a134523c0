"""alpha 0 switches a module off: its scale is 0, in every kind of file and in whatever is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loratools.adapter.files.file import read
from loratools.blocks.presets import load_presets
from loratools.errors import FormatError
from loratools.ops.analysis.describe import brief, describe
from loratools.ops.convert import convert
from loratools.ops.merging.merge import combine, merge_files, plan, verify
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from loratools.ops.resize import resize_file
from tests.loras import lora_tensors, save
from tests.ops.conftest import CONV, LINEAR, Made

OFF, ON = "unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.proj_out"
STEM = "lora_unet_mid_block_attentions_0_proj_in"


def half_off(path: Path) -> Path:
    """A file of two modules, the first switched off."""
    tensors = lora_tensors(names=(OFF, ON), rank=2, dtype=torch.float32)
    return save(path, {**tensors, f"{STEM}.alpha": torch.tensor(0.0)})


def terms(path: Path, weight: float = 1.0) -> list[Term]:
    return resolve_terms(parse_merge_string(f'"{path}":{weight}'), presets=load_presets())


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_every_scaled_kind_is_off(tmp_path: Path, kind: str) -> None:
    names = (LINEAR, CONV) if kind == "lora" else (LINEAR,)
    adapter = read(Made(kind, alpha=0.0, names=names).save(tmp_path / "a.safetensors"))
    assert all(adapter[name].norm() == 0 for name in names)
    assert adapter.switched_off == names and adapter.alphas == dict.fromkeys(names, 0.0)


def test_alpha_does_not_apply_to_full_differences(tmp_path: Path) -> None:
    path = Made("diff", names=(LINEAR,)).save(tmp_path / "a.safetensors")
    save_file({**load_file(path), "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.alpha":
               torch.tensor(0.0)}, path)  # fmt: skip
    adapter = read(path)
    assert adapter[LINEAR].norm() > 0 and adapter.switched_off == ()


@pytest.mark.parametrize("pattern", [False, True])
def test_settings_may_switch_off_too(tmp_path: Path, pattern: bool) -> None:
    tensors = {f"{OFF}.lora_A.weight": torch.ones(2, 4), f"{OFF}.lora_B.weight": torch.ones(4, 2)}
    stated = {"unet.lora_alpha": 2, "unet.alpha_pattern": {"proj_in": 0}} if pattern else {"unet.lora_alpha": 0}
    path = save(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": json.dumps(stated)})
    assert read(path).switched_off == (OFF,) and read(path)[OFF].norm() == 0


def test_inspect_counts_them(tmp_path: Path) -> None:
    path = half_off(tmp_path / "a.safetensors")
    described = describe(path)
    assert described.json()["switched_off"] == 1 and described.json()["alphas"] == [0, 2]
    assert "switched off    1 module (alpha 0)" in described.text()
    assert brief(path).json()["switched_off"] is None  # alphas are tensors, and only the header was read
    on = describe(save(tmp_path / "b.safetensors", lora_tensors(names=(ON,))))
    assert on.json()["switched_off"] == 0 and "switched off" not in on.text()


def off_in_every_reader(path: Path) -> None:
    """One factor is zero: some readers take alpha 0 for the rank, so that alone would turn the module on."""
    tensors = {key: value for key, value in load_file(path).items() if "proj_in" in key and value.dim() > 1}
    assert len(tensors) == 2 and any(not value.any() for value in tensors.values())
    assert all(value for key, value in load_file(path).items() if key.endswith("alpha"))


def test_what_is_written_of_them_stays_off(tmp_path: Path) -> None:
    path = half_off(tmp_path / "a.safetensors")
    report = merge_files(terms(path, 0.4), tmp_path / "m.safetensors")
    assert 0 < report.error < 1e-3 and verify(report.path, terms(path, 0.4)).error == pytest.approx(report.error, 1e-2)
    off_in_every_reader(report.path)
    for style in ("kohya", "diffusers"):
        off_in_every_reader(convert(path, tmp_path / f"{style}.safetensors", style=style).path)
    assert combine(terms(path))[OFF].norm() == 0
    assert [row.share for row in plan(terms(path)).rows] == [pytest.approx(1.0)]
    resized = resize_file(read(path), tmp_path / "r.safetensors")
    assert resized.zeros == 1 and set(read(resized.stored.path)) == {ON}


def test_an_alpha_that_is_no_number_is_still_refused(tmp_path: Path) -> None:
    path = half_off(tmp_path / "a.safetensors")
    save_file({**load_file(path), f"{STEM}.alpha": torch.tensor(float("nan"))}, path)
    with pytest.raises(FormatError, match="alpha' holds NaN"):
        read(path)
