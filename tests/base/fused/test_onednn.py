"""oneDNN's forwards: the same numbers, also after a patch, beside branches and without packing; and taken out again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from loratools.base.fused import onednn
from loratools.base.fused.onednn import OneDnnModules
from loratools.base.model import Base
from loratools.base.patching.patch import Patcher
from loratools.base.sampling.sample import decode
from tests.base.patching.test_patch import changed, random_deltas, weights

pytestmark = pytest.mark.skipif(not onednn.supported(), reason="this torch has no oneDNN")


def forwards(base: Base) -> list[Any]:
    return [module for model in (base.unet, base.vae) for module in model.modules() if "forward" in vars(module)]


def test_looking_whether_it_is_there_leaves_random_numbers_as_they_are() -> None:
    random = torch.get_rng_state()
    onednn.supported.cache_clear()
    assert onednn.supported() and torch.equal(random, torch.get_rng_state())


@torch.no_grad()
def outputs(base: Base, rows: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(rows, 4, 8, 8, generator=generator)
    hidden = torch.randn(rows, 77, base.unet.config.cross_attention_dim, generator=generator)
    return base.unet(latents, torch.tensor(500), encoder_hidden_states=hidden, return_dict=False)[0], decode(
        base, latents[:1]
    )


@pytest.mark.parametrize("packed", [True, False])
def test_the_numbers_are_the_modules_own_also_after_a_patch(
    base: Base, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packed:
        monkeypatch.setattr(onednn, "_MOST_PACKED", 0)
    before, kernels, patcher = weights(base), OneDnnModules([base.unet, base.vae]), Patcher(base)
    plain = outputs(base)
    deltas = random_deltas(base, conv=True)
    with patcher.applied(deltas):
        patched = outputs(base)
    kernels.install()
    assert len(forwards(base)) > 100
    for expected, made in zip(plain, outputs(base), strict=True):
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    with patcher.applied(deltas):  # the packed weights are made anew
        for expected, made in zip(patched, outputs(base), strict=True):
            torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    for expected, made in zip(plain, outputs(base), strict=True):
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    assert (patched[0] - plain[0]).abs().max() > 0.01
    kernels.remove()
    assert not forwards(base) and not changed(before, base)
    assert all(torch.equal(one, two) for one, two in zip(outputs(base), plain, strict=True))


def test_a_forward_of_somebody_elses_stays_and_its_product_is_seen(base: Base) -> None:
    """A branch beside a GEGLU's projection is not passed by."""
    gated = next(module for module in base.unet.modules() if type(module).__name__ == "GEGLU")
    projection, kernels = gated.proj, OneDnnModules([base.unet])
    x = torch.linspace(-1, 1, 3 * projection.in_features).reshape(1, 3, -1)
    kernels.install()
    try:
        with torch.no_grad():
            own = projection.forward
            projection.forward = lambda x: 2 * own(x)
            twice = gated(x)
            projection.forward = own
            once = gated(x)
            hidden, gate = own(x).chunk(2, -1)
        torch.testing.assert_close(once, hidden * torch.nn.functional.gelu(gate))
        torch.testing.assert_close(twice, 2 * hidden * torch.nn.functional.gelu(2 * gate))
    finally:
        kernels.remove()
    assert not forwards(base)


def test_without_the_operations_everything_stays_as_it_is(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(onednn, "supported", onednn.supported.__wrapped__)
    kernels = OneDnnModules([base.unet])
    kernels.install()
    assert not forwards(base)
    kernels.remove()
