"""What a full training is said to take, against the arithmetic of SD1.5's and SDXL's sizes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from loratools.errors import FileError, TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.dry_run import full_cost as module
from loratools.train.dry_run.advice import disk_room
from loratools.train.dry_run.full_cost import cheaper, check_disk, check_room, cost_lines, full_cost
from loratools.train.output.run_folder import RunFolder

GB = 10**9
UNET, TEXT, VAE = 860_000_000, 123_000_000, 84_000_000


def base_of(unet: int, *text: int) -> Any:
    def model(size: int) -> nn.Module:
        held = nn.Module()
        held.weight = nn.Parameter(torch.empty(size // 1000, 1000, device="meta"))  # a matrix, as most of a base are
        return held

    whole = model(unet)
    whole.config = SimpleNamespace(block_out_channels=(320, 640))  # type: ignore[assignment]
    return SimpleNamespace(unet=whole, vae=model(VAE), text_encoders=tuple(model(size) for size in text), family="sd1")


def config(**settings: Any) -> TrainConfig:
    given = {"base": "b", "images": "x", "network_type": "full", "epochs": 8, "gradient_checkpointing": True}
    return make_config({**given, **settings}, "test")


@pytest.mark.parametrize(
    ("settings", "certain"),
    [
        ({"mixed_precision": "no"}, 16),  # AdamW: 4 + 4 + 8
        ({"mixed_precision": "no", "optimizer": "AdamW8bit"}, 10),
        ({"weights": "bf16", "optimizer": "AdamW8bit"}, 8),  # gradients are float32
        ({"mixed_precision": "bf16"}, 18),  # and a copy of 2 that is computed with
    ],
)
def test_bytes_a_weight(settings: dict[str, Any], certain: float) -> None:
    own = config(**settings)
    cost = full_cost(own, base_of(UNET, TEXT), UNET + TEXT, 4096, 4 if own.mixed_precision == "no" else 2, 100)
    assert cost.certain == pytest.approx(certain * (UNET + TEXT), rel=0.01)


def test_adafactor_within_the_backward_pass_is_the_weights_and_little_more() -> None:
    own = config(weights="bf16", optimizer="Adafactor", max_grad_norm=0)
    cost = full_cost(own, base_of(UNET, TEXT), UNET + TEXT, 4096, 2, 100)
    assert 2.0 * GB < cost.certain < 2.3 * GB  # but for convolutions, whose states are larger
    assert cost.memory < 6 * 2**30


def test_adafactors_states_of_convolutions() -> None:
    base = base_of(UNET)
    base.unet.weight = nn.Parameter(torch.empty(320, 320, 3, 3, device="meta"))
    own = config(weights="bf16", optimizer="Adafactor", te_lr=0)
    count = 320 * 320 * 9
    assert full_cost(own, base, count, 1, 2, 1).states == pytest.approx(4 * count * 6 / 9)


def test_sdxl_adamw_needs_41_gb_and_a_state_of_31() -> None:
    sdxl = 2_570_000_000
    cost = full_cost(config(mixed_precision="no", te_lr=0), base_of(sdxl, TEXT, 695_000_000), sdxl, 16384, 4, 100)
    assert cost.weights + cost.gradients + cost.states == pytest.approx(41 * GB, rel=0.01)
    assert cost.state == pytest.approx(31 * GB, rel=0.01)
    assert any("state" in line and "28.7" in line for line in cost_lines(cost))  # GiB


def test_files_by_kind() -> None:
    base = base_of(UNET, TEXT)
    sizes = {
        save: full_cost(config(save=save), base, UNET + TEXT, 4096, 2, 100).file
        for save in ("checkpoint", "delta", "lora:64")
    }
    assert sizes["checkpoint"] == 2 * (UNET + TEXT + VAE) and sizes["delta"] == 2 * (UNET + TEXT)
    assert sizes["lora:64"] < 0.1 * sizes["checkpoint"]
    fewer = full_cost(config(save_last_n=2), base, UNET + TEXT, 4096, 2, 100)
    assert fewer.disk == 3 * fewer.file + 2 * fewer.state


def test_too_little_memory_or_disk_is_said_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    own, base = config(mixed_precision="bf16", max_grad_norm=1), base_of(UNET, TEXT)
    cost = full_cost(own, base, UNET + TEXT, 4096, 2, 100)
    monkeypatch.setattr(module, "_memory_of", lambda device: 12 * 2**30)
    helps = cheaper(own, base, UNET + TEXT, 4096, 100)
    with pytest.raises(
        TrainingError,
        match=r"takes 16.5 GiB .* cuda has 12.0; what helps, one after the other: "
        r"max_grad_norm: 0 with fused_backward_pass: on \(.*then weights: bf16 \(.*Adafactor \(",
    ):
        check_room(own, cost, torch.device("cuda"), helps)
    with pytest.raises(FileError, match=r"runs has 1.0 GiB left, and the files of 8 epochs .* set save: lora:64"):
        check_disk(own, cost, 2**30)
    check_disk(own, cost, 2**40)
    assert own.out == Path("runs")


def test_what_helps_is_never_what_is_refused() -> None:
    """Each piece of advice follows the ones before it, and none of them says less than it takes."""

    def listed(**settings: Any) -> list[str]:
        return list(cheaper(config(**settings), base_of(UNET, TEXT), UNET + TEXT, 4096, 100))

    fp16 = listed(mixed_precision="fp16", max_grad_norm=1)
    assert fp16[0].startswith("max_grad_norm: 0 with fused_backward_pass: on and mixed_precision: bf16 (")
    assert fp16[1].startswith("weights: bf16, without mixed_precision: fp16")
    adam = listed(optimizer="Prodigy", learning_rate=1, unet_lr=1, te_lr=1)
    assert [text.partition(" (")[0] for text in adam[:2]] == [
        "optimizer: AdamW8bit",
        "max_grad_norm: 0 with fused_backward_pass: on",
    ]
    assert not any("fused" in text for text in listed(gradient_accumulation=2))
    own = config(mixed_precision="no", gradient_checkpointing=False, max_grad_norm=0)
    base = base_of(UNET, TEXT)
    first = next(cheaper(own, base, UNET + TEXT, 4096, 100))
    after = own.model_copy(update={"gradient_checkpointing": True})
    memory = full_cost(after, base, UNET + TEXT, 4096, 4, 100).memory
    assert first == f"gradient_checkpointing: true ({memory / 2**30:.1f} GiB)"


def test_what_a_run_has_on_the_disk_already_is_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a run's files took the room that going on needed for all of them, so that it was refused."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    settings = config(out=str(tmp_path), name="t")
    folder = RunFolder(tmp_path, "t")
    assert disk_room(settings) == 1000
    for path in (folder.epoch(1), folder.step(7), folder.state, folder.end(folder=True) / "unet" / "weights"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10))
    (tmp_path / "other-000001.safetensors").write_bytes(bytes(10))
    assert disk_room(settings) == 1040
