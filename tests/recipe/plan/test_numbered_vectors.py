"""Block vectors of a model that no table knows, in a recipe: they pass its checks, and count in its keys."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from loratools.blocks.presets import load_presets
from loratools.cli import cli
from loratools.recipe.plan.lora_refs import vector_values


@pytest.fixture
def recipe(here: Path) -> Path:
    """A recipe that merges a LoRA of four layers, in two spellings."""
    for name, prefix, separator in (("z", "lora_unet_", "_"), ("y", "diffusion_model.", ".")):
        stems = [prefix + f"stages.{i}.attention.to_q".replace(".", separator) for i in range(4)]
        pairs = {f"{stem}.lora_down.weight": torch.ones(1, 4) for stem in stems}
        save_file(pairs | {f"{stem}.lora_up.weight": torch.ones(4, 1) for stem in stems}, here / f"{name}.safetensors")
    return here / "r.yaml"


def run(recipe: Path, vector: str) -> tuple[int, str]:
    recipe.write_text(
        f'steps:\n  m:\n    merge: "z.safetensors:1:{vector}, y.safetensors:-0.25"\n    out: m.safetensors\n'
    )
    done = CliRunner().invoke(cli, ["run", str(recipe)])
    return done.exit_code, done.output


def sums(recipe: Path) -> list[float]:
    stored = load_file(recipe.parent / "runs/r/m.safetensors")
    stems = [f"lora_unet_stages_{i}_attention_to_q" for i in range(4)]
    return [
        round(
            float(stored[f"{stem}.alpha"])
            / len(stored[f"{stem}.lora_down.weight"])
            * float((stored[f"{stem}.lora_up.weight"].float() @ stored[f"{stem}.lora_down.weight"].float())[0, 0]),
            3,
        )
        for stem in stems
    ]


def test_a_recipe_weighs_numbered_blocks(recipe: Path) -> None:
    code, output = run(recipe, "ALL=1,stages.00-stages.01=0.5")
    assert code == 0 and "cached" not in output, output
    assert sums(recipe) == [0.25, 0.25, 0.75, 0.75]
    code, output = run(recipe, "ALL=1,stages.00-stages.01=0.75")
    assert code == 0 and "cached" not in output, output
    assert sums(recipe) == [0.5, 0.5, 0.75, 0.75]
    code, output = run(recipe, "ALL=1,stages.00-stages.09=0.5")
    assert code != 0 and "ends at stages.09, which the file lacks" in output


def test_a_vector_that_no_table_fits_counts_by_its_text() -> None:
    one, other = (vector_values(f"stages.00={weight}", load_presets()) for weight in (0.5, 0.75))
    assert one != other and one == vector_values(" stages.00=0.5", load_presets())
