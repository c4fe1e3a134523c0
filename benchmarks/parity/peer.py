"""sd-scripts' side of the parity benchmark: its own step, called with what its trainer would hand it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from benchmarks.parity.models import Measured, Models
from benchmarks.parity.replay import Recorder
from loratools.adapter.architectures.names import kohya_name
from loratools.train.network.network import Network
from loratools.train.step.batch import Inputs

_END = 49407
OPTIONS: dict[str, Any] = {  # its defaults, of all that a step reads
    "gradient_checkpointing": False, "v_parameterization": False, "zero_terminal_snr": False, "noise_offset": None,
    "noise_offset_random_strength": False, "adaptive_noise_scale": None, "multires_noise_iterations": None,
    "multires_noise_discount": 0.3, "ip_noise_gamma": None, "ip_noise_gamma_random_strength": False,
    "min_timestep": None, "max_timestep": None, "loss_type": "l2", "huber_schedule": "snr", "huber_c": 0.1,
    "huber_scale": 1.0, "min_snr_gamma": None, "scale_v_pred_loss_like_noise_pred": False, "v_pred_like_loss": None,
    "debiased_estimation_loss": False, "masked_loss": False, "weighted_captions": False, "full_fp16": False,
    "clip_skip": None,
}  # fmt: skip


def load(checkout: Path) -> SimpleNamespace:
    """sd-scripts' modules from ``checkout``; torchvision, which a step has no use for, may be missing."""
    import diffusers
    import transformers

    # what they look up lazily has to be looked up before torchvision seems to be there
    diffusers.StableDiffusionPipeline, diffusers.AutoencoderKL, transformers.CLIPTextModel  # noqa: B018
    current = sys.modules["transformers"]  # which may have replaced itself meanwhile
    if not hasattr(current, "CLIPFeatureExtractor"):  # the old name
        vars(current)["CLIPFeatureExtractor"] = transformers.CLIPImageProcessor
    with contextlib.suppress(ImportError):
        importlib.import_module("torchvision")
    for missing in {"torchvision"} - sys.modules.keys():
        sys.modules[missing] = mock.MagicMock()
    sys.path.insert(0, str(checkout))
    library = (
        "train_util",
        "model_util",
        "original_unet",
        "sdxl_original_unet",
        "sdxl_model_util",
        "strategy_sd",
        "strategy_sdxl",
    )
    modules = {name: importlib.import_module(f"library.{name}") for name in library}
    scripts = {name: importlib.import_module(name) for name in ("train_network", "sdxl_train_network")}
    return SimpleNamespace(**modules, **scripts, lora=importlib.import_module("networks.lora"))


class Peer:
    """Its network over its models, with the factors of ``network``.

    Args:
        peers: its modules, from :func:`load`.
        rank, alpha: of every module.
    """

    def __init__(self, models: Models, peers: Any, network: Network, rank: int, alpha: float) -> None:
        self._models, self._peers = models, peers
        encoders = models.text_encoders if models.family == "sdxl" else models.text_encoders[0]
        self._network = peers.lora.create_network(1.0, rank, alpha, None, encoders, models.unet)
        self._network.apply_to(encoders, models.unet, True, True)
        self._modules = {
            _stem(module.lora_name): module for module in (*self._network.text_encoder_loras, *self._network.unet_loras)
        }
        with torch.no_grad():
            for name, layer in network.layers.items():
                module = self._modules[kohya_name(name, models.family)]
                for side, factor in layer.factors().items():
                    theirs = getattr(module, f"lora_{side}").weight
                    theirs.copy_(factor.reshape(theirs.shape))

    def measure(self, batch: Inputs, options: Mapping[str, Any], recorder: Recorder) -> Measured:
        """The loss and gradients of one step with the numbers that ``recorder`` noted."""
        args = argparse.Namespace(**{**OPTIONS, **options})
        self._network.zero_grad()
        scheduler = self._trainer().get_noise_scheduler(args, torch.device("cpu"))
        fixed = mock.patch.object(self._peers.train_util, "get_timesteps", lambda *_: recorder.timesteps)
        with recorder.replaying(args), fixed:
            loss = self._trainer().process_batch(
                self._batch(batch),
                self._models.text_encoders,
                self._models.unet,
                self._network,
                None,
                scheduler,
                torch.float32,
                torch.float32,
                _Accelerator(),
                args,
                *self._strategies(args),
            )
        loss.backward()
        gradients = {}
        for stem, module in self._modules.items():
            for side, part in (("down", module.lora_down), ("up", module.lora_up)):
                gradient = torch.zeros_like(part.weight) if part.weight.grad is None else part.weight.grad.clone()
                gradients[f"{stem}.{side}"] = gradient.flatten(1)
        return Measured(loss.item(), gradients)

    def _trainer(self) -> Any:
        if self._models.family == "sdxl":
            return self._peers.sdxl_train_network.SdxlNetworkTrainer()
        return self._peers.train_network.NetworkTrainer()

    def _strategies(self, args: argparse.Namespace) -> tuple[Any, Any]:
        """Its text encoding, and what that reads of its tokenizers."""
        words = SimpleNamespace(model_max_length=77, pad_token_id=_END, eos_token_id=_END, eos_token=_END)
        tokenize = SimpleNamespace(tokenizer=words, tokenizer1=words, tokenizer2=words)
        if self._models.family == "sdxl":
            return self._peers.strategy_sdxl.SdxlTextEncodingStrategy(), tokenize
        return self._peers.strategy_sd.SdTextEncodingStrategy(args.clip_skip), tokenize

    def _batch(self, inputs: Inputs) -> dict[str, Any]:
        batch: dict[str, Any] = {
            "latents": inputs.mean.clone(),
            "input_ids_list": list(inputs.tokens or ()),
            "loss_weights": inputs.weight,
        }
        if inputs.mask is not None:
            batch["alpha_masks"] = inputs.mask[:, 0]
        if inputs.time_ids is not None:
            names = ("original_sizes_hw", "crop_top_lefts", "target_sizes_hw")
            batch |= dict(zip(names, inputs.time_ids.split(2, dim=1), strict=True))
        return batch


class _Accelerator:
    """What a step asks of accelerate on one CPU in full precision."""

    device = torch.device("cpu")

    @staticmethod
    def autocast() -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    @staticmethod
    def unwrap_model(model: Any) -> Any:
        return model


def _stem(name: str) -> str:
    """The name as it is in files: newer transformers have no ``text_model`` in some of their module trees."""
    kind, layers, rest = name.partition("_encoder_layers_")
    return f"{kind}_text_model{layers}{rest}" if layers and not kind.endswith("_text_model") else name
