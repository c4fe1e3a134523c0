"""Samplers by the WebUI's names and k-diffusion's spellings: a method, and a schedule type of its sigmas.

A method is a scheduler class of diffusers. Where diffusers has none of a name, or computes something else under it, the
method is a function of :mod:`loratools.base.sampling.k_samplers`. A name without a schedule type uses diffusers' own
sigmas; with the WebUI's noise it uses the WebUI's (:mod:`loratools.base.sampling.sigmas`). A new sampler is an entry of
``_METHODS``; with an empty ``kind`` its name is a key of ``K_SAMPLERS``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loratools.base.model import is_scheduler
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
UNIFORM, AUTOMATIC = "Uniform", "Automatic"  # other names for the plain type, and for the method's usual one
# schedule types that schedulers of diffusers make themselves, used with our own noise -> their option
_OPTIONS = {"Karras": "use_karras_sigmas", "Exponential": "use_exponential_sigmas"}
# a base's config does not switch them on: only a sampler's name does
_OFF = dict.fromkeys((*_OPTIONS.values(), "use_beta_sigmas"), False)
_ADAPTIVE = "DPM adaptive"


@dataclass(frozen=True)
class Method:
    """How a step is made.

    Args:
        kind: the class of diffusers, or ours (``LMS``, ``CFG++``); empty for the k-sampler of this name.
        settings: arguments of the class.
        spellings: other names.
        scheduled: whether it takes schedule types.
        automatic: the schedule type that the WebUI's ``Automatic`` means; empty for Uniform.
        discard_next_to_last_sigma: whether it takes one step more and leaves out the last sigma above 0 (k-diffusion's
            ``discard_next_to_last_sigma``).
        brownian: whether its noise is that of a Brownian path.
    """

    name: str
    kind: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    spellings: tuple[str, ...] = ()
    scheduled: bool = False
    automatic: str = ""
    discard_next_to_last_sigma: bool = False
    brownian: bool = False


@dataclass(frozen=True)
class Sampler:
    """A method with a schedule type, one of :data:`SCHEDULES`, or empty for the plain one."""

    method: Method
    schedule: str = ""

    @property
    def name(self) -> str:
        """``DPM++ 2M Karras``."""
        return f"{self.method.name} {self.schedule}".strip()

    def guided(self, cfg: float) -> bool:
        """Whether the negative prompt is needed at this CFG scale."""
        return cfg != 1 or self.method.kind == "CFG++"

    def scale(self, cfg: float) -> float:
        """The factor of the guidance at this CFG scale."""
        from loratools.base.sampling.cfgpp import SCALE

        return cfg * SCALE if self.method.kind == "CFG++" else cfg

    def scheduler(self, config: Mapping[str, Any]) -> Any:
        """A fresh scheduler of diffusers on the base's own noise schedule ``config``."""
        kind = _class(self.method.kind)
        option: dict[str, Any] = {_OPTIONS[self.schedule]: True} if self._makes_schedule else {}
        if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in _parameters(kind):
            from loratools.base.sampling.sigmas import zero_snr_betas

            option["trained_betas"] = zero_snr_betas(config)
        with quiet():
            return kind.from_config({**config, **_OFF, **self.method.settings, **option})

    @property
    def _makes_schedule(self) -> bool:
        """Whether the schedule type is one that this scheduler of diffusers makes itself."""
        return _OPTIONS.get(self.schedule) in _parameters(_class(self.method.kind))

    def make_scheduler(self, config: Mapping[str, Any], steps: int, *, webui: bool = False, xl: bool = False) -> Any:
        """A scheduler set to ``steps``, whose ``timesteps`` are its UNet calls.

        Args:
            config: of the base's own scheduler.
            webui: whether a plain name means the WebUI's sigmas.
            xl: whether the base is SDXL, which has sigmas of its own for Align Your Steps.
        """
        if not self.method.kind:
            return self._k_scheduler(config, steps, xl)
        if self.method.scheduled and (webui or (self.schedule and not self._makes_schedule)):
            return self._with_sigmas(config, steps, xl, webui)
        if webui and self.method.kind in _DISCRETE:
            return self._with_timesteps(config, steps)
        scheduler = self.scheduler(config)
        scheduler.set_timesteps(steps)
        return scheduler

    def _k_scheduler(self, config: Mapping[str, Any], steps: int, xl: bool) -> Any:
        """A scheduler that runs one of our k-samplers."""
        import torch

        from loratools.base.sampling.k_samplers import K_SAMPLERS
        from loratools.base.sampling.k_scheduler import KScheduler
        from loratools.base.sampling.sigmas import schedule_sigmas, training_sigmas

        training, timesteps = training_sigmas({**config, **_OFF}), None
        if self.method.name == "LCM":  # was distilled on every twentieth timestep
            timesteps = torch.arange(19, len(training), 20)
        usable = training if timesteps is None else training[timesteps]
        sigmas = schedule_sigmas(usable, steps + self.method.discard_next_to_last_sigma, self.schedule, xl=xl)
        if self.method.discard_next_to_last_sigma:
            sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
        prediction = str(config.get("prediction_type", "epsilon"))
        sampler = K_SAMPLERS[self.method.name]
        return KScheduler(sampler, training, sigmas, prediction, timesteps=timesteps, brownian=self.method.brownian)

    def _with_sigmas(self, config: Mapping[str, Any], steps: int, xl: bool, webui: bool) -> Any:
        """A scheduler of diffusers with other sigmas than its own."""
        from loratools.base.sampling.sigmas import schedule_sigmas, set_sigmas, training_sigmas, unipc_sigmas

        training, timesteps = training_sigmas({**config, **_OFF}), None
        settings: dict[str, Any] = {"timestep_spacing": "linspace"}
        if webui and not self.schedule and self.method.name == "UniPC":
            sigmas, timesteps = unipc_sigmas(training, steps)
            settings |= {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}
        else:
            sigmas = schedule_sigmas(training, steps, self.schedule, xl=xl)
            if sigmas[-1] > 0:
                settings["final_sigmas_type"] = "sigma_min"
                settings |= {"lower_order_final": False} if self.method.name == "DPM++ 2M" else {}
        method = replace(self.method, settings={**self.method.settings, **settings})
        scheduler = Sampler(method).scheduler(config)
        scheduler.set_timesteps(len(sigmas) - 1)
        set_sigmas(scheduler, training, sigmas, timesteps)
        if timesteps is not None:
            scheduler.init_noise_sigma = 1.0  # whatever the first sigma is
        return scheduler

    def _with_timesteps(self, config: Mapping[str, Any], steps: int) -> Any:
        """DDIM and its kin at the WebUI's timesteps; at the last one, where the run ends, the UNet is not called."""
        import torch

        from loratools.base.sampling.sigmas import uniform_timesteps

        scheduler = self.scheduler(config)
        scheduler.set_timesteps(steps)
        count = int(scheduler.config.num_train_timesteps)
        timesteps, distance = uniform_timesteps(count, steps), count // steps
        called = timesteps[:-1] or timesteps
        if len(timesteps) > 1 and timesteps[0] - timesteps[1] != distance:  # the first was clipped to training's last
            # diffusers finds the next alpha at timestep - distance, which is none of these: put it there
            alphas = torch.cat([scheduler.alphas_cumprod, scheduler.alphas_cumprod[-1:]])
            alphas[timesteps[0] - distance] = alphas[timesteps[1]]
            scheduler.alphas_cumprod = alphas
        if self.method.kind == "PNDMScheduler":
            called = [*called[:1], *timesteps[1:2], *called[1:]]  # its first step calls at both ends
        scheduler.timesteps = torch.tensor(called)
        return scheduler


