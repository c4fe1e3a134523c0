"""What a measure makes of the features that the base's UNet sees: one formula, for drawn pictures and for gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loratools.errors import MeasureError
from loratools.measures.measure import Better, Shown
from loratools.measures.probe.ridge import Probe, Scaling
from loratools.measures.smooth import SmoothBatch

Values = npt.NDArray[np.float64]
Describe = Callable[[Sequence[Shown]], Values]  # pictures -> features (n, d)


@runtime_checkable
class SmoothDescribe(Protocol):
    """What describes pictures that carry gradients as well, such as :class:`.unet_features.UNetFeatures`."""

    def smooth(self, drawn: SmoothBatch) -> Tensor:
        """(n, d)"""
        ...


class FeatureMeasure(ABC):
    """A measure that is a function of features alone.

    Attributes:
        describe: pictures -> features.
        exact: True, since what is differentiated is the figure itself.
    """

    name: str
    better: Better
    describe: Describe

    @property
    def exact(self) -> bool:
        """Whether the stand-in is the figure."""
        return True

    @abstractmethod
    def figures(self, features: Tensor) -> Tensor:
        """(n,) for features (n, d), of their type and on their device."""

    def of(self, features: Values) -> Values:
        """(n,) for features (n, d)."""
        figures: Values = self.figures(torch.from_numpy(features)).numpy()
        return figures

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        return self.of(self.describe(pictures))

    def smooth(self, drawn: SmoothBatch) -> Tensor:
        """As :meth:`loratools.measures.smooth.SmoothMeasure.smooth`.

        Raises:
            MeasureError: if what describes pictures has no gradient.
        """
        if not isinstance(self.describe, SmoothDescribe):
            raise MeasureError(
                f"what describes pictures for the measure '{self.name}' has no gradient; use `method=pictures`"
            )
        return self.figures(drawn.read(self.describe.smooth))


def constant(values: Values, like: Tensor) -> Tensor:
    """``values`` beside the features of ``like``."""
    return torch.as_tensor(values).to(like.dtype).to(like.device)  # not every device has float64


def scaled(scaling: Scaling, features: Tensor) -> Tensor:
    """As :class:`.ridge.Scaling` does it, of features (n, d)."""
    return (features - constant(scaling.mean, features)) / constant(scaling.deviation, features)


def probed(probe: Probe, features: Tensor) -> Tensor:
    """(n,) figures of a probe for features (n, d)."""
    return scaled(probe.scaling, features) @ constant(probe.weights, features) + probe.offset
