"""Mistakes that are known before a base is loaded, each with the setting that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loratools.errors import LoratoolsError
from loratools.train.config.read import make_config
from loratools.train.dry_run.check import mistakes
from loratools.train.trainer import dry_run


def by_setting(family: str | None = "sd1", **settings: Any) -> dict[tuple[str | int, ...], str]:
    config = make_config({"base": "x", "images": "pictures", **settings}, "test")
    return {place: str(mistake) for place, mistake in mistakes(config, family)}


def test_good_settings_have_none() -> None:
    assert not by_setting(
        block_lr="GP1",
        block_dims="IN=4,OUT03=8",
        sample_prompts=["1girl --ss euler_a"],
        optimizer="RMSprop",
        optimizer_args={"alpha": 0.9},
    )


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({"optimizer": "AdamWW"}, ("optimizer",), "there is no optimizer 'AdamWW' (did you mean 'AdamW'?)"),
        ({"optimizer_args": {"bets": 1}}, ("optimizer_args",), "AdamW takes no argument 'bets'"),
        ({"block_lr": "GP11"}, ("block_lr",), "unknown block preset 'GP11'"),
        ({"conv_block_dims": "IN=1.5", "conv_dim": 4}, ("conv_block_dims",), "1.5, which is no rank"),
        ({"block_alphas": "IN=-1"}, ("block_alphas",), "block_alphas has -1, which cannot be negative"),
        ({"sample_prompts": ["x --q 1"]}, ("sample_prompts",), "there is no option '--q' here"),
        ({"sample_prompts": ["x"], "sample_sampler": "Eulr"}, ("sample_sampler",), "there is no sampler 'Eulr'"),
        ({"images": [{"folder": "a", "mask_folder": "no"}]}, ("images", 0, "mask_folder"), "there is no 'no'"),
        (
            {"images": None, "datasets": [{"images": "a"}, {"images": [{"folder": "b", "metadata_file": "no"}]}]},
            ("datasets", 1, "images", 0, "metadata_file"),
            "there is no 'no'",
        ),
    ],
)
def test_each_mistake_stands_at_its_setting(
    settings: dict[str, Any], place: tuple[str | int, ...], message: str
) -> None:
    messages = by_setting(**settings)
    assert message in messages[place] and set(messages) <= {place, ("optimizer_args",), ("optimizer",)}


def test_a_count_of_numbers_is_judged_by_the_family_once_that_is_known() -> None:
    twelve = ",".join(["1"] * 12)
    assert "takes 17 or 26" in by_setting(block_lr=twelve)["block_lr",]
    assert not by_setting("sdxl", block_lr=twelve) and not by_setting(None, block_lr=twelve)


def test_a_file_of_prompts_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("1girl\nx --ss nobody\n", encoding="utf-8")
    message = by_setting(sample_prompts=str(tmp_path / "p.txt"))["sample_prompts",]
    assert "line 2: there is no sampler 'nobody'" in message


def test_a_run_ends_at_them_before_it_loads_its_base() -> None:
    config = make_config({"base": "no such base", "images": "pictures", "optimizer": "AdamWW"}, "test")
    with pytest.raises(LoratoolsError, match="did you mean 'AdamW'"):
        dry_run(config)
