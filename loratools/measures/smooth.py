"""Measures that can be differentiated: what a picture is worth as a smooth function of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from loratools.measures.measure import Measure

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class SmoothBatch:
    """Pictures that carry gradients, for all measures that read them.

    What is read in them is kept here and goes when they go: it holds the memory of a whole backward pass.

    Attributes:
        images: (n, 3, height, width) in [0, 1], on any device.
        prompts: of each.
    """

    def __init__(self, images: Tensor, prompts: Sequence[str]) -> None:
        self.images, self.prompts = images, tuple(prompts)
        self._known: dict[Callable[[SmoothBatch], Any], Any] = {}

    def read(self, reader: Callable[[SmoothBatch], T]) -> T:
        """What ``reader`` makes of these pictures, which it looks at once."""
        if reader not in self._known:
            self._known[reader] = reader(self)
        known: T = self._known[reader]
        return known


@runtime_checkable
class SmoothMeasure(Measure, Protocol):
    """A measure with a stand-in for its figure that a gradient can follow.

    The stand-in may differ from the figure, such as a probability from a yes or no; only its changes count.
    """

    @property
    def exact(self) -> bool:
        """Whether the stand-in is the figure itself, but for what saving a picture in 8 bits changes."""
        ...

    def smooth(self, drawn: SmoothBatch) -> Tensor:
        """(n,) in the figure's own units; NaN where it cannot tell."""
        ...