_DISCRETE = ("DDIMScheduler", "CFG++", "PNDMScheduler")  # at whole timesteps, without sigmas
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
    Method("DPM2", "", {}, ("dpm_2", "k_dpm_2"), True, "Karras", discard_next_to_last_sigma=True),
    Method(
        "DPM2 a", "", {}, ("dpm_2_a", "k_dpm_2_a", "dpm_2_ancestral"), True, "Karras", discard_next_to_last_sigma=True
    ),
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
    Method(
        "DPM++ 3M SDE", "", {}, ("k_dpmpp_3m_sde",), True, "Exponential", discard_next_to_last_sigma=True, brownian=True
    ),
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
    word = _normalized(name)
    if (plain := _BY_WORD.get(word)) is not None:
        return Sampler(plain)
    for method, schedule in _split(word):
        if schedule == UNIFORM or (schedule == AUTOMATIC and not method.automatic):
            return Sampler(method)
        if method.scheduled:
            return Sampler(method, method.automatic if schedule == AUTOMATIC else schedule)
        raise GridError(f"'{name}': {method.name} has noise levels of its own; leave out '{schedule}'")
    if word.startswith(_normalized(_ADAPTIVE)):
        raise GridError(
            f"{_ADAPTIVE} sizes its steps by each picture's errors, which pictures of one batch cannot "
            "share; use 'DPM fast', its sibling of fixed steps"
        )
    names = [*SAMPLERS, *(f"{method.name} {kind}" for method in _METHODS if method.scheduled for kind in SCHEDULES)]
    hint = did_you_mean(name, names) or f"; there are {', '.join(SAMPLERS)}, with schedule types such as Karras"
    raise GridError(f"there is no sampler '{name}'{hint}")


