"""Pictures as a function of block weights: they are those that a merge would draw, and their gradient is the slope."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loratools.adapter.files.file import Adapter, read
from loratools.base import weight_function
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.errors import TuneError
from loratools.ops.merging.terms import Term
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.tune.descent.pictures import SmoothPictures
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.space import Space

SETTINGS = SamplingSettings(3, 3.0, "DDIM", (64, 64))
SHOTS = (Shot("1girl, smile", 3), Shot("red hair", 4))


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), device="cpu")


@pytest.fixture(scope="module")
def terms(trained: Path) -> list[Term]:
    """A LoRA and an earlier epoch of it that is subtracted, so that something is added whatever the point."""
    first, last = (read(trained / f"runs/ink/ink-00000{number}.safetensors") for number in (1, 3))
    return [Term(last, 1.0, label="ink"), Term(first, -0.5, label="first")]


@pytest.mark.parametrize(("kinds", "amount"), [(False, True), (True, False)])
def test_they_are_the_pictures_of_the_stack_and_their_gradient_is_its_slope(
    base: Base, terms: list[Term], kinds: bool, amount: bool
) -> None:
    space = Space.of(terms, kinds=kinds, amount=amount)
    assert kinds == any("/" in name for name in space.names)
    point = space.start + 0.3 * np.random.default_rng(1).standard_normal(len(space.start))
    point[[name == "BASE" for name in space.names]] = 1.0  # text encoders stay where the stack has them
    point = np.clip(point, space.low, space.high)
    smooth = SmoothPictures(base, space, SETTINGS)

    with PopulationRenderer(base, EngineOptions(batch=2)) as renderer:
        jobs = [PictureJob(shot.prompt, shot.seed, SETTINGS) for shot in SHOTS]
        if not amount:  # whose term's text encoder would move too
            drawn = [each.pixels for each in renderer.draw(space.stacks([point]), jobs)]
            own = smooth(torch.tensor(point, dtype=torch.float32), SHOTS).detach()
            np.testing.assert_allclose((255 * own).permute(0, 2, 3, 1).numpy(), np.stack(drawn), atol=1.01)

    base.unet.double()
    base.vae.double()
    precise = SmoothPictures(replace(base, dtype=torch.float64), space, SETTINGS)
    try:
        numbers = torch.tensor(point, dtype=torch.float64, requires_grad=True)
        weights = torch.linspace(-1, 1, 3 * 64 * 64, dtype=torch.float64).reshape(3, 64, 64)
        (gradient,) = torch.autograd.grad((precise(numbers, SHOTS) * weights).sum(), [numbers])
        direction = torch.tensor(np.random.default_rng(2).standard_normal(len(point)))
        with torch.no_grad():
            step = 1e-3 * direction
            up, down = ((precise(numbers + sign * step, SHOTS) * weights).sum() for sign in (1, -1))
        assert float((up - down) / 2e-3) == pytest.approx(float(gradient @ direction), rel=2e-3, abs=1e-6)
        kept = precise(numbers, SHOTS, keep=True)
        torch.testing.assert_close(kept, precise(numbers, SHOTS), rtol=0, atol=0)
    finally:
        base.unet.float()
        base.vae.float()


def test_factors_beside_a_weight_are_the_weight_that_is_formed_of_them(
    base: Base, terms: list[Term], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Space.of(terms, kinds=True)
    point = torch.tensor(space.start + 0.3 * np.random.default_rng(3).standard_normal(len(space.start)))
    weights = torch.linspace(-1, 1, 3 * 64 * 64, dtype=torch.float64).reshape(3, 64, 64)
    modules = sum(1 for name in space.summed if name.startswith("unet."))
    precise = replace(base, dtype=torch.float64)
    base.unet.double()
    base.vae.double()
    try:
        gradients: list[torch.Tensor] = []
        for stays in (lambda module, rank: isinstance(module, torch.nn.Conv2d | torch.nn.Linear), lambda *_: False):
            monkeypatch.setattr(weight_function, "_stays", stays)
            smooth = SmoothPictures(precise, space, SETTINGS)
            both = len(smooth._weights._factors), len(smooth._weights._weights)
            assert both == ((modules, 0) if not gradients else (0, modules))
            numbers = point.clone().requires_grad_()
            gradients += torch.autograd.grad((smooth(numbers, SHOTS) * weights).sum(), [numbers])
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)  # one is formed in float32
        assert gradients[0].abs().max() > 1e-4
        assert not any(module._forward_hooks for module in base.unet.modules())
    finally:
        base.unet.float()
        base.vae.float()


def test_what_no_gradient_leads_through_is_told(base: Base, terms: list[Term], tmp_path: Path) -> None:
    from loratools.measures.request import parse_measures
    from loratools.tune.problem.request import TuneRequest
    from loratools.tune.tuning import tune

    own = TuneRequest(("hands",), measures=parse_measures(("python=math:fsum",)), method="gradient")
    with pytest.raises(TuneError, match=r"'python=math:fsum' has no gradient"):
        tune(base, terms[:1], own, tmp_path / "out")
    request = TuneRequest(("hands",), measures=parse_measures(("marks",)), method="gradient")
    with pytest.raises(TuneError, match="earlier epoch"):
        tune(base, terms[:1], request, tmp_path / "out", earlier=terms[1])
    text = [replace(terms[0], adapter=_text_alone(terms[0], tmp_path))]
    with pytest.raises(TuneError, match="text encoders alone"):
        tune(base, text, request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _text_alone(term: Term, folder: Path) -> Adapter:
    """The LoRA's text encoder part as a file of its own."""
    from safetensors.torch import load_file, save_file

    tensors = {name: own for name, own in load_file(term.adapter.path).items() if name.startswith("lora_te")}
    assert tensors
    save_file(tensors, folder / "te.safetensors")
    return read(folder / "te.safetensors")
