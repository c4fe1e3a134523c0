"""Samplers by the WebUI's names and k-diffusion's spellings: a method, and a schedule type of noise levels.

Methods are diffusers' schedulers, or formulas of :mod:`loratools.base.sampling.k_samplers` where it has none that is
the one of that name. A plain name keeps diffusers' own levels, and under the WebUI's noise the WebUI's: see
:mod:`loratools.base.sampling.sigmas`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loratools.base.quiet import quiet
from loratools.errors import GridError, did_you_mean

SCHEDULES: Mapping[str, tuple[str, ...]] = {  # the WebUI's schedule types -> other spellings
    "Karras": ("ka",),
    "Exponential": ("exp",),
    "Polyexponential": ("polyexp",),
    "SGM Uniform": (),
    "KL Optimal": (),
    "Align Your Steps": ("AYS",),
    "Simple": (),
    "Normal": (),
    "DDIM": ("ddim_uniform",),
    "Beta": (),
}
UNIFORM, AUTOMATIC = "Uniform", "Automatic"  # types that are another name: the plain one, and the method's usual one
_DIFFUSERS = {"Karras": "use_karras_sigmas", "Exponential": "use_exponential_sigmas"}  # its levels at our own noise
_UNASKED = dict.fromkeys((*_DIFFUSERS.values(), "use_beta_sigmas"), False)  # only a name can ask for them
_ADAPTIVE = "DPM adaptive"


@dataclass(frozen=True)
class Method:
    """How a step is made.

    Args:
        kind: the diffusers class, or ours; empty for the formula of this name.
        settings: the class's.
        spellings: other names.
        scheduled: whether it takes schedule types.
        automatic: the schedule type that the WebUI's ``Automatic`` means; empty for Uniform.
        trimmed: whether it leaves out the level before the last, of one more.
        brownian: whether its noise is that of a Brownian path.
    """

    name: str
    kind: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    spellings: tuple[str, ...] = ()
    scheduled: bool = False
    automatic: str = ""
    trimmed: bool = False
    brownian: bool = False


@dataclass(frozen=True)
class Sampler:
    """A method on a schedule type, one of :data:`SCHEDULES`, or empty for the plain one."""

    method: Method
    schedule: str = ""

    @property
    def name(self) -> str:
        """``DPM++ 2M Karras``."""
        return f"{self.method.name} {self.schedule}".strip()

    def guided(self, cfg: float) -> bool:
        """Whether the negative prompt takes part at this CFG scale."""
        return cfg != 1 or self.method.kind == "CFG++"

    def scale(self, cfg: float) -> float:
        """By how much the prompt's prediction is preferred at this CFG scale."""
        from loratools.base.sampling.cfgpp import SCALE

        return cfg * SCALE if self.method.kind == "CFG++" else cfg

    def scheduler(self, config: Mapping[str, Any]) -> Any:
        """A fresh scheduler of diffusers on the base's own noise schedule ``config``."""
        asked = {_DIFFUSERS[self.schedule]: True} if self._known else {}
        with quiet():
            return _class(self.method.kind).from_config({**config, **_UNASKED, **self.method.settings, **asked})

    @property
    def _known(self) -> bool:
        """Whether the schedule type is one that this scheduler of diffusers makes itself."""
        taken = inspect.signature(_class(self.method.kind).__init__).parameters
        return _DIFFUSERS.get(self.schedule) in taken

    def make_scheduler(self, config: Mapping[str, Any], steps: int, *, webui: bool = False, xl: bool = False) -> Any:
        """A scheduler set to ``steps``, whose ``timesteps`` are its UNet calls.

        Args:
            webui: whether a plain name means the WebUI's noise levels.
            xl: whether the base is SDXL, which has levels of its own for Align Your Steps.
        """
        if not self.method.kind:
            return self._walked(config, steps, xl)
        if self.method.scheduled and (webui or (self.schedule and not self._known)):
            return self._levelled(config, steps, xl, webui)
        if webui and self.method.kind in _TIMED:
            return self._timed(config, steps)
        scheduler = self.scheduler(config)
        scheduler.set_timesteps(steps)
        return scheduler

    def _walked(self, config: Mapping[str, Any], steps: int, xl: bool) -> Any:
        """One of our formulas."""
        import torch

        from loratools.base.sampling.k_samplers import K_SAMPLERS
        from loratools.base.sampling.k_scheduler import KScheduler
        from loratools.base.sampling.sigmas import schedule_sigmas, training_sigmas

        training, told = training_sigmas({**config, **_UNASKED}), None
        if self.method.name == "LCM":  # was distilled on every twentieth level
            told = torch.arange(19, len(training), 20)
        known = training if told is None else training[told]
        sigmas = schedule_sigmas(known, steps + self.method.trimmed, self.schedule, xl=xl)
        if self.method.trimmed:
            sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
        prediction = str(config.get("prediction_type", "epsilon"))
        return KScheduler(
            K_SAMPLERS[self.method.name], training, sigmas, prediction, told=told, brownian=self.method.brownian
        )

    def _levelled(self, config: Mapping[str, Any], steps: int, xl: bool, webui: bool) -> Any:
        """A scheduler of diffusers on other levels than its own."""
        from loratools.base.sampling.sigmas import schedule_sigmas, set_sigmas, training_sigmas, unipc_sigmas

        training, at = training_sigmas({**config, **_UNASKED}), None
        settings: dict[str, Any] = {"timestep_spacing": "linspace"}
        if webui and not self.schedule and self.method.name == "UniPC":
            sigmas, at = unipc_sigmas(training, steps)
            settings |= {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}
        else:
            sigmas = schedule_sigmas(training, steps, self.schedule, xl=xl)
            if sigmas[-1] > 0:
                settings["final_sigmas_type"] = "sigma_min"
                settings |= {"lower_order_final": False} if self.method.name == "DPM++ 2M" else {}
        method = replace(self.method, settings={**self.method.settings, **settings})
        scheduler = Sampler(method).scheduler(config)
        scheduler.set_timesteps(len(sigmas) - 1)
        set_sigmas(scheduler, training, sigmas, at)
        if at is not None:
            scheduler.init_noise_sigma = 1.0  # whatever the first level is
        return scheduler

    def _timed(self, config: Mapping[str, Any], steps: int) -> Any:
        """DDIM and its kin at the WebUI's times: the last is where it ends, and not called."""
        import torch

        from loratools.base.sampling.sigmas import uniform_timesteps

        scheduler = self.scheduler(config)
        scheduler.set_timesteps(steps)
        last = int(scheduler.config.num_train_timesteps)
        told, apart = uniform_timesteps(last, steps), last // steps
        called = told[:-1] or told
        if len(told) > 1 and told[0] - told[1] != apart:  # past training's last time, and brought back to it
            kept = torch.cat([scheduler.alphas_cumprod, scheduler.alphas_cumprod[-1:]])
            kept[told[0] - apart] = kept[told[1]]
            scheduler.alphas_cumprod = kept
        if self.method.kind == "PNDMScheduler":
            called = [*called[:1], *told[1:2], *called[1:]]  # its first step calls at both ends
        scheduler.timesteps = torch.tensor(called)
        return scheduler


