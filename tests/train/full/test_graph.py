"""A full training's step as a CUDA graph beside the same step run eagerly; skipped without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.output.state import load_state
from loratools.train.trainer import train

Pictures = Callable[..., Path]
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ADAFACTOR = {"optimizer": "Adafactor", "optimizer_args": {"scale_parameter": False, "relative_step": False}}
KINDS: dict[str, dict[str, Any]] = {
    "fp32": {"mixed_precision": "no"},
    "masters": {"mixed_precision": "bf16"},
    "8 bits": {"mixed_precision": "bf16", "optimizer": "AdamW8bit"},
    "fp32, in backward": {"mixed_precision": "no", "fused_backward_pass": "on", "max_grad_norm": 0},
    "fp32, in backward, clipped": {"mixed_precision": "no", "fused_backward_pass": "on", "max_grad_norm": 1e-2},
    "bf16": {"weights": "bf16"},
    "bf16, in backward": {"weights": "bf16", "fused_backward_pass": "on", "max_grad_norm": 0},
    "Adafactor": {"weights": "bf16", "fused_backward_pass": "on", "max_grad_norm": 0, **ADAFACTOR},
    "Adafactor, fp32, clipped": {"mixed_precision": "no", "fused_backward_pass": "on", **ADAFACTOR},
    "checkpointing": {"weights": "bf16", "gradient_checkpointing": True, **ADAFACTOR},
}


@GPU
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_trains_as_eager_steps_do(kind: str, tiny: Path, pictures: Pictures, tmp_path: Path) -> None:
    if KINDS[kind].get("optimizer") == "AdamW8bit":
        pytest.importorskip("bitsandbytes")
    images = pictures(count=4)

    def run(graph: str) -> tuple[list[float], torch.Tensor]:
        given = {"base": str(tiny), "images": str(images), "out": str(tmp_path / graph), "name": "t", "epochs": 4}
        more = {"network_type": "full", "unet_lr": 1e-3, "te_lr": 1e-3, "batch_size": 2, "device": "cuda"}
        config: TrainConfig = make_config({**given, **more, "graph": graph, "save": "delta", **KINDS[kind]}, "test")
        result = train(config, progress=False)
        state = load_state(result.state)
        assert state is not None
        return result.losses, torch.cat([weight.float().flatten() for weight in state.network.values()])

    (eager, one), (graph, two) = run("off"), run("on")
    assert graph == pytest.approx(eager, rel=2e-2)
    assert float((one - two).norm() / one.norm()) < 2e-2
    assert eager[-1] < eager[0]
