"""Settings of the optimiser and of its learning rates over a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from loratools.validation import conflict

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scheduler = Literal[
    "cosine",
    "constant",
    "linear",
    "constant_with_warmup",
    "cosine_with_warmup",
    "cosine_with_restarts",
    "polynomial",
    "cosine_with_min_lr",
    "warmup_stable_decay",
    "inverse_sqrt",
    "piecewise_constant",
]


def steps_or_share(value: float | str) -> float:
    """A number of steps (1 or more), or a share of the run (below 1): ``100``, ``0.1`` or ``10%``.

    ``100%`` is the largest number below 1, since 1 is one step.

    Raises:
        ValueError: for anything else.
    """
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    share = text.endswith("%")
    if not math.isfinite(number) or number < 0 or (share and number > 100):
        raise ValueError(f"{value}: give steps (100), a fraction (0.1) or a percentage (10%)")
    return min(number / 100, math.nextafter(1, 0)) if share else number


class OptimizerConfig(BaseModel):
    """How the factors are moved, and how fast over a run."""

    learning_rate: Rate = Field(default=1e-4, description="of all that is trained, where nothing else is said")
    unet_lr: Rate | None = Field(
        default=None, description="of the UNet; 0 leaves it untrained; `learning_rate` if left out"
    )
    te_lr: Rate | None = Field(
        default=None, description="of the text encoder; 0 leaves it untrained; `learning_rate` if left out"
    )
    te2_lr: Rate | None = Field(
        default=None, description="of SDXL's second text encoder; 0 leaves it untrained; `te_lr` if left out"
    )
    optimizer: str = Field(
        default="AdamW", description="AdamW, AdamW8bit, Prodigy, Lion and others; see docs/training.md"
    )
    optimizer_args: Mapping[str, Any] = Field(
        default_factory=dict, description="the optimiser's own arguments, such as `{weight_decay: 0.1}`"
    )
    lr_scheduler: Scheduler = Field(default="cosine", description="how the rates go over the run")
    lr_warmup: float | str = Field(
        default=0, description="steps, or a share of all (0.1, 10%), in which the rates rise from 0"
    )
    lr_decay: float | str = Field(
        default=0, description="warmup_stable_decay: steps, or a share of all, in which the rates fall"
    )
    lr_cycles: Annotated[int, Field(ge=1)] = Field(
        default=1, description="cosine_with_restarts: waves; half-waves of the two that end at a minimum"
    )
    lr_power: Annotated[float, Field(gt=0)] = Field(default=1.0, description="polynomial: its power")
    lr_min_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="share of the rate at the end of cosine_with_min_lr, warmup_stable_decay and polynomial",
    )
    lr_timescale: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="inverse_sqrt: its time scale in steps; the warm-up, or 10000, if left out"
    )
    lr_rules: str = Field(
        default="",
        description="piecewise_constant: `1:100,0.5:200,0.1` is x 1 for 100 steps, x 0.5 until 200, then x 0.1",
    )
    max_grad_norm: Rate = Field(default=1.0, description="gradients are scaled down to this norm; 0: never")

    @field_validator("lr_warmup", "lr_decay")
    @classmethod
    def _steps(cls, value: float | str) -> float:
        return steps_or_share(value)

    @field_validator("lr_rules")
    @classmethod
    def _readable(cls, value: str) -> str:
        parse_lr_rules(value)
        return value

    @model_validator(mode="after")
    def _schedule(self) -> OptimizerConfig:
        needed = {"piecewise_constant": ("lr_rules", ""), "warmup_stable_decay": ("lr_decay", 0)}
        for name, (setting, nothing) in needed.items():
            given = getattr(self, setting) != nothing
            if given != (self.lr_scheduler == name):
                if given:
                    raise conflict(setting, f"{setting} is for lr_scheduler {name}; leave it out")
                raise conflict("lr_scheduler", f"lr_scheduler {name} needs {setting}")
        ending = ("cosine_with_min_lr", "warmup_stable_decay", "polynomial")
        if self.lr_min_ratio and self.lr_scheduler not in ending:
            raise conflict(
                "lr_min_ratio", f"lr_min_ratio is for lr_scheduler {', '.join(ending[:2])} or {ending[2]}; leave it out"
            )
        if self.lr_timescale is not None and self.lr_scheduler != "inverse_sqrt":
            raise conflict("lr_timescale", "lr_timescale is for lr_scheduler inverse_sqrt; leave it out")
        return self

    def learned_rates(self) -> tuple[float, float]:
        """``(unet, text encoder)`` learning rates; 0 for a part that is not trained. The text encoder's is that of the
        first of SDXL's two, or the second's where the first has none."""
        rates = self.component_rates()
        return rates["unet"], rates["text_encoder"] or (rates["text_encoder_2"] if self.te2_lr is not None else 0.0)

    def component_rates(self) -> dict[str, float]:
        """The learning rate of ``unet``, ``text_encoder`` and ``text_encoder_2``; 0 for one that is not trained."""
        unet, text = (self.learning_rate if rate is None else rate for rate in (self.unet_lr, self.te_lr))
        return {"unet": unet, "text_encoder": text, "text_encoder_2": text if self.te2_lr is None else self.te2_lr}


def parse_lr_rules(text: str) -> list[tuple[float, float]]:
    """``1:100,0.1`` as ``[(1.0, 100.0), (0.1, inf)]``: factors, each until its step.

    Raises:
        ValueError: if it is not written so, or the steps do not rise.
    """
    factors: list[tuple[float, float]] = []
    parts = [part for part in text.split(",") if part.strip()]
    for number, part in enumerate(parts, 1):
        factor, colon, until = part.partition(":")
        last = number == len(parts)
        try:
            factors.append((float(factor), math.inf if last else int(until)))
        except ValueError as error:
            raise ValueError(f"lr_rules '{text}': write factor:step,...,factor, such as 1:100,0.1") from error
        if (last and colon) or not 0 <= factors[-1][0] < math.inf:
            raise ValueError(f"lr_rules '{text}': the last is a factor without a step, and none is below 0")
    if any(later[1] <= earlier[1] for earlier, later in itertools.pairwise(factors)):
        raise ValueError(f"lr_rules '{text}': each step must be above the one before")
    return factors
