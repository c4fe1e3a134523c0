"""Optimisers by name: each against its library's own class, and what the loop needs from all of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.adapter.files.file import read
from loratools.errors import TrainingError, UnavailableError
from loratools.train.config.config import TrainConfig
from loratools.train.config.optimizer import OptimizerConfig
from loratools.train.optim.optimizers import build_optimizer, effective_rates, optimizer_class, optimizer_modes
from loratools.train.trainer import train

CONSTANT = {"lr_scheduler": "constant"}
# name -> the package it needs, its class there, settings of ours, the same arguments for the class
NAMED: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "Lion": ("lion_pytorch", "lion_pytorch.lion_pytorch.Lion", {}, {}),
    "Prodigy": ("prodigyopt", "prodigyopt.prodigy.Prodigy", {"learning_rate": 1}, {"lr": 1}),
    "AdamWScheduleFree": ("schedulefree", "schedulefree.adamw_schedulefree.AdamWScheduleFree", CONSTANT, {}),
    "RAdamScheduleFree": ("schedulefree", "schedulefree.radam_schedulefree.RAdamScheduleFree", CONSTANT, {}),
    "SGDScheduleFree": ("schedulefree", "schedulefree.sgd_schedulefree.SGDScheduleFree", CONSTANT, {}),
    "Adafactor": (
        "transformers",
        "transformers.optimization.Adafactor",
        {"optimizer_args": {"relative_step": False}},
        {"relative_step": False},
    ),
    "SGDNesterov": ("torch", "torch.optim.sgd.SGD", {}, {"momentum": 0.9, "nesterov": True}),
    "AdamW8bit": ("bitsandbytes", "bitsandbytes.optim.adamw.AdamW8bit", {}, {}),
    "PagedAdamW8bit": ("bitsandbytes", "bitsandbytes.optim.adamw.PagedAdamW8bit", {}, {}),
    "Lion8bit": ("bitsandbytes", "bitsandbytes.optim.lion.Lion8bit", {}, {}),
    "SGDNesterov8bit": ("bitsandbytes", "bitsandbytes.optim.sgd.SGD8bit", {}, {"momentum": 0.9, "nesterov": True}),
}
FREE = ("AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree")


def config(name: str, **given: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate({"optimizer": name, "learning_rate": 0.02, **given})


def groups(config: OptimizerConfig) -> list[dict[str, Any]]:
    """Two factors of 8-bit optimisers' least size, as the loop groups them."""
    torch.manual_seed(1)
    rates = zip(("text_encoder", "unet"), config.learned_rates()[::-1], strict=True)
    return [
        {"params": [torch.nn.Parameter(torch.randn(64, 65))], "lr": rate, "base_lr": rate, "name": name}
        for name, rate in rates
        if rate
    ]


