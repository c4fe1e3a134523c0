"""Does a step of ours compute what a step of sd-scripts computes? The losses and every LoRA gradient, side by side.

``python -m benchmarks.parity --sd-scripts CHECKOUT [--family sd1] [--family sdxl] [--case TEXT] [--latents 16]``

Both sides get the same random weights in the model family's full shapes, the same LoRA factors, latents, tokens and
random numbers, in float32 on the CPU; sd-scripts' own ``process_batch`` runs on its own UNet class. Each case has a
control: the same comparison with one setting of ours changed, which must fail.

sd-scripts' imports are needed: toml, voluptuous, imagesize, opencv-python-headless, einops, ftfy. It takes about
7 GB for SD 1.x and 20 GB for SDXL.
"""

from __future__ import annotations

import argparse
import gc
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import results_page
from benchmarks.parity.models import Measured, Models, lora_factors, sd1, sdxl
from benchmarks.parity.peer import Peer, load
from benchmarks.parity.replay import Recorder
from loratools.adapter.architectures.names import kohya_name
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.network.network import Network
from loratools.train.step import objective
from loratools.train.step.batch import Inputs
from loratools.train.step.precision import pick_precision
from loratools.train.step.step import DenoisingStep

LIMIT = 1e-4
RANK, ALPHA, SEED = 8, 4.0, 22  # one of the two samples lies above min-SNR's usual gamma


@dataclass(frozen=True)
class Case:
    """``ours`` are settings, ``theirs`` sd-scripts' options for the same, ``control`` what makes ours differ."""

    title: str
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]
    control: Mapping[str, Any]
    families: tuple[str, ...] = ("sd1", "sdxl")


def _same(title: str, control: Mapping[str, Any], families: tuple[str, ...] = ("sd1",), **settings: Any) -> Case:
    """A case whose options are called the same on both sides."""
    return Case(title, settings, settings, control, families)


