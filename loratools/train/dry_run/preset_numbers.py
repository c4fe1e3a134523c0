"""Whether a config still has the numbers of its preset, so that a dry run names a preset only for what is from it."""

from __future__ import annotations

from collections.abc import Iterator

from loratools.train.config.config import TrainConfig
from loratools.train.config.read import presets

DEFAULT = "default"
_RATES = ("learning_rate", "unet_lr", "te_lr")


def preset_line(config: TrainConfig) -> str:
    """``preset style-004``, ``preset style-004 but for dim 8``, or that the numbers are the config's own."""
    settings = presets()[config.preset].settings
    others = list(_others(config))
    counted = len([name for name in settings if name not in _RATES]) + 1
    if config.preset == DEFAULT and 2 * len(others) > counted:
        return "with the config's own numbers"
    return f"preset {config.preset}{' but for ' if others else ''}{', '.join(others)}"


def preset_source(config: TrainConfig) -> str:
    """The guide whose numbers these are; empty where the default's numbers are not the config's any more."""
    if config.preset == DEFAULT and any(_others(config)):
        return ""
    return presets()[config.preset].source


def _others(config: TrainConfig) -> Iterator[str]:
    """The settings that the preset has with another number, each with the config's."""
    settings = dict(presets()[config.preset].settings)
    if (settings.get("network_type") == "full") != config.is_full:
        settings = {}  # made without a config file, of settings that fit no preset
    preset = TrainConfig.model_validate({"base": config.base, "images": "x", **settings})
    for name in settings:
        value = getattr(config, name)
        if name not in _RATES and value != getattr(preset, name):
            yield f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
    unet, text = config.learned_rates()
    if (unet, text) != preset.learned_rates():
        yield f"rate {unet:g}" if unet == text else f"rates {unet:g} and {text:g}"