_TIMED = ("DDIMScheduler", "CFG++", "PNDMScheduler")
_MULTISTEP = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}
_SINGLE = {**_MULTISTEP, "lower_order_final": True}
_METHODS = (
    Method("DDIM", "DDIMScheduler"),
    Method("DDIM CFG++", "CFG++", {}, ("ddim_cfgpp",)),
    Method("DDPM", "DDPMScheduler"),
    Method("PLMS", "PNDMScheduler", {"skip_prk_steps": True}, ("PNDM",)),
    Method("UniPC", "UniPCMultistepScheduler", {}, ("uni_pc",), scheduled=True),
    Method("DEIS", "DEISMultistepScheduler"),
    Method("LCM", spellings=("k_lcm",), scheduled=True),
    Method("Euler a", "EulerAncestralDiscreteScheduler", {}, ("k_euler_a", "euler_ancestral"), scheduled=True),
    Method("Euler", "EulerDiscreteScheduler", {}, ("k_euler",), scheduled=True),
    Method("Heun", "HeunDiscreteScheduler", {}, ("k_heun",), scheduled=True),
    Method("LMS", "LMS", {}, ("k_lms",), scheduled=True),
    Method("DPM2", "", {}, ("dpm_2", "k_dpm_2"), True, "Karras", trimmed=True),
    Method("DPM2 a", "", {}, ("dpm_2_a", "k_dpm_2_a", "dpm_2_ancestral"), True, "Karras", trimmed=True),
    Method("DPM++ 2S a", "", {}, ("k_dpmpp_2s_a", "dpmpp_2s_ancestral"), True, "Karras"),
    Method(
        "DPM++ 2M",
        "DPMSolverMultistepScheduler",
        _MULTISTEP,
        ("dpmsolver++", "dpmsolver", "k_dpmpp_2m"),
        True,
        "Karras",
    ),
    Method("DPM++ SDE", "", {}, ("k_dpmpp_sde",), True, "Karras", brownian=True),
    Method("DPM++ 2M SDE", "", {}, ("k_dpmpp_2m_sde",), True, "Exponential", brownian=True),
    Method("DPM++ 2M SDE Heun", "", {}, ("k_dpmpp_2m_sde_heun",), True, "Exponential", brownian=True),
    Method("DPM++ 3M SDE", "", {}, ("k_dpmpp_3m_sde",), True, "Exponential", trimmed=True, brownian=True),
    Method("DPM fast", "", {}, ("k_dpm_fast",)),
    Method("Restart", "", {}, (), True, "Karras"),
    Method("DPM++ 2S", "DPMSolverSinglestepScheduler", _SINGLE, ("dpmsingle",), scheduled=True),
)
SAMPLERS: Mapping[str, Sampler] = {method.name: Sampler(method) for method in _METHODS}


