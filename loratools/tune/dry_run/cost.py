"""What a tune takes of memory and time, as far as that can be told before the first picture."""

from __future__ import annotations

from dataclasses import dataclass

from loratools.base.model import Base, LoadedBase
from loratools.base.patching.patch import Patcher
from loratools.preview.render.decoder import AT_ONCE
from loratools.preview.render.memory import RUNTIME, available, need
from loratools.train.dry_run.estimate import activations, spelled
from loratools.tune.folder import KeptWork
from loratools.tune.plan import TunePlan

_POCKET_SECONDS = (0.15, 0.2)  # of a search picture, measured on two idle CPU cores (docs/blocks.md)
_GUIDED = 2  # calls of the network a picture and step: with the prompt, and with the negative one
_LATENT = 64  # pixels of a latent position


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the device, within a factor of two.

    Attributes:
        weights: of the base's models, in the type that is computed in, and of what the LoRAs change once more.
        runtime: of torch itself.
        drawing: of pictures that are drawn at once; None where that is not known of the base's family.
        gradient: the same of pictures that are drawn with their gradient; None where none leads.
        free: on the device; None where that is not known.
    """

    weights: int
    drawing: int | None
    gradient: int | None
    free: int | None
    runtime: int = RUNTIME

    @property
    def total(self) -> int:
        """At the peak."""
        return self.runtime + self.weights + max(self.drawing or 0, self.gradient or 0)


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds for what is left, from the least to the most, and the measurement that says so, in words."""

    least: float
    most: float
    basis: str

    def text(self) -> str:
        """For a person."""
        least, most = spelled(self.least), spelled(self.most)
        return f"about {most if least == most else f'{least} to {most}'} ({self.basis})"


def memory_of(plan: TunePlan) -> MemoryEstimate:
    """What drawing takes as grids estimate it, and a gradient's activations as trainings do."""
    base, batch = plan.base, plan.request.batch
    free = available(base.device)
    deltas = plan.space.stacks([plan.space.start])[0].deltas
    changed = Patcher(base).saved_bytes(deltas)
    if not isinstance(base, Base):
        return MemoryEstimate(_weights(base) + changed, None, None, free)
    size = plan.fine.size
    drawn = need(base, batch, size, min(AT_ONCE, batch), changed)
    gradient = None
    if plan.choice.gradient:
        positions = _GUIDED * batch * size[0] * size[1] // _LATENT
        gradient = activations(base, positions, base.dtype.itemsize, checkpoints=False)
    return MemoryEstimate(drawn.weights, drawn.sampling + drawn.decoding, gradient, free)


def _weights(base: LoadedBase) -> int:
    """Of every network that draws: those that adapters change, and the VAE."""
    networks = dict(base.components())
    pipeline = getattr(base, "pipeline", None)
    if pipeline is not None and getattr(pipeline, "vae", None) is not None:
        networks["vae"] = pipeline.vae
    return sum(parameter.nbytes for network in networks.values() for parameter in network.parameters())


def time_of(plan: TunePlan, kept: KeptWork) -> TimeEstimate | None:
    """How long what is left takes; None where nothing was measured that says so.

    Args:
        kept: what is there of this search.
    """
    counted = kept.timed + _steps(plan, kept)
    left = max(0, plan.counts.total - done_of(plan, kept)) + sum(plan.later)
    if counted and kept.seconds:
        each = kept.seconds / counted
        return TimeEstimate(left * each, left * each, f"by {counted} of those that are there, at {each:.2g} s each")
    usual = plan.fine.size == plan.base.resolution and plan.coarse.steps == plan.request.effort.steps
    if plan.base.name == "pocket" and plan.base.device.type == "cpu" and usual:
        least, most = _POCKET_SECONDS
        basis = f"{least:g} to {most:g} s a picture were measured of the pocket base on two idle CPU cores"
        return TimeEstimate(left * least, left * most, basis)
    return None


def done_of(plan: TunePlan, kept: KeptWork) -> int:
    """What is there of this tune, in search pictures."""
    report = kept.columns * len(plan.shots.held_out) * plan.weight
    return kept.pictures + _steps(plan, kept) + report


def _steps(plan: TunePlan, kept: KeptWork) -> int:
    """Of a descent's steps."""
    return kept.steps * plan.request.effort.descent_shots * plan.request.gradient_cost