def sampler_name(name: str) -> str:
    """The full name of a sampler of the WebUI; the class name of a scheduler of diffusers (``...Scheduler``), by which
    pipelines of other families are drawn, as it is.

    Raises:
        GridError: as :func:`find_sampler`.
    """
    return name if is_scheduler(name) else find_sampler(name).name


def from_webui(sampler: str, schedule: str) -> Sampler:
    """The sampler that the WebUI's two settings mean; before its version 1.9 there is only the first.

    Raises:
        GridError: if one of them is unknown.
    """
    named = find_sampler(sampler)
    # the WebUI's UniPC and its methods without schedule types write the setting into the picture and ignore it
    has_effect = named.method.scheduled and named.method.name != "UniPC"
    if not schedule or named.schedule or not has_effect:
        return named
    return find_sampler(f"{named.method.name} {schedule}")


def split_name(name: str) -> tuple[str, str]:
    """The WebUI's two settings for a name of ours: sampler and schedule type. The second is empty where the WebUI's
    ``Automatic`` means the same."""
    if is_scheduler(name):
        return name, ""
    sampler = find_sampler(name)
    return sampler.method.name, sampler.schedule or (UNIFORM if sampler.method.automatic else "")


def _split(word: str) -> Iterator[tuple[Method, str]]:
    """Every way to read a normalized name as a method and a schedule type."""
    for schedule, spellings in {**SCHEDULES, UNIFORM: (), AUTOMATIC: ()}.items():
        for ending in map(_normalized, (schedule, *spellings)):
            method = _BY_WORD.get(word.removesuffix(ending)) if word.endswith(ending) else None
            if method is not None:
                yield method, schedule


def _normalized(name: str) -> str:
    """``DPM++ 2M Karras``, ``sample_dpmpp_2m_karras`` and ``dpmpp-2m karras`` are one name."""
    text = name.strip().lower().removeprefix("sample_").replace("++", "pp").replace("ancestral", "a")
    return re.sub(r"[\s_-]+", "", text)


_BY_WORD = {_normalized(word): method for method in _METHODS for word in (method.name, *method.spellings)}


def _parameters(kind: Any) -> Collection[str]:
    """The names of the settings that a scheduler's class takes."""
    return inspect.signature(kind.__init__).parameters.keys()


def _class(kind: str) -> Any:
    if kind == "LMS":
        from loratools.base.sampling.lms import scheduler_class

        return scheduler_class()
    if kind == "CFG++":
        from loratools.base.sampling import cfgpp

        return cfgpp.scheduler_class()
    import diffusers

    return getattr(diffusers, kind)
