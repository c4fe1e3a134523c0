"""One whole optimisation step (draw a batch, forward, backward, AdamW, average) as one CUDA graph.

The speed of models this small is bound by kernel launches, and a captured graph replays the step with a single one.
Weights are bfloat16 copies of float32 masters, so that autocast is not needed. Without CUDA the same step runs eagerly
in float32.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tools.build_pocket.settings import Training


class Trainer:
    """Minimise ``loss_of()`` over the parameters of ``models``; ``loss_of`` draws its own batch on the device."""

    def __init__(
        self, models: Sequence[nn.Module], loss_of: Callable[[], Tensor], training: Training, device: str
    ) -> None:
        self.training, self.loss_of, self.device = training, loss_of, torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.params: list[Tensor] = [p for model in models for p in model.parameters()]
        self.masters = [p.detach().float().clone().requires_grad_() for p in self.params]
        for master in self.masters:
            master.grad = torch.zeros_like(master)
        self.gradients = [master.grad for master in self.masters if master.grad is not None]
        self.averages = [master.detach().clone() for master in self.masters]
        self.rate = torch.tensor(0.0, device=self.device)
        self.optimizer = torch.optim.AdamW(
            self.masters,
            lr=self.rate,
            weight_decay=training.decay,
            betas=(0.9, 0.99),
            capturable=self.cuda,
            fused=self.cuda,
        )
        self.loss = torch.zeros((), device=self.device)
        self.total = torch.zeros((), device=self.device)

    def _step(self) -> None:
        for p in self.params:
            p.grad = None
        loss = self.loss_of()
        loss.backward()
        torch._foreach_copy_(self.gradients, [p.grad for p in self.params if p.grad is not None])
        nn.utils.clip_grad_norm_(self.masters, self.training.clip, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(self.params, self.masters)
            torch._foreach_lerp_(self.averages, self.masters, 1 - self.training.average)
            self.total.add_(loss.detach().float())

    def _capture(self) -> Callable[[], None]:
        if not self.cuda:
            return self._step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(4):
                self._step()  # at rate 0: warms up cuDNN's choices and the allocator
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def rate_at(self, step: int, progress: float) -> float:
        """Warm-up, then a cosine down to ``floor`` of the rate as ``progress`` goes from 0 to 1."""
        training = self.training
        wave = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return training.rate * min(1.0, (step + 1) / training.warmup) * (training.floor + (1 - training.floor) * wave)

    def run(self, name: str, seconds: float, log: Path, window: int = 50) -> float:
        """Do the planned steps, or as many as ``seconds`` allow: the cosine ends with whichever ends first.

        Returns the mean loss of the last window; appends one JSON line a window to ``log``.
        """
        step_once = self._capture()
        began, step, progress, mean = time.perf_counter(), 0, 0.0, math.nan
        while progress < 1:
            self.total.zero_()
            for _ in range(min(window, self.training.steps - step)):
                self.rate.fill_(self.rate_at(step, progress))
                step_once()
                step += 1
            mean = float(self.total) / ((step - 1) % window + 1)
            spent = time.perf_counter() - began
            progress = max(step / self.training.steps, spent / seconds)
            _report({"stage": name, "step": step, "loss": round(mean, 5), "seconds": round(spent, 1)}, log)
            if not math.isfinite(mean):
                raise SystemExit(f"{name}: the loss is not a number at step {step}")
        return mean

    def use_averages(self) -> None:
        """Copy the averaged weights into the models."""
        with torch.no_grad():
            torch._foreach_copy_(self.params, self.averages)


def _report(line: dict[str, object], log: Path) -> None:
    text = json.dumps(line)
    print(text, flush=True)
    with open(log, "a", encoding="utf-8") as stream:
        stream.write(text + "\n")