def descend(optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> torch.Tensor:
    """Steps down a bowl with a slope that changes; the first factor, as it is trained."""
    for step in range(first, first + steps):
        for factor in factors(optimizer):
            factor.grad = factor.detach() - 0.1 * step
        optimizer.step()
    return factors(optimizer)[0].detach().clone()


def factors(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [factor for group in optimizer.param_groups for factor in group["params"]]


@pytest.mark.filterwarnings("ignore:Paged optimizers")
@pytest.mark.parametrize("name", NAMED)
def test_a_short_name_is_the_librarys_own_class(name: str) -> None:
    package, path, given, arguments = NAMED[name]
    pytest.importorskip(package)
    asked = config(name.lower(), **given)
    ours = build_optimizer(asked, groups(asked))
    assert path in {f"{kind.__module__}.{kind.__name__}" for kind in type(ours).__mro__}
    peer: Any = optimizer_class(path)(groups(asked), **{"lr": 0.02, **arguments})  # type: ignore[call-arg]
    if name in FREE:
        peer.train()
    assert torch.equal(descend(ours, 4), descend(peer, 4))


@pytest.mark.filterwarnings("ignore:Paged optimizers")
@pytest.mark.parametrize("name", ["AdamW", *NAMED])
def test_a_saved_state_goes_on_bit_for_bit(name: str) -> None:
    package, _, given, _ = NAMED.get(name, ("torch", "", {}, {}))
    pytest.importorskip(package)
    asked = config(name, **given)
    whole = build_optimizer(asked, groups(asked))
    descend(whole, 3)
    middle, saved = [factor.detach().clone() for factor in factors(whole)], io.BytesIO()
    torch.save(whole.state_dict(), saved)
    wanted = descend(whole, 3, first=3)
    again = build_optimizer(asked, groups(asked))
    with torch.no_grad():
        for factor, before in zip(factors(again), middle, strict=True):
            factor.copy_(before)
    saved.seek(0)
    again.load_state_dict(torch.load(saved, weights_only=True))
    assert torch.equal(descend(again, 3, first=3), wanted)


def test_torchs_own_are_found_in_any_case_and_by_path() -> None:
    assert optimizer_class("adamw") is torch.optim.AdamW
    assert optimizer_class("torch.optim.Adafactor") is torch.optim.Adafactor
    assert optimizer_class("Adafactor").__base__ is optimizer_class("transformers.optimization.Adafactor")
    built = build_optimizer(config("AdamW", optimizer_args={"weight_decay": 0.5}), groups(config("AdamW")))
    assert built.param_groups[0]["weight_decay"] == 0.5 and built.param_groups[0]["fused"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AdamW8bits", "no optimizer 'AdamW8bits'.*did you mean 'AdamW8bit'.*Prodigy"),
        ("no.such.Thing", "cannot be imported"),
        ("math.sqrt", "is not an optimizer"),
        ("DAdaptAdam", "no longer maintained.*Prodigy with learning_rate: 1"),
    ],
)
def test_others_are_refused(name: str, message: str) -> None:
    with pytest.raises((TrainingError, UnavailableError), match=message):
        optimizer_class(name)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lion_pytorch", None)
    with pytest.raises(UnavailableError, match=r"pip install lion-pytorch, or loratools\[optim\]"):
        optimizer_class("Lion")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("AdamW", {"optimizer_args": {"weight_decays": 0.5}}, r"'weight_decays' \(did you mean 'weight_decay'"),
        ("AdamW", {"optimizer_args": {"betas": 3}}, "correct optimizer_args"),
        ("Prodigy", {}, None),
        ("Prodigy", {"learning_rate": 1e-4}, "set learning_rate: 1"),
        ("Prodigy", {"learning_rate": 1, "te_lr": 0.5}, "unet_lr and te_lr are 1 and 0.5"),
        ("AdamWScheduleFree", {}, "set lr_scheduler: constant"),
        ("Adafactor", {"optimizer_args": {"relative_step": False, "warmup_init": True}}, "refuses its settings"),
    ],
)
def test_settings_that_an_optimizer_cannot_use(name: str, given: dict[str, Any], message: str | None) -> None:
    package = {"Prodigy": "prodigyopt", "AdamWScheduleFree": "schedulefree"}.get(name, "torch")
    pytest.importorskip(package)
    asked = config(name, **given)
    if message is None:
        build_optimizer(asked, groups(asked))
        return
    with pytest.raises(TrainingError, match=message):
        build_optimizer(asked, groups(asked))


def test_schedule_free_weights_are_averaged_inside_and_untouched_outside() -> None:
    pytest.importorskip("schedulefree")
    asked = config("AdamWScheduleFree", **CONSTANT)
    optimizer = build_optimizer(asked, groups(asked))
    trained, factor = descend(optimizer, 3), optimizer.param_groups[0]["params"][0]
    z = optimizer.state[factor]["z"]
    with optimizer_modes(optimizer):
        torch.testing.assert_close(factor.detach(), (trained - 0.1 * z) / 0.9)  # y = 0.9 x + 0.1 z
    assert torch.equal(factor, trained)
    descend(optimizer, 1)  # it goes on training
    plain = build_optimizer(config("AdamW"), groups(config("AdamW")))
    with optimizer_modes(plain):
        descend(plain, 1)


def test_the_rates_that_are_told_are_those_that_count() -> None:
    names = {"text_encoder": 1.0, "unet": 1.0}
    plain = build_optimizer(config("SGD"), groups(config("SGD")))
    assert effective_rates(plain, names) == names
    asked = config("Adafactor")
    with pytest.warns(UserWarning, match="relative_step: false"):
        relative = build_optimizer(asked, groups(asked))
    assert effective_rates(relative, names)["unet"] == 1e-2
    pytest.importorskip("prodigyopt")
    asked = config("Prodigy", learning_rate=1)
    prodigy = build_optimizer(asked, groups(asked))
    before = effective_rates(prodigy, names)["unet"]
    descend(prodigy, 5)
    assert before == 1e-6 and effective_rates(prodigy, names)["unet"] > before


def test_a_run_saves_the_average_and_goes_on_from_the_state(
    config: Callable[..., TrainConfig], pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedule-free through the whole loop: one run of two epochs is one of one, resumed; files hold the average."""
    pytest.importorskip("schedulefree")
    images, common = pictures(count=2), {"optimizer": "AdamWScheduleFree", "dtype": "fp32", **CONSTANT}
    whole = train(config(images, name="whole", **common), progress=False).epochs
    train(config(images, name="parts", epochs=1, **common), progress=False)
    parts = train(config(images, name="parts", epochs=2, resume=True, **common), progress=False).epochs
    for one, other in zip(whole, parts, strict=True):
        first, second = read(one), read(other)
        assert all(torch.equal(first[name].dense(), second[name].dense()) for name in first)
    monkeypatch.setattr("schedulefree.AdamWScheduleFree.eval", lambda _: None)
    raw = read(train(config(images, name="raw", **common), progress=False).epochs[-1])
    assert any(not torch.equal(raw[name].dense(), first[name].dense()) for name in first)
