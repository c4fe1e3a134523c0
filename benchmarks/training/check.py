"""Whether a step captured as a CUDA graph computes what the eager step does, to the last bit.

Two eager runs in mixed precision already drift apart: kernels that add in whatever order their threads finish, and an
optimiser that divides by the square root of a second moment, make a change in the last bit of one step a change in the
second digit of a weight after fifty. So everything that may differ is taken away first: float32 throughout, no TF32,
kernels that add in a fixed order, attention by its formula, and cuDNN's choice by rule and not by stopwatch. Then two
eager runs have to be equal (the control), a run of another seed has to differ (what the measure can see), and the
graph has to equal the eager run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.training.bench import Bench


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Fixed-order kernels only, in full float32. CUBLAS_WORKSPACE_CONFIG has to be set for the process."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


def compared(bench: Bench, steps: int) -> Iterator[dict[str, Any]]:
    """A row for each pair of runs of ``steps`` steps of one picture: the greatest relative difference of a factor."""
    eager = _run(bench, steps, graph="off")
    yield _row("control: eager against eager", eager, _run(bench, steps, graph="off"))
    yield _row("graph against eager", eager, _run(bench, steps, graph="on"))
    yield _row("another seed, which has to differ", eager, _run(bench, steps, graph="on", seed=8))
    eager = _run(bench, steps, graph="off", gradient_accumulation=2)
    yield _row("graph against eager, accumulation 2", eager, _run(bench, steps, graph="on", gradient_accumulation=2))


_Run = tuple[Mapping[str, Tensor], list[float]]


def _run(bench: Bench, steps: int, **settings: Any) -> _Run:
    """The factors after ``steps`` pictures, and every loss on the way."""
    settings = {"seed": 7, "learning_rate": 1e-3, **settings}
    losses = [record.loss for record in bench.trained(1, steps, by_rule=True, **settings)]
    return {name: factor.clone() for name, factor in bench.run.trained.network.state().items()}, losses


def _row(name: str, one: _Run, other: _Run) -> dict[str, Any]:
    (before, losses), (after, others) = one, other
    apart = max(float((before[key] - after[key]).norm() / before[key].norm().clamp(min=1e-12)) for key in before)
    return {
        "name": name,
        "steps": len(losses),
        "weights": apart,
        "losses": max(abs(a - b) / abs(a) for a, b in zip(losses, others, strict=True)),
        "equal_to_the_bit": all(torch.equal(before[key], after[key]) for key in before) and losses == others,
    }
