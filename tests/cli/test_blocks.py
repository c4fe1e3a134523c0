"""``loratools blocks``: what each command prints, its JSON, and its pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from loratools.cli import cli
from tests.recipe.conftest import save_lora
from tests.tiny import save_tiny_base

RECIPE = """\
version: 1
base: tiny
steps:
  final: {merge: "a:1:GP1,b:-1:GP2", out: mine.safetensors}   # keep me
  sheet: {grid: {rows: [final], weights: "1", prompts: "1girl, smile", seeds: [1, 2], steps: 1, sampler: Euler, size: 64}}
"""  # noqa: E501


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["blocks", *(str(word) for word in words)])


def json_of(*words: str | Path) -> dict[str, object]:
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    value: dict[str, object] = json.loads(done.stdout)
    return value


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_lora(tmp_path / "a.safetensors", 1)
    save_lora(tmp_path / "b.safetensors", 2, rank=3)
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def test_list_and_show(here: Path) -> None:
    lines = call("list").output.splitlines()
    assert any(line.startswith("INS ") and "|████             |" in line for line in lines)
    assert "ATTNDEEPOFF" in json_of("list")["presets"]  # type: ignore[operator]
    shown = call("show", "GP1", "--lora", "a", "--png", here / "gp1.png")
    assert shown.exit_code == 0 and "known to govern" in shown.output and "before" in shown.output
    with Image.open(here / "gp1.png") as picture:
        assert picture.width > 700
    facts = json_of("show", "GP1", "--lora", "a")
    rows = {row["block"]: row for row in facts["rows"]}  # type: ignore[attr-defined]
    assert rows["M00"]["modules"] == 1 and rows["IN04"]["modules"] == 0 and 0 < rows["M00"]["before"] < 1
    assert json_of("show", "<lora:x:1:lbw=MIDD>")["scheme"] == "sd1-17"
    assert "rule  IN05-OUT05/attn=0: 14 blocks" in call("show", "GP1,lbwe=ATTNDEEPOFF").output
    assert "did you mean 'GP1'" in call("show", "GPP1").output


def test_convert(here: Path) -> None:
    line = "1,0,2,3,0,4,5,0,6,7,0,0,0,8,0,0,0,9,10,11,12,13,14,15,16,17\n"
    assert call("convert", ",".join(map(str, range(1, 18))), "--to", "26", "--missing", "0").output == line
    assert "say which with --missing" in call("convert", "GP1", "--to", "26").output
    assert "no scheme '18'" in call("convert", "GP1", "--to", "18").output
    assert "their blocks differ" in call("convert", "GP1", "--to", "12").output
    assert call("convert", "ALL", "--as", "lbw", "--name", "A").output == "A:" + ",".join(["1"] * 17) + "\n"
    assert call("convert", "ALL", "--as", "prompt", "--name", "x").output.startswith("<lora:x:1:lbw=1,1")
    assert call("convert", "ALL", "--to", "inspire-27", "--missing", "1").output == ",".join(["1"] * 27) + "\n"
    assert json.loads(call("convert", "ALL0.5", "--as", "diffusers").output)["unet"]["mid"] == 0.5
    assert json_of("convert", "ALL", "--as", "inspire")["text"] == ",".join(["1"] * 17)
    flux = call("convert", "inspire-20:" + ",".join(["0.5"] * 20), "--to", "61").output
    assert flux == ",".join(["0.5"] * 61) + "\n"


def test_fix_undo_and_the_rules(here: Path) -> None:
    assert "GP1 IN04 IN05 IN07 IN08 down; GP2" in call("fix", "r.yaml").output
    done = call("fix", "r.yaml", "--symptom", "hands", "--step", "0.2")
    assert done.exit_code == 0 and "GP1  IN04    0.9 -> 0.7" in done.output, done.output
    assert "# keep me" in (here / "r.yaml").read_text()
    facts = json_of("fix", "r.yaml", "--symptom", "face", "--dry-run")
    assert facts["written"] is False and facts["changes"][0]["before"] == 0.4  # type: ignore[index]
    assert call("undo", "r.yaml").exit_code == 0 and (here / "r.yaml").read_text() == RECIPE
    assert "no fix to undo" in call("undo", "r.yaml").output
    assert "did you mean 'hands'" in call("fix", "r.yaml", "--symptom", "hand").output
    assert call("fix", "r.yaml", "--symptom", "hands", "--step", "x").exit_code == 2
    shipped = call("fix", "style.yaml", "--symptom", "hands")
    assert shipped.exit_code == 1 and "copy it and edit the copy" in shipped.output


def test_fix_renders_base_before_and_after_and_a_strip_of_sizes(here: Path) -> None:
    save_tiny_base(here / "tiny")
    done = call("fix", "r.yaml", "--symptom", "style", "--step", "3", "--render", "--device", "cpu")
    assert done.exit_code == 0, done.output
    strip = here / "runs/r/fix/strip.png"
    assert done.stdout.strip().endswith("runs/r/fix/strip.png") and (here / "runs/r/mine.safetensors").is_file()
    with Image.open(strip) as picture:
        assert picture.height > 2 * 128 and picture.width > 3 * 128
    before = (here / "r.yaml").read_text()
    facts = json_of("fix", "r.yaml", "--symptom", "limbs", "--preview-step", "--sizes", "0:0.2:0.1", "--device", "cpu")
    assert facts["sizes"] == [0, 0.1, 0.2] and Path(str(facts["strip"])).is_file()
    assert (here / "r.yaml").read_text() == before
    (here / "r.yaml").write_text('version: 1\nbase: tiny\nsteps:\n  m: {merge: "a:1:GP1"}\n')
    assert "has no grid step" in call("fix", "r.yaml", "--symptom", "limbs", "--preview-step").output


def test_suggest(here: Path) -> None:
    facts = json_of("suggest", "a", "a")
    assert facts["gp2"]["M00"] == pytest.approx(0.4) and facts["guide"]["gp2"]["M00"] == 0.1  # type: ignore[index]
    assert "GP2 that removes the base's part and no more" in call("suggest", "a", "b", "--gp1", "ALL").output
    assert "no LoRA 'c'" in call("suggest", "a", "c").output


def test_analyze_effect(here: Path) -> None:
    save_tiny_base(here / "tiny")
    words = ("analyze-effect", "a", "--base", "tiny", "--prompt", "1girl", "--seed", "1", "--steps", "1", "-o", "e")
    facts = json_of(*words, "--device", "cpu")
    assert set(facts["blocks"]) == {"BASE", "IN01", "M00", "OUT11"} and (here / "e/effect.png").is_file()  # type: ignore[call-overload]
    assert "missed when off" in call(*words, "--device", "cpu").output


def test_a_tags_strength_survives(here: Path) -> None:
    out = "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"
    for tag, asked in (
        ("<lora:u:0.5:lbw=OUTALL>", f"<lora:u:0.5:lbw={out}>"),
        ("<lora:u:0.5:0.7:lbw=OUTALL>", f"<lora:u:0.5:0.7:lbw={out}>"),
        ("<lora:u:0.5:te=0.2:unet=0.7:lbw=OUTALL>", f"<lora:u:0.2:0.7:lbw={out}>"),
        ("<lora:u:unet=-2:OUTALL>", f"<lora:u:1:-2:lbw={out}>"),
    ):
        assert call("convert", tag, "--as", "prompt").stdout.strip() == asked
        assert call("convert", asked, "--as", "prompt").stdout.strip() == asked
    assert call("convert", "<lora:u:1:OUTALL>", "--as", "prompt", "--name", "v").stdout.startswith("<lora:v:1:")
    weights = json_of("convert", "<lora:u:0.5:2:lbw=OUTALL>", "--as", "diffusers")["text"]
    assert weights["text_encoder"] == 0.5 and weights["unet"]["up"]["block_1"] == [2, 2, 2]  # type: ignore[index]
    numbers = call("convert", "<lora:u:0.5:lbw=OUTALL>")
    assert numbers.stdout.strip() == out and "strength (text encoder 0.5, network 0.5) is no part" in numbers.stderr
    assert json_of("convert", "<lora:u:0.5:lbw=OUTALL>")["strength"] == {"te": 0.5, "unet": 0.5}
    assert json_of("show", "<lora:u:-10:-5:lbw=ALL>")["strength"] == {"te": -10, "unet": -5}
    assert "text encoder -10, network -5" in call("show", "<lora:u:-10:-5:lbw=ALL>").stdout
    assert "strength" not in call("show", "ALL").stdout and "strength" not in json_of("show", "ALL")
