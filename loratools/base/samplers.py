"""Samplers by the WebUI's names and k-diffusion's spellings, as diffusers schedulers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loratools.base.quiet import quiet
from loratools.errors import GridError, did_you_mean


@dataclass(frozen=True)
class Sampler:
    """A sampler: its WebUI name, the diffusers class, that class's settings, and other spellings of the name."""

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    spellings: tuple[str, ...] = ()
    calls: int = 1  # UNet calls a step, but for the last

    def scheduler(self, config: Mapping[str, Any]) -> Any:
        """A fresh scheduler on the base's own noise schedule ``config``."""
        unasked = dict.fromkeys(SCHEDULES.values(), False)  # only a name can ask for them
        with quiet():
            return _class(self.kind).from_config({**config, **unasked, **self.settings})

    def prepared(self, config: Mapping[str, Any], steps: int, *, webui: bool = False) -> Any:
        """A scheduler set to ``steps``; ``webui`` gives it the WebUI's noise levels where they are others."""
        scheduler = self.scheduler({**config, **_WEBUI.get(self.kind, {})} if webui else config)
        scheduler.set_timesteps(steps)
        if webui and self.kind == _LEVELLED:
            from loratools.base.webui_steps import set_levels

            set_levels(scheduler, steps, self.schedule)
        return scheduler

    @property
    def schedule(self) -> str:
        """The noise levels that its name asks for, one of :data:`SCHEDULES`; empty for the sampler's own."""
        return split_name(self.name)[1]


SCHEDULES: Mapping[str, str] = {  # the WebUI's schedule types that a name may end with -> diffusers' setting
    "Karras": "use_karras_sigmas",
    "Exponential": "use_exponential_sigmas",
}
_MULTISTEP = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}
_SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}
_LEVELLED = "DPMSolverMultistepScheduler"
_EVENLY = {"timestep_spacing": "linspace"}
_WEBUI: Mapping[str, Mapping[str, Any]] = {  # what a kind's noise levels need to be k-diffusion's
    **dict.fromkeys(("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMS",
                     "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"), _EVENLY),
    "DDIMScheduler": {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False},
}  # fmt: skip
_PLAIN = (
    Sampler("DDIM", "DDIMScheduler"),
    Sampler("DDPM", "DDPMScheduler"),
    Sampler("PLMS", "PNDMScheduler", {"skip_prk_steps": True}, ("PNDM",)),
    Sampler("LCM", "LCMScheduler"),
    Sampler("UniPC", "UniPCMultistepScheduler", {}, ("uni_pc",)),
    Sampler("DEIS", "DEISMultistepScheduler"),
    Sampler("Euler a", "EulerAncestralDiscreteScheduler", {}, ("k_euler_a", "euler_ancestral")),
)
_SCHEDULED = (
    Sampler("Euler", "EulerDiscreteScheduler", {}, ("k_euler",)),
    Sampler("Heun", "HeunDiscreteScheduler", {}, ("k_heun",), calls=2),
    Sampler("LMS", "LMS", {}, ("k_lms",)),
    Sampler("DPM2", "KDPM2DiscreteScheduler", {}, ("dpm_2", "k_dpm_2"), calls=2),
    Sampler("DPM2 a", "KDPM2AncestralDiscreteScheduler", {}, ("dpm_2_a", "k_dpm_2_a", "dpm_2_ancestral"), calls=2),
    Sampler("DPM++ 2M", "DPMSolverMultistepScheduler", _MULTISTEP, ("dpmsolver++", "dpmsolver", "k_dpmpp_2m")),
    Sampler("DPM++ 2M SDE", "DPMSolverMultistepScheduler", _SDE, ("k_dpmpp_2m_sde",)),
    Sampler("DPM++ 3M SDE", "DPMSolverMultistepScheduler", {**_SDE, "solver_order": 3}),
    Sampler("DPM++ 2S", "DPMSolverSinglestepScheduler", {**_MULTISTEP, "lower_order_final": True}, ("dpmsingle",)),
    Sampler("DPM++ SDE", "DPMSolverSinglestepScheduler", {**_SDE, "lower_order_final": True}, ("k_dpmpp_sde",)),
)


def _with(sampler: Sampler, schedule: str) -> Sampler:
    return Sampler(
        f"{sampler.name} {schedule}",
        sampler.kind,
        {**sampler.settings, SCHEDULES[schedule]: True},
        tuple(f"{word} {schedule}" for word in sampler.spellings),
        sampler.calls,
    )


SAMPLERS: Mapping[str, Sampler] = {
    sampler.name: sampler
    for sampler in (*_PLAIN, *_SCHEDULED, *(_with(plain, schedule) for schedule in SCHEDULES for plain in _SCHEDULED))
}


def split_name(name: str) -> tuple[str, str]:
    """``DPM++ 2M Karras`` as the WebUI's two settings, sampler and schedule type; the second may be empty."""
    sampler, _, schedule = name.rpartition(" ")
    return (sampler, schedule) if schedule in SCHEDULES else (name, "")


def find_sampler(name: str) -> Sampler:
    """The sampler of a WebUI name (``DPM++ 2M Karras``) or a k-diffusion one (``sample_dpmpp_2m``), in any case.

    Raises:
        GridError: naming the nearest, if there is none.
    """
    wanted = _plain(name)
    for sampler in SAMPLERS.values():
        if wanted in {_plain(word) for word in (sampler.name, *sampler.spellings)}:
            return sampler
    hint = did_you_mean(name, SAMPLERS) or f"; there are {', '.join(SAMPLERS)}"
    raise GridError(f"there is no sampler '{name}'{hint}")


def _plain(name: str) -> str:
    """``DPM++ 2M Karras``, ``sample_dpmpp_2m_karras`` and ``dpmpp-2m karras`` are one name."""
    text = name.strip().lower().removeprefix("sample_").replace("++", "pp").replace("ancestral", "a")
    return re.sub(r"[\s_-]+", "", text)


def _class(kind: str) -> Any:
    if kind == "LMS":
        from loratools.base.lms import scheduler_class

        return scheduler_class()
    import diffusers

    return getattr(diffusers, kind)