CASES = (
    Case("plain", {}, {}, {"loss_type": "l1"}),
    Case("clip skip 1", {"clip_skip": 1}, {"clip_skip": None}, {"clip_skip": 2}, ("sd1",)),
    Case("clip skip 2", {"clip_skip": 2}, {"clip_skip": 2}, {"clip_skip": 1}, ("sd1",)),
    _same("noise offset", {"noise_offset": 0.0}, ("sd1", "sdxl"), noise_offset=0.1),
    _same("noise offset, random and adaptive", {"adaptive_noise_scale": 0.1}, noise_offset=0.1,
          noise_offset_random_strength=True, adaptive_noise_scale=0.05),
    _same("multi-resolution noise", {"multires_noise_discount": 0.4}, multires_noise_iterations=6,
          multires_noise_discount=0.3),
    _same("input perturbation", {"ip_noise_gamma": 0.2}, ip_noise_gamma=0.1),
    _same("min-SNR", {"min_snr_gamma": None}, ("sd1", "sdxl"), min_snr_gamma=5.0),
    _same("debiased estimation", {"debiased_estimation_loss": False}, debiased_estimation_loss=True),
    _same("v-like loss", {"v_pred_like_loss": 0.0}, v_pred_like_loss=0.5),
    Case("v-prediction, min-SNR", {"prediction": "v_prediction", "min_snr_gamma": 5.0},
         {"v_parameterization": True, "min_snr_gamma": 5.0}, {"prediction": "epsilon"}, ("sd1",)),
    Case("v-prediction, scaled, zero terminal SNR",
         {"prediction": "v_prediction", "zero_terminal_snr": True},
         {"v_parameterization": True, "zero_terminal_snr": True}, {"zero_terminal_snr": False}, ("sd1",)),
    _same("huber, by SNR", {"huber_schedule": "constant"}, loss_type="huber", huber_schedule="snr", huber_c=0.1),
    _same("smooth L1, exponential", {"huber_schedule": "snr"}, loss_type="smooth_l1", huber_schedule="exponential",
          huber_c=0.1),
    _same("L1", {"loss_type": "l2"}, loss_type="l1"),
    Case("masked", {}, {}, {"loss_type": "huber"}, ("sd1",)),
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Relative differences: of the loss, and the largest of all factors' gradients (Frobenius) with its name."""

    loss: float
    gradient: float
    where: str

    @property
    def agrees(self) -> bool:
        """Whether both are within the limit."""
        return self.loss <= LIMIT and self.gradient <= LIMIT


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd-scripts", type=Path, required=True, help="a checkout of kohya-ss/sd-scripts")
    parser.add_argument("--family", action="append", choices=["sd1", "sdxl"], help="repeatable  [default: sd1]")
    parser.add_argument("--case", action="append", help="only cases whose title has this text; repeatable")
    parser.add_argument("--latents", type=int, default=16, help="side of the square latents")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results/parity.md")
    args = parser.parse_args()
    peers = load(args.sd_scripts)
    rows: list[str] = []
    for family in args.family or ["sd1"]:
        models = {"sd1": sd1, "sdxl": sdxl}[family](peers)
        rows += _rows(models, peers, args.latents, args.case)
        del models
        gc.collect()
    results_page.put(args.out, "A training step against sd-scripts", _report(rows, args.latents))
    print(args.out.read_text())


def _rows(models: Models, peers: Any, side: int, only: list[str] | None) -> list[str]:
    network = Network(models.base, RANK, ALPHA, SEED)
    lora_factors(network, SEED)
    peer = Peer(models, peers, network, RANK, ALPHA)
    rows = []
    for case in CASES:
        if models.family not in case.families or (only and not any(text in case.title for text in only)):
            continue
        begun = time.perf_counter()
        batch = _batch(models, side, masked=case.title == "masked")
        recorder = Recorder()
        ours = _ours(models, network, batch, case.ours, recorder)
        theirs = peer.measure(batch, case.theirs, recorder)
        control = _ours(models, network, batch, {**case.ours, **case.control}, Recorder())
        rows.append(_row(models.family, case.title, _compared(ours, theirs), _compared(control, theirs), case.control))
        print(rows[-1], f"{time.perf_counter() - begun:.0f} s", flush=True)
    return rows


def _batch(models: Models, side: int, *, masked: bool) -> Inputs:
    """Two samples: latents as a VAE's mean without deviation, random tokens, and a weight for each."""
    generator = torch.Generator().manual_seed(SEED)
    mean = torch.randn((2, 4, side, side), generator=generator) * 5
    mask = torch.rand((2, 1, 2 * side, 2 * side), generator=generator) if masked else None
    sizes = (
        torch.tensor([[600.0, 512, 0, 11, 512, 512], [512, 800, 40, 0, 512, 512]]) if models.family == "sdxl" else None
    )
    return Inputs(
        mean,
        torch.zeros_like(mean),
        tokens=models.tokens(generator),
        weight=torch.tensor([1.0, 0.7]),
        time_ids=sizes,
        mask=mask,
    )


def _ours(models: Models, network: Network, batch: Inputs, settings: Mapping[str, Any], recorder: Recorder) -> Measured:
    config: TrainConfig = make_config({"base": "base", "images": "images", "mixed_precision": "no", **settings}, "case")
    schedule = objective.noise_schedule(models.base.scheduler_config, config)
    for layer in network.layers.values():
        layer.zero_grad()
    with network.attached():
        step = DenoisingStep(models.base, network, schedule, config, pick_precision(config, torch.device("cpu")))
        with recorder.noting():
            draws = objective.draw(tuple(batch.mean.shape), 1000, config, torch.Generator().manual_seed(SEED))
        recorder.timesteps = draws.timesteps
        loss = step.losses(batch, draws).mean()
        loss.backward()
    gradients = {}
    for name, layer in network.layers.items():
        stem = kohya_name(name, models.family)
        for side, factor in layer.factors().items():
            gradients[f"{stem}.{side}"] = torch.zeros_like(factor) if factor.grad is None else factor.grad.clone()
    return Measured(loss.item(), gradients)


def _compared(ours: Measured, theirs: Measured) -> Difference:
    if ours.gradients.keys() != theirs.gradients.keys():
        raise SystemExit(f"trained modules differ: {sorted(ours.gradients.keys() ^ theirs.gradients.keys())[:4]}")
    largest = max(gradient.norm().item() for gradient in theirs.gradients.values())
    worst, where = 0.0, ""
    for name, gradient in theirs.gradients.items():
        # where both are nothing but rounding (q and k of one token) there is nothing to compare
        scale = max(gradient.norm().item(), 1e-7 * largest)
        difference = (ours.gradients[name] - gradient).norm().item() / scale
        if not difference <= worst:  # also where it is not a number
            worst, where = difference, name
    return Difference(abs(ours.loss - theirs.loss) / abs(theirs.loss), worst, where)


def _row(family: str, title: str, difference: Difference, control: Difference, changed: Mapping[str, Any]) -> str:
    verdict = "agrees" if difference.agrees else f"**differs** at {difference.where}"
    text = ", ".join(f"{key}: {value}" for key, value in changed.items())
    failed = f"fails, loss {control.loss:.0e}, gradients {_short(control.gradient)}"
    shown = failed if not control.agrees else "**passes, so the case proves nothing**"
    return f"| {family} | {title} | {difference.loss:.1e} | {difference.gradient:.1e} | {verdict} | {text}: {shown} |"


def _short(value: float) -> str:
    return f"{value:.0e}" if math.isfinite(value) else str(value)


def _report(rows: list[str], side: int) -> str:
    import diffusers
    import transformers

    good = sum("| agrees |" in row and "proves nothing" not in row for row in rows)
    return "\n".join(
        [
            f"{good} of {len(rows)} cases agree to {LIMIT:g} (relative) in the loss and in every LoRA "
            f"factor's gradient, "
            "and each one's control fails.",
            "",
            "A case is one step on the same random weights in full shapes, LoRA factors (rank 8, alpha 4, "
            "neither zero), "
            f"{side} x {side} latents, tokens and random numbers, batch 2, float32 on a CPU. sd-scripts' side "
            f"is its own "
            "`process_batch` over its own UNet class and `networks.lora`. The gradient's figure is the "
            "largest over all "
            "factors of |ours - theirs| / |theirs|. A control is the same comparison with one setting of ours changed.",
            "",
            f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}, "
            f"{platform.machine()}. Made by `python -m benchmarks.parity`.",
            "",
            "| base | case | loss | gradients | | control |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
