"""One step of SD1.5, whole, in full shapes on a CPU in float32: our loss and gradients beside sd-scripts' own.

sd-scripts' side is its UNet class and the functions that ``train_db.py`` calls for a step (noise, noisy latents, loss,
each sample's weight), by the method of its other trainer that holds them in one call: ``train_db.py`` itself is one
function from the command line to the checkpoint. The weights of samples are those of a picture and of a prior's.
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.parity import models as parity_models
from benchmarks.parity.models import Models
from benchmarks.parity.peer import OPTIONS, Peer, load
from benchmarks.parity.replay import Recorder
from benchmarks.training.bench import Options, Rows
from loratools.train.config.read import make_config
from loratools.train.step import objective
from loratools.train.step.batch import Inputs
from loratools.train.step.precision import pick_precision
from loratools.train.step.step import DenoisingStep

LIMIT = 1e-4
SIDE = 8  # of the latents
FLOOR = 1e-5  # of the largest gradient: below it (attention over one token) there is nothing but rounding to compare
_SEED = 3


def part_parity(options: Options, rows: Rows) -> None:
    """UNet and text encoder, with equal weights of the two samples, and with a prior's weight of 0.5."""
    peers = load(Path(options.sd_scripts))
    models = parity_models.sd1(peers)
    for title, weights in (("without a prior", [1.0, 1.0]), ("with a prior's weight of 0.5", [1.0, 0.5])):
        batch = _batch(models, weights)
        recorder = Recorder()
        loss, gradients = _ours(models, batch, recorder)
        their_loss, differences = _theirs(models, peers, batch, recorder, gradients)
        worst = max(differences, key=lambda name: differences[name])
        rows.add(
            f"parity {title}",
            loss=abs(loss - their_loss) / abs(their_loss),
            gradient=differences[worst],
            where=worst,
            tensors=len(differences),
            agrees=max(abs(loss - their_loss) / abs(their_loss), differences[worst]) <= LIMIT,
        )


def _batch(models: Models, weights: list[float]) -> Inputs:
    generator = torch.Generator().manual_seed(_SEED)
    mean = torch.randn((2, 4, SIDE, SIDE), generator=generator) * 5
    tokens = models.tokens(generator)
    return Inputs(mean, torch.zeros_like(mean), tokens=tokens, weight=torch.tensor(weights))


def _ours(models: Models, batch: Inputs, recorder: Recorder) -> tuple[float, dict[str, torch.Tensor]]:
    config = make_config(
        {"base": "base", "images": "images", "mixed_precision": "no", "network_type": "full", "preset": "full"}, "case"
    )
    schedule = objective.noise_schedule(models.base.scheduler_config, config)
    parts: list[tuple[str, nn.Module]] = [("unet", models.base.unet), ("te", models.base.text_encoder)]
    for _, part in parts:
        part.requires_grad_(True)
    step = DenoisingStep(models.base, None, schedule, config, pick_precision(config, torch.device("cpu")))  # type: ignore[arg-type]
    with recorder.noting():
        draws = objective.draw(tuple(batch.mean.shape), 1000, config, torch.Generator().manual_seed(_SEED))
    recorder.timesteps = draws.timesteps
    loss = step.losses(batch, draws).mean()
    loss.backward()
    gradients = {}
    for name, part in parts:
        for path, parameter in part.named_parameters():
            if parameter.grad is not None:
                gradients[f"{name}.{path}"] = parameter.grad
                parameter.grad = None
        part.requires_grad_(False)
    return loss.item(), gradients


class _NoNetwork(nn.Module):
    """In the place of a LoRA network, of which the method asks nothing but its multiplier."""

    def set_multiplier(self, _: float) -> None:
        """Nothing."""


def _theirs(
    models: Models, peers: Any, batch: Inputs, recorder: Recorder, gradients: dict[str, torch.Tensor]
) -> tuple[float, dict[str, float]]:
    """Their loss, and how far each of ``gradients`` is from theirs, relative to theirs."""
    args = argparse.Namespace(**OPTIONS)
    trainer = peers.train_network.NetworkTrainer()
    encoder = models.text_encoders[0]
    for model in (models.unet, encoder):
        model.requires_grad_(True)
    owner = SimpleNamespace(_models=models, _peers=peers)
    scheduler = trainer.get_noise_scheduler(args, torch.device("cpu"))
    fixed = mock.patch.object(peers.train_util, "get_timesteps", lambda *_: recorder.timesteps)
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), autocast=contextlib.nullcontext, unwrap_model=lambda model: model
    )
    with recorder.replaying(args), fixed:
        loss = trainer.process_batch(
            Peer._batch(owner, replace(batch)),  # type: ignore[arg-type]
            models.text_encoders,
            models.unet,
            _NoNetwork(),
            None,
            scheduler,
            torch.float32,
            torch.float32,
            accelerator,
            args,
            *Peer._strategies(owner, args),  # type: ignore[arg-type]
        )
    loss.backward()
    named = {f"unet.{path}": parameter for path, parameter in models.unet.named_parameters()}
    named |= {f"te.{path}": parameter for path, parameter in encoder.named_parameters()}
    largest = max(parameter.grad.norm().item() for parameter in named.values() if parameter.grad is not None)
    differences = {}
    for name, parameter in named.items():
        if parameter.grad is None or name not in gradients:
            if (parameter.grad is None) != (name not in gradients):
                raise SystemExit(f"{name} has a gradient on one side only")
            continue
        scale = max(parameter.grad.norm().item(), FLOOR * largest)
        differences[name] = (gradients[name].reshape(parameter.grad.shape) - parameter.grad).norm().item() / scale
        parameter.grad = None
    return loss.item(), differences
