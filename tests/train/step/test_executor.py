"""Steps: what is the same however they are run. What needs a GPU is skipped without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from loratools.adapter.files.file import read
from loratools.errors import TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.distributed import Ranks
from loratools.train.step.batch import Inputs, Micro, Outcome
from loratools.train.step.cuda_graph import device_rates, set_rate
from loratools.train.step.executor import Executor, repays
from loratools.train.step.update import Update
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


class Toy:
    """A factor w (3,) that fits noise: loss = mean (w . x + noise - 1)^2, so its gradients depend on the draws."""

    def __init__(self, device: str, **settings: object) -> None:
        self.device = torch.device(device)
        self.w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], device=device))
        self.optimizer = torch.optim.AdamW([{"params": [self.w], "lr": 0.1, "name": "unet"}], fused=True)
        device_rates(self.optimizer, self.device)
        scaler = torch.amp.GradScaler(device, enabled=bool(settings.pop("fp16", False)))
        self.scaler = scaler
        self.executor = Executor(
            self.work,
            Update(self.optimizer, scaler, clip=0.5),
            self.device,
            Ranks(),
            accumulates=bool(settings.get("accumulates")),
            mode=settings.get("mode", "off"),
        )  # type: ignore[arg-type]

    def work(self, inputs: Inputs, micro: Micro, generator: torch.Generator) -> Outcome:
        noise = torch.randn(micro.total, generator=generator, device=self.device)[micro.first : micro.last]
        dropped = nn.functional.dropout(inputs.mean, 0.5)
        losses = ((dropped * self.w).sum(1) + noise - 1).square()
        loss = losses.mean() * micro.share
        self.scaler.scale(loss).backward()
        return Outcome(loss.detach(), losses.detach(), torch.zeros(len(losses), dtype=torch.int64, device=self.device))

    def run(self, steps: int, micros: int = 1) -> tuple[Tensor, list[float]]:
        losses = []
        for step in range(steps):
            set_rate(self.optimizer.param_groups[0], 0.1 / (1 + step))
            parts = [(inputs(step, part), Micro(0, 2, 2, 1 / micros, 100 * step + part)) for part in range(micros)]
            losses.append(self.executor.step(parts).loss)
        return self.w.detach().cpu().clone(), torch.stack(losses).tolist()


def inputs(step: int, part: int = 0) -> Inputs:
    values = torch.randn(2, 3, generator=torch.Generator().manual_seed(10 * step + part))
    return Inputs(values, torch.zeros(2, 3))


@pytest.fixture(autouse=True)
def _generators() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("device", DEVICES)
def test_one_micro_batch_into_the_flat_buffer_is_a_plain_step(device: str) -> None:
    plain, buffered = Toy(device).run(6), Toy(device, accumulates=True).run(6)
    assert torch.equal(plain[0], buffered[0]) and plain[1] == buffered[1]
    assert not torch.equal(plain[0], torch.tensor([1.0, -2.0, 0.5]))


@pytest.mark.parametrize("device", DEVICES)
def test_micro_batches_add_their_shares(device: str) -> None:
    """Against the step written out by hand: draws by seed, both gradients added, clipped, AdamW."""
    toy = Toy(device, accumulates=True)
    generator, w = torch.Generator(device), nn.Parameter(toy.w.detach().clone())
    total = torch.zeros((), device=device)
    toy_w, (loss,) = toy.run(1, micros=2)
    for part in range(2):
        generator.manual_seed(part)
        toy.executor._seed(part)  # dropout's generator
        noise = torch.randn(2, generator=generator, device=device)
        dropped = nn.functional.dropout(inputs(0, part).mean.to(device), 0.5)
        total = total + 0.5 * ((dropped * w).sum(1) + noise - 1).square().mean()
    total.backward()
    assert loss == pytest.approx(float(total.detach()), rel=1e-6)
    nn.utils.clip_grad_norm_([w], 0.5)
    torch.optim.AdamW([w], lr=0.1, fused=True).step()
    torch.testing.assert_close(toy_w, w.detach().cpu())


def test_the_draws_depend_on_the_seed_and_not_on_what_ran_before() -> None:
    toy = Toy("cpu")
    toy.run(3)
    late = Toy("cpu")
    torch.randn(5)  # someone else's draw from the shared generator
    with torch.no_grad():
        late.w.copy_(toy.w)
    first, second = (each.executor.step([(inputs(9), Micro(0, 2, 2, 1.0, 9))]).loss for each in (toy, late))
    assert torch.equal(first, second)


def test_auto_captures_what_is_repaid_and_only_once_warm() -> None:
    assert not repays("off", eager=9, first=True, left=999)
    assert not repays("on", eager=1, first=True, left=999)
    assert repays("on", eager=1, first=False, left=0)
    assert repays("auto", eager=2, first=True, left=500)
    assert not repays("auto", eager=2, first=True, left=3)


class Refused:
    """Stands for a graph on a machine whose step cannot be captured."""

    def __init__(self) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def test_what_cannot_be_captured_runs_eagerly_or_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Refused)
    eager, asked, forced = Toy("cpu"), Toy("cpu"), Toy("cpu")
    asked.executor._mode = "auto"
    asked.executor.expect({((3, 2), 2): 999})  # two rows of three numbers
    with pytest.warns(UserWarning, match=r"steps run eagerly, .* \(operation not permitted when stream is capturing\)"):
        fallback = asked.run(5)
    assert torch.equal(fallback[0], eager.run(5)[0])
    forced.executor._mode = "on"
    with pytest.raises(TrainingError, match="set graph: off"):
        forced.run(5)


class Waiting(Toy):
    """Its step waits for the device, which a capture refuses."""

    def work(self, inputs: Inputs, micro: Micro, generator: torch.Generator) -> Outcome:
        outcome = super().work(inputs, micro, generator)
        float(outcome.loss)
        return outcome


@GPU
def test_a_step_that_waits_for_the_device_is_run_eagerly() -> None:
    eager, asked = Waiting("cuda"), Waiting("cuda", mode="auto")
    asked.executor.expect({((3, 2), 2): 999})
    with pytest.warns(UserWarning, match="steps run eagerly"):
        fallback = asked.run(5)
    torch.testing.assert_close(fallback[0], eager.run(5)[0], rtol=1e-6, atol=1e-7)


def test_checkpointing_and_prefetching_change_nothing(config: Config, pictures: Pictures) -> None:
    images = pictures(count=3)
    files = []
    for name, settings in (("plain", {"prefetch": 0}), ("kept", {"gradient_checkpointing": True, "prefetch": 2})):
        result = train(config(images, name=name, epochs=1, dtype="fp32", **settings), progress=False)
        files.append(read(result.epochs[0]))
    for name in files[0]:
        torch.testing.assert_close(files[0][name].dense(), files[1][name].dense(), rtol=1e-5, atol=1e-9)


@GPU
@pytest.mark.parametrize("settings", [{}, {"accumulates": True}, {"fp16": True}])
def test_replayed_steps_are_the_eager_ones(settings: dict[str, object]) -> None:
    micros = 2 if settings.get("accumulates") else 1
    eager, graph = (Toy("cuda", **settings, mode=mode).run(12, micros) for mode in ("off", "on"))
    torch.testing.assert_close(eager[0], graph[0], rtol=1e-6, atol=1e-7)
    assert eager[1] == pytest.approx(graph[1], rel=1e-6)


@GPU
def test_a_run_as_graphs_equals_an_eager_one(config: Config, pictures: Pictures) -> None:
    images = pictures(count=4)
    files = []
    for mode in ("off", "on"):
        settings = config(
            images,
            name=mode,
            epochs=1,
            repeats=8,
            graph=mode,
            device="cuda",
            dtype="fp32",
            mixed_precision="no",
            learning_rate=1e-3,
        )
        files.append(read(train(settings, progress=False).epochs[0]))
    eager, graph = files
    apart = sum(float((eager[name].dense() - graph[name].dense()).norm()) ** 2 for name in eager)
    assert apart <= (1e-2) ** 2 * sum(delta.norm() ** 2 for delta in eager.values())
