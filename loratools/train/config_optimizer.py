"""Settings of the optimiser and of its learning rates over a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scheduler = Literal[
    "cosine", "constant", "linear", "constant_with_warmup", "cosine_with_warmup", "cosine_with_restarts", "polynomial",
    "cosine_with_min_lr", "warmup_stable_decay", "inverse_sqrt", "piecewise_constant",
]  # fmt: skip


class OptimizerConfig(BaseModel):
    """How the factors are moved.

    ``unet_lr`` and ``te_lr`` None are ``learning_rate``, and 0 leaves that part untrained. ``lr_warmup`` and
    ``lr_decay`` are steps, a fraction of all steps (below 1), or text such as ``10%``. ``lr_min_ratio`` is the share of
    the rate that cosine_with_min_lr, warmup_stable_decay and polynomial end at; ``lr_rules`` is piecewise_constant's
    ``1:100,0.5:200,0.1``: the rate times 1 for the first 100 steps, 0.5 until 200, 0.1 after them.
    """

    learning_rate: Rate = 1e-4
    unet_lr: Rate | None = None
    te_lr: Rate | None = None
    optimizer: str = "AdamW"
    optimizer_args: Mapping[str, Any] = Field(default_factory=dict)
    lr_scheduler: Scheduler = "cosine"
    lr_warmup: float | str = 0
    lr_decay: float | str = 0  # of warmup_stable_decay
    lr_cycles: Annotated[int, Field(ge=1)] = 1  # of cosine_with_restarts; half-waves of the two that end at a minimum
    lr_power: Annotated[float, Field(gt=0)] = 1.0  # of polynomial
    lr_min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    lr_timescale: Annotated[int, Field(ge=1)] | None = None  # of inverse_sqrt; None: the warm-up, or 10000
    lr_rules: str = ""
    max_grad_norm: Rate = 1.0  # 0: no clipping

    @field_validator("lr_warmup", "lr_decay")
    @classmethod
    def _steps(cls, value: float | str) -> float:
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < 0 or (text.endswith("%") and number > 1):
            raise ValueError(f"{value}: give steps (100), a fraction (0.1) or a percentage (10%)")
        return number

    @model_validator(mode="after")
    def _schedule(self) -> OptimizerConfig:
        needed = {"piecewise_constant": ("lr_rules", ""), "warmup_stable_decay": ("lr_decay", 0)}
        for name, (setting, nothing) in needed.items():
            given = getattr(self, setting) != nothing
            if given != (self.lr_scheduler == name):
                raise ValueError(f"lr_scheduler {name} needs {setting}" if not given else
                                 f"{setting} is for lr_scheduler {name}; leave it out")  # fmt: skip
        ending = ("cosine_with_min_lr", "warmup_stable_decay", "polynomial")
        if self.lr_min_ratio and self.lr_scheduler not in ending:
            raise ValueError(f"lr_min_ratio is for lr_scheduler {', '.join(ending[:2])} or {ending[2]}; leave it out")
        if self.lr_timescale is not None and self.lr_scheduler != "inverse_sqrt":
            raise ValueError("lr_timescale is for lr_scheduler inverse_sqrt; leave it out")
        rules(self.lr_rules)
        return self

    def learned_rates(self) -> tuple[float, float]:
        """``(unet, text encoder)`` learning rates; 0 for a part that is not trained."""
        rates = (self.unet_lr, self.te_lr)
        unet, text = (self.learning_rate if rate is None else rate for rate in rates)
        return unet, text


def rules(text: str) -> list[tuple[float, float]]:
    """``1:100,0.1`` as ``[(1.0, 100.0), (0.1, inf)]``: factors, each until its step.

    Raises:
        ValueError: if it is not written so, or the steps do not rise.
    """
    found: list[tuple[float, float]] = []
    parts = [part for part in text.split(",") if part.strip()]
    for number, part in enumerate(parts, 1):
        factor, colon, until = part.partition(":")
        last = number == len(parts)
        try:
            found.append((float(factor), math.inf if last else int(until)))
        except ValueError as error:
            raise ValueError(f"lr_rules '{text}': write factor:step,...,factor, such as 1:100,0.1") from error
        if (last and colon) or not 0 <= found[-1][0] < math.inf:
            raise ValueError(f"lr_rules '{text}': the last is a factor without a step, and none is below 0")
    if any(later[1] <= earlier[1] for earlier, later in itertools.pairwise(found)):
        raise ValueError(f"lr_rules '{text}': each step must be above the one before")
    return found
