"""transformers' Adafactor, whose step can also be part of a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn


def __getattr__(name: str) -> Any:
    """``Adafactor``, made when it is first asked for: transformers is not imported before."""
    if name == "Adafactor":
        return _adafactor()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@lru_cache(maxsize=1)
def _adafactor() -> type[torch.optim.Optimizer]:
    from transformers.optimization import Adafactor as theirs

    class Adafactor(theirs):  # type: ignore[misc,valid-type]
        """Adafactor (Shazeer and Stern 2018, 1804.04235) as transformers has it, with its arguments and its state.

        A group with ``capturable: True`` steps by :func:`step_on_device`, which computes the same from tensors alone;
        see :func:`loratools.train.step.cuda_graph.device_rates`. Not with ``relative_step``, whose rates follow from
        the count on the host.
        """

        def __init__(
            self,
            params: Any,
            lr: float | None = None,
            eps: tuple[float, float] = (1e-30, 1e-3),
            clip_threshold: float = 1.0,
            decay_rate: float = -0.8,
            beta1: float | None = None,
            weight_decay: float = 0.0,
            scale_parameter: bool = True,
            relative_step: bool = True,
            warmup_init: bool = False,
        ) -> None:
            super().__init__(
                params,
                lr,
                eps,
                clip_threshold,
                decay_rate,
                beta1,
                weight_decay,
                scale_parameter,
                relative_step,
                warmup_init,
            )
            if not relative_step:
                self.defaults["capturable"] = False
            for group in self.param_groups:
                group.setdefault("capturable", False)

        @torch.no_grad()
        def step(self, closure: Callable[[], float] | None = None) -> float | None:
            """One step of all parameters that have a gradient."""
            if not any(group.get("capturable") for group in self.param_groups):
                self._counts_on_host()
                return super().step(closure)  # type: ignore[no-any-return]
            loss = None if closure is None else closure()
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        step_on_device(group, parameter, self.state[parameter])
            return loss

        def _counts_on_host(self) -> None:
            """Counts of a state from a GPU, as the step on the host counts."""
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state.get(parameter, {})
                    if torch.is_tensor(state.get("step")):
                        state["step"] = int(state["step"])

    return Adafactor


def step_on_device(group: Mapping[str, Any], parameter: nn.Parameter, state: dict[str, Any]) -> None:
    """One parameter's step without reading anything on the host.

    Args:
        group: whose ``lr`` is a number, or a tensor on the parameter's device.
        parameter: float32, with a gradient.
        state: ``exp_avg_sq_row`` and ``exp_avg_sq_col`` of all but vectors, which have ``exp_avg_sq``; begun if empty.
    """
    gradient = parameter.grad
    if gradient is None:
        return
    gradient = gradient.to(torch.float32)
    _begin(group, parameter, gradient, state)
    step: Tensor = state["step"].add_(1)
    state["RMS"].copy_(_rms(parameter))
    scale = state["RMS"].clamp(min=group["eps"][1]) if group["scale_parameter"] else 1.0
    rate = group["lr"] * scale
    share = step.pow(group["decay_rate"])  # 1 - beta2
    squares = gradient.square().add_(group["eps"][0])
    if parameter.dim() >= 2:
        row, column = state["exp_avg_sq_row"], state["exp_avg_sq_col"]
        row.lerp_(squares.mean(dim=-1), share)
        column.lerp_(squares.mean(dim=-2), share)
        rows = (row / row.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
        update = torch.mul(rows, column.rsqrt().unsqueeze(-2), out=squares).mul_(gradient)
    else:
        update = state["exp_avg_sq"].lerp_(squares, share).rsqrt().mul_(gradient)
    update.mul_(rate / (_rms(update) / group["clip_threshold"]).clamp_(min=1.0))
    if group["beta1"] is not None:
        update = state["exp_avg"].lerp_(update, 1 - group["beta1"])
    if group["weight_decay"]:
        parameter.mul_(1 - group["weight_decay"] * rate)
    parameter.sub_(update)


def _begin(group: Mapping[str, Any], parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any]) -> None:
    """Give ``state`` what it lacks: everything at the first step, tensors in place of a host's numbers later."""
    for key in ("step", "RMS"):
        if not torch.is_tensor(state.get(key)):
            state[key] = torch.full((), float(state.get(key, 0)), device=parameter.device)
        elif state[key].device != parameter.device:
            state[key] = state[key].to(parameter.device, torch.float32)
    shapes = {"exp_avg": gradient.shape} if group["beta1"] is not None else {}
    if parameter.dim() >= 2:
        shapes["exp_avg_sq_row"] = gradient.shape[:-1]
        shapes["exp_avg_sq_col"] = gradient.shape[:-2] + gradient.shape[-1:]
    else:
        shapes["exp_avg_sq"] = gradient.shape
    for key, shape in shapes.items():
        if key not in state:
            state[key] = torch.zeros(shape, device=parameter.device)


def _rms(tensor: Tensor) -> Tensor:
    return tensor.norm() / tensor.numel() ** 0.5  # type: ignore[no-any-return]