def find_sampler(name: str) -> Sampler:
    """The sampler of a WebUI name (``DPM++ 2M Karras``) or a k-diffusion one (``sample_dpmpp_2m``), in any case.

    Raises:
        GridError: naming the nearest, if there is none.
    """
    wanted = _plain(name)
    if (plain := _BY_WORD.get(wanted)) is not None:
        return Sampler(plain)
    for method, schedule in _split(wanted):
        if schedule == UNIFORM or (schedule == AUTOMATIC and not method.automatic):
            return Sampler(method)
        if method.scheduled:
            return Sampler(method, method.automatic if schedule == AUTOMATIC else schedule)
        raise GridError(f"'{name}': {method.name} has noise levels of its own; leave out '{schedule}'")
    if wanted.startswith(_plain(_ADAPTIVE)):
        raise GridError(
            f"{_ADAPTIVE} sizes its steps by each picture's errors, which pictures of one batch cannot "
            "share; use 'DPM fast', its sibling of fixed steps"
        )
    every = [*SAMPLERS, *(f"{method.name} {word}" for method in _METHODS if method.scheduled for word in SCHEDULES)]
    hint = did_you_mean(name, every) or f"; there are {', '.join(SAMPLERS)}, with schedule types such as Karras"
    raise GridError(f"there is no sampler '{name}'{hint}")


def from_webui(sampler: str, schedule: str) -> Sampler:
    """The sampler that the WebUI's two settings mean; before its version 1.9 there is only the first.

    Raises:
        GridError: if one of them is unknown.
    """
    found = find_sampler(sampler)
    heeded = found.method.scheduled and found.method.name != "UniPC"  # the others write the type down, and that is all
    if not schedule or found.schedule or not heeded:
        return found
    return find_sampler(f"{found.method.name} {schedule}")


def split_name(name: str) -> tuple[str, str]:
    """The WebUI's two settings for a name of ours: sampler and schedule type. The second is empty where the WebUI's
    ``Automatic`` means the same."""
    found = find_sampler(name)
    return found.method.name, found.schedule or (UNIFORM if found.method.automatic else "")


def _split(wanted: str) -> Iterator[tuple[Method, str]]:
    """The method and the schedule type of a plain name."""
    for schedule, spellings in {**SCHEDULES, UNIFORM: (), AUTOMATIC: ()}.items():
        for ending in map(_plain, (schedule, *spellings)):
            method = _BY_WORD.get(wanted.removesuffix(ending)) if wanted.endswith(ending) else None
            if method is not None:
                yield method, schedule


def _plain(name: str) -> str:
    """``DPM++ 2M Karras``, ``sample_dpmpp_2m_karras`` and ``dpmpp-2m karras`` are one name."""
    text = name.strip().lower().removeprefix("sample_").replace("++", "pp").replace("ancestral", "a")
    return re.sub(r"[\s_-]+", "", text)


_BY_WORD = {_plain(word): method for method in _METHODS for word in (method.name, *method.spellings)}


def _class(kind: str) -> Any:
    if kind == "LMS":
        from loratools.base.sampling.lms import scheduler_class

        return scheduler_class()
    if kind == "CFG++":
        from loratools.base.sampling import cfgpp

        return cfgpp.scheduler_class()
    import diffusers

    return getattr(diffusers, kind)
