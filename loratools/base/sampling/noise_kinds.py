"""The kinds of noise by name, without torch: see :mod:`loratools.base.sampling.noise` for what they draw."""

from __future__ import annotations

from collections.abc import Mapping

from loratools.errors import GridError, did_you_mean

OWN = "own"
NOISE_KINDS = (OWN, "webui-cpu", "webui-gpu")
RNG: Mapping[str, str] = {OWN: "CPU", "webui-cpu": "CPU", "webui-gpu": "NV"}  # what the WebUI calls such numbers


def check_kind(kind: str) -> str:
    """``kind`` itself.

    Raises:
        GridError: naming the nearest kind, if there is no such noise.
    """
    if kind not in NOISE_KINDS:
        raise GridError(
            f"there is no noise '{kind}'{did_you_mean(kind, NOISE_KINDS)}; kinds are {', '.join(NOISE_KINDS)}"
        )
    return kind


def kind_of(rng: str | None) -> str:
    """The kind of noise for a value of the WebUI's ``RNG``; without one the WebUI drew on the GPU."""
    return "webui-cpu" if rng == "CPU" else "webui-gpu"
