"""The header of an epoch file: sd-scripts' ``ss_*`` facts and the modelspec, with true values."""

from __future__ import annotations

import datetime
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from loratools.adapter.header import legacy_hash
from loratools.base.model import Base
from loratools.files import sha256
from loratools.train.config.config import TrainConfig
from loratools.train.config.objective import ObjectiveConfig
from loratools.train.data.dataset import Dataset
from loratools.train.optim.lr_schedule import warmup_steps
from loratools.train.optim.optimizers import optimizer_class
from loratools.train.output.header_data import described

_ARCHITECTURES = {"sd1": "stable-diffusion-v1/lora", "sdxl": "stable-diffusion-xl-v1-base/lora"}


def now() -> float:
    """The time for headers: SOURCE_DATE_EPOCH where it is set (so that whole files repeat bit for bit), else now."""
    return float(os.environ.get("SOURCE_DATE_EPOCH", "") or time.time())


@dataclass(frozen=True)
class HeaderFacts:
    """What a header needs of the run; the same in all files of a run, resumed or not."""

    config: TrainConfig
    base: Base
    dataset: Dataset
    precision: str
    batches_per_epoch: int
    total_steps: int
    started_at: float
    session: int


def header(facts: HeaderFacts, epoch: int, step: int) -> dict[str, str]:
    """Every metadata entry of the file of ``epoch``, written after ``step`` optimiser steps, all as text."""
    values = {
        **_training(facts),
        **_network(facts),
        **described(facts.config, facts.dataset),
        **_model(facts),
        **_unused(),
    }
    moment = now()
    values |= {"epoch": epoch, "steps": step, "training_finished_at": moment}
    return {f"ss_{key}": _text(value) for key, value in values.items()} | _modelspec(facts, moment)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _training(facts: HeaderFacts) -> dict[str, object]:
    config = facts.config
    unet_lr, te_lr = config.learned_rates()
    kinds = optimizer_class(
        config.optimizer
    ).__mro__  # a library's class by its own name, though we may have added to it
    kind = next(kind for kind in kinds if not kind.__module__.startswith("loratools."))
    arguments = ",".join(f"{key}={value}" for key, value in config.optimizer_args.items())
    return {
        "session_id": facts.session,
        "training_started_at": facts.started_at,
        "output_name": config.name,
        "learning_rate": config.learning_rate,
        "unet_lr": unet_lr,
        "text_encoder_lr": te_lr,
        "num_epochs": config.epochs,
        "num_batches_per_epoch": facts.batches_per_epoch,
        "max_train_steps": facts.total_steps,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "lr_warmup_steps": warmup_steps(float(config.lr_warmup), facts.total_steps),
        "lr_scheduler": config.lr_scheduler,
        "optimizer": f"{kind.__module__}.{kind.__name__}" + (f"({arguments})" if arguments else ""),
        "max_grad_norm": config.max_grad_norm,
        "mixed_precision": facts.precision,
        "gradient_checkpointing": config.gradient_checkpointing,
        "seed": config.seed,
        "clip_skip": config.clip_skip,
        "cache_latents": config.cache_latents,
        "training_comment": config.comment,
        **_objective(config),
        "zero_terminal_snr": facts.base.zero_snr,
    }


def _objective(config: ObjectiveConfig) -> dict[str, object]:
    """The objective under sd-scripts' names; options without one (timesteps, weights for v) are in the provenance."""
    return {
        "noise_offset": config.noise_offset or None,
        "noise_offset_random_strength": config.noise_offset_random_strength,
        "adaptive_noise_scale": config.adaptive_noise_scale,
        "multires_noise_iterations": config.multires_noise_iterations or None,
        "multires_noise_discount": config.multires_noise_discount,
        "ip_noise_gamma": config.ip_noise_gamma or None,
        "ip_noise_gamma_random_strength": config.ip_noise_gamma_random_strength,
        "min_snr_gamma": config.min_snr_gamma,
        "debiased_estimation": config.debiased_estimation_loss,
        "loss_type": config.loss_type,
        "huber_schedule": config.huber_schedule,
        "huber_scale": config.huber_scale,
        "huber_c": config.huber_c,
    }


def _network(facts: HeaderFacts) -> dict[str, object]:
    arguments = facts.config.network_args()
    if facts.config.is_full:
        return {
            "max_token_length": None if facts.config.max_token_length == 75 else facts.config.max_token_length,
            "full_bf16": facts.config.weights == "bf16",
            **({"block_lr": facts.config.block_lr} if facts.config.block_lr else {}),
        }
    return {
        "network_module": "networks.lora" if facts.config.network_type == "lora" else "lycoris.kohya",
        "network_dim": facts.config.dim,
        "network_alpha": facts.config.network_alpha,
        "network_dropout": facts.config.network_dropout or None,
        "max_token_length": None if facts.config.max_token_length == 75 else facts.config.max_token_length,
        "scale_weight_norms": facts.config.scale_weight_norms,
        **({"network_args": arguments} if arguments else {}),
    }


def _model(facts: HeaderFacts) -> dict[str, object]:
    from loratools.adapter.architectures.names import family_of

    base = facts.base
    velocity = (facts.config.prediction or base.prediction) == "v_prediction"
    path = Path(facts.config.base)
    return {
        "v2": base.family == "sd2",
        "base_model_version": family_of(base.family).base_model_version + ("_v" if velocity else ""),
        "sd_model_name": path.name,
        "sd_model_hash": legacy_hash(path) if path.is_file() else base.digest[:8],
        "new_sd_model_hash": base.digest,
        **_vae(facts.config.vae),
    }


def _vae(path: Path | None) -> dict[str, object]:
    """Name and hashes of the config's own VAE; nothing for the base's, which is part of the base."""
    if path is None:
        return {}
    if not path.is_file():
        return {"vae_name": path.name}
    return {"vae_name": path.name, "vae_hash": legacy_hash(path), "new_vae_hash": sha256(path)}


def _unused() -> dict[str, object]:
    """Entries that sd-scripts always writes for what this trainer does not have, with the value for off."""
    off = ("full_fp16", "fp8_base", "fp8_base_unet", "lowram")
    none = ("max_validation_steps", "validate_every_n_epochs", "validate_every_n_steps")
    return {
        **dict.fromkeys(off, False),
        **dict.fromkeys(none),
        "sd_scripts_commit_hash": "(unknown)",
    }


def _modelspec(facts: HeaderFacts, moment: float) -> dict[str, str]:
    from loratools.version import __version__

    config, base = facts.config, facts.base
    width, height = facts.dataset.buckets.resolution
    velocity = (config.prediction or base.prediction) == "v_prediction"
    sd2 = "stable-diffusion-v2-768-v/lora" if velocity else "stable-diffusion-v2-512/lora"
    day = datetime.datetime.fromtimestamp(int(moment), datetime.UTC)
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": _ARCHITECTURES.get(base.family, sd2),
        "modelspec.implementation": "diffusers",
        "modelspec.implementation_version": f"loratools/{__version__}",
        "modelspec.title": config.name,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.date": day.strftime("%Y-%m-%dT%H:%M:%S"),
        "modelspec.prediction_type": "v" if velocity else "epsilon",
        "modelspec.encoder_layer": str(config.clip_skip),
        **{f"modelspec.{name}": text for name, text in config.modelspec.items()},
    }
