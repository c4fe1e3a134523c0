from __future__ import annotations

import numpy as np
import pytest
import torch

from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.prompt.guidance import StaticGuidance
from loratools.base.sampling.noise import Philox, SeededDraws, initial_latents, philox
from loratools.base.sampling.noise_kinds import NOISE_KINDS, check_kind, kind_of
from loratools.base.sampling.sample import Sampling, denoise
from loratools.base.sampling.samplers import find_sampler
from loratools.errors import GridError


@pytest.mark.parametrize(
    ("counter", "key", "wanted"),
    [
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: list[int], key: list[int], wanted: list[int]) -> None:
    """The known-answer vectors of Random123, the library of the algorithm's authors."""
    got = philox(np.array(counter, dtype=np.uint64)[:, None], np.array(key, dtype=np.uint64))
    assert got.flatten().tolist() == wanted


def test_normal_numbers_are_cudas() -> None:
    """``torch.manual_seed(0); torch.randn(3, 4, device="cuda")``, as many have printed it."""
    wanted = torch.tensor(
        [
            [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
            [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
            [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
        ]
    )
    torch.testing.assert_close(Philox(0).normal((3, 4)), wanted, rtol=0, atol=2e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("seed", [0, 1234, 2**33 + 5])
def test_normal_numbers_are_this_cards(seed: int) -> None:
    card, own = torch.Generator("cuda").manual_seed(seed), Philox(seed)
    for _ in range(3):
        wanted = torch.randn((4, 64, 96), device="cuda", generator=card).cpu()
        torch.testing.assert_close(own.normal((4, 64, 96)), wanted, rtol=1e-5, atol=1e-5)


def test_a_seed_and_a_size_make_the_noise() -> None:
    for kind in NOISE_KINDS:
        one = initial_latents(kind, 7, (64, 32))
        assert one.shape == (1, 4, 8, 4) and one.dtype == torch.float32
        assert torch.equal(one, initial_latents(kind, 7, (64, 32)))
        assert not torch.equal(one, initial_latents(kind, 8, (64, 32)))
        wide = initial_latents(kind, 7, (512, 512))
        assert abs(wide.mean().item()) < 0.03 and abs(wide.std().item() - 1) < 0.02
    high = initial_latents("webui-gpu", 7 + 2**32, (64, 32))
    assert not torch.equal(initial_latents("webui-gpu", 7, (64, 32)), high)
    assert torch.equal(initial_latents("own", 7, (64, 32)), initial_latents("webui-cpu", 7, (64, 32)))
    assert not torch.equal(initial_latents("own", 7, (64, 32)), initial_latents("webui-gpu", 7, (64, 32)))


def test_each_draw_is_another() -> None:
    stream = Philox(3)
    assert not torch.equal(stream.normal((8,)), stream.normal((8,)))


def test_unknown_kinds_are_told() -> None:
    assert check_kind("webui-gpu") == "webui-gpu"
    assert [kind_of(name) for name in ("CPU", "NV", "GPU", None)] == ["webui-cpu", *["webui-gpu"] * 3]
    with pytest.raises(GridError, match="did you mean 'webui-gpu'"):
        check_kind("webui_gpu")


def denoised(base: Base, kind: str, seeds: list[int], sampler: str = "Euler a") -> torch.Tensor:
    cond, uncond = condition(base, ["a"] * len(seeds)), condition(base, [""] * len(seeds))
    latents = torch.cat([initial_latents("own", 1, (64, 64))] * len(seeds))
    return denoise(base, StaticGuidance(cond, uncond), latents, seeds, Sampling(3, 4.0, sampler, kind))


def test_step_noise_is_the_kinds_and_each_pictures_own(base: Base) -> None:
    both = denoised(base, "webui-gpu", [3, 4])
    torch.testing.assert_close(both[1:], denoised(base, "webui-gpu", [4]), rtol=1e-4, atol=1e-4)
    assert (both[1:] - denoised(base, "own", [4])).abs().max() > 1e-2
    assert (both[0] - both[1]).abs().max() > 1e-2
    cards, cpus = (denoised(base, f"webui-{name}", [4], "Euler") for name in ("gpu", "cpu"))
    assert torch.equal(cards, cpus)  # draws nothing
    assert (denoised(base, "webui-cpu", [4]) - both[1:]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize(
    "sampler", ["DPM++ 2S a Karras", "DPM++ SDE Karras", "DPM++ 3M SDE", "DPM2 a", "DPM fast", "LCM"]
)
def test_a_pictures_noise_is_its_own_in_any_batch(base: Base, kind: str, sampler: str) -> None:
    both, again = denoised(base, kind, [3, 4], sampler), denoised(base, kind, [3, 4], sampler)
    assert torch.equal(both, again)
    torch.testing.assert_close(both[1:], denoised(base, kind, [4], sampler), rtol=1e-3, atol=1e-3)
    assert (both[0] - both[1]).abs().max() > 1e-2


def test_an_ancestral_step_adds_the_streams_second_draw(base: Base) -> None:
    """Euler a by hand for one step of a zero prediction, whose noise alone is left."""
    moved = []
    for kind in ("own", "webui-gpu"):
        scheduler = find_sampler("Euler a").scheduler(base.scheduler_config)
        scheduler.set_timesteps(4)
        zero = torch.zeros(1, 4, 8, 8)
        with SeededDraws(kind, [5], (4, 8, 8)) as draws:
            drawn = draws.generators
            moved.append(scheduler.step(zero, scheduler.timesteps[0], zero, generator=drawn, return_dict=False)[0])
        start, end = scheduler.sigmas[:2]
        up = (end**2 * (start**2 - end**2) / start**2) ** 0.5
        moved[-1] = moved[-1] / up
    plain = torch.Generator().manual_seed(5)
    torch.randn(1, 4, 8, 8, generator=plain)
    stream = Philox(5)
    stream.normal((1, 4, 8, 8))
    torch.testing.assert_close(moved[0], torch.randn(1, 4, 8, 8, generator=plain), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved[1], stream.normal((1, 4, 8, 8)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_draws_in_half_precision_are_those_of_float32_rounded(kind: str, dtype: torch.dtype) -> None:
    """Torch's own in half precision are not: some versions draw other numbers of the same seed altogether."""
    shape = (1, 4, 8, 8)
    with SeededDraws(kind, [5, 6], (4, 8, 8)) as whole:
        wanted = [torch.randn(shape, generator=own) for own in whole.generators]
    with SeededDraws(kind, [5, 6], (4, 8, 8)) as draws:
        half = [torch.randn(shape, generator=own, dtype=dtype, device="cpu") for own in draws.generators]
        other = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    assert all(torch.equal(a.to(dtype), b) for a, b in zip(wanted, half, strict=True))
    assert not torch.equal(wanted[0], wanted[1]) and not torch.equal(wanted[0], initial_latents(kind, 5, (64, 64)))
    assert torch.equal(other, initial_latents("own", 5, (64, 64)))  # anybody else's are left alone
