"""What a dry run says of a preset is true of the config."""

from __future__ import annotations

import pytest

from loratools.train.config.read import make_config
from loratools.train.dry_run.preset_numbers import preset_line, preset_source

OF_SD_SCRIPTS = {"dim": 4, "alpha": 1, "learning_rate": 1e-6, "lr_scheduler": "constant"}


@pytest.mark.parametrize(
    ("settings", "line", "source"),
    [
        ({}, "preset default", "the middle road"),
        ({"dim": 8}, "preset default but for dim 8", ""),
        ({"batch_size": 4, "dim": 32, "unet_lr": 1e-4}, "preset default", "the middle road"),
        (
            {"dim": 4, "alpha": 1, "learning_rate": 1e-6, "lr_scheduler": "constant"},
            "with the config's own numbers",
            "",
        ),
        ({"preset": "style-004"}, "preset style-004", "guide 004"),
        (
            {"preset": "style-004", "te_lr": 5e-5, "epochs": 12, "alpha": 16},
            "preset style-004 but for epochs 12, alpha 16, rates 0.0001 and 5e-05",
            "guide 004",
        ),
        ({"preset": "scene", "repeats": 2}, "preset scene but for repeats 2", "guide 000"),
        ({"preset": "pocket-style", "lr_warmup": 3}, "preset pocket-style but for lr_warmup 3", "guide 004"),
    ],
)
def test_a_preset_is_named_with_what_differs(settings: dict[str, object], line: str, source: str) -> None:
    config = make_config({"base": "x", "images": "pictures", **settings}, "test")
    assert preset_line(config) == line
    assert preset_source(config).startswith(source) and bool(preset_source(config)) == bool(source)
