"""What an option of sd-scripts' command line, or one of ours that is spelled otherwise, is on ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from loratools.errors import did_you_mean
from loratools.train.sd_scripts.options import ACCEPTED, COMBINED, GUI_ALIASES, GUI_OPTIONS, OPTIONS, RESTRICTED

_TOGETHER = {  # options without a single setting of ours
    "dataset_config": "the file as a CONFIG",
    "cache_latents": "--set cache_latents=true",
    "cache_latents_to_disk": "--set cache_latents=disk",
    "network_train_unet_only": "--te-lr 0",
    "network_train_text_encoder_only": "--unet-lr 0",
    "max_train_steps": "--set max_steps=N",
    "reg_data_dir": "a folder with regularisation: true under the images of a CONFIG",
    "conditioning_data_dir": "mask_folder under the images of a CONFIG",
    "in_json": "metadata_file under the images of a CONFIG",
    "use_8bit_adam": "--optimizer AdamW8bit",
    "use_lion_optimizer": "--optimizer Lion",
    "max_train_epochs": "--epochs",
    "rank": "--dim",  # as merge and resize call it
}
_OF_CONFIG = "write it in a TOML of sd-scripts' options, and name that as a CONFIG"  # such as network_args


def our_spelling(option: str, flags: Collection[str], settings: Mapping[str, bool]) -> str:
    """What to do in the place of ``option``, such as ``--network_dim``: write ``--dim``; empty where nothing is known.

    Args:
        flags: our own options.
        settings: every setting of a config, and whether it is a switch.
    """
    name = option.lstrip("-").replace("-", "_")
    name = GUI_ALIASES.get(name, name)
    if name in _TOGETHER:
        return f"write {_TOGETHER[name]}"
    setting = OPTIONS.get(name) or GUI_OPTIONS.get(name) or (name if name in settings else "")
    if setting:
        flag = f"--{setting.replace('_', '-')}"
        value = "true" if settings.get(setting) else "VALUE"
        return f"write {flag}" if flag in flags else f"write --set {setting}={value}"
    if name in ACCEPTED:
        return "leave it out; it is so anyway, or has no meaning here"
    if name in RESTRICTED:
        return RESTRICTED[name][1]
    if name in COMBINED:
        return _OF_CONFIG
    return did_you_mean(option, flags).strip(" ()")
