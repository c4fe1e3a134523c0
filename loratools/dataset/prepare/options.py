"""How a folder is to be prepared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from loratools.errors import OptionError

TextAction = Literal["keep", "mask", "crop", "fill"]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What is done to pictures.

    Attributes:
        resolution: that will be trained at; pictures with fewer pixels than its square are enlarged.
        most_enlarged: times a side; what would need more is left out.
        most_ratio: long side to short side; pictures beyond it are left out.
        crops: whether faces, half and whole figures are cropped out of larger pictures.
        text: what becomes of text that a detector finds: ``keep`` it; ``mask`` it out of the loss; ``crop`` it away
            where it is near an edge, or ``fill`` it where its surroundings are flat, and mask it elsewhere.
        keep_copies: leave copies of a picture in.
    """

    resolution: int = 512
    most_enlarged: float = 4.0
    most_ratio: float = 3.0
    crops: bool = True
    text: TextAction = "mask"
    keep_copies: bool = False

    def __post_init__(self) -> None:
        if self.resolution < 64:
            raise OptionError(f"resolution={self.resolution} is below 64; name the side that you will train at")
        if self.most_enlarged < 1 or self.most_ratio < 1:
            raise OptionError("most_enlarged and most_ratio are 1 or more")

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)
