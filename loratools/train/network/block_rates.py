"""Factors on the learning rate by block, for every parameter of a network: ``block_lr`` of a full training."""

from __future__ import annotations

from loratools.blocks.scheme import full_scheme
from loratools.errors import BlockError
from loratools.train.network.targets import block_vector

SD_SCRIPTS_COUNT = 23  # sd-scripts' --block_lr of SDXL
_MIDDLE = ("unet.mid_block.resnets.0.", "unet.mid_block.attentions.0.", "unet.mid_block.resnets.1.")


class BlockRates:
    """``block_lr`` as a function of a parameter's name.

    Args:
        text: by block name, group, range or rule, as for a LoRA; or sd-scripts' 23 numbers of SDXL: time and label
            embedding, nine input blocks, the three parts of the middle block, nine output blocks, and the output. None:
            all 1. Parameters in no block (the time embedding and the output, where they have no number) have 1.
    Raises:
        BlockError: for an unknown block, or the 23 numbers for another family.
    """

    def __init__(self, family: str, text: str | None) -> None:
        self._scheme = full_scheme(family)
        self._numbers = sd_scripts_rates(text) if text is not None else None
        if self._numbers is not None and family != "sdxl":
            raise BlockError(
                f"block_lr has {SD_SCRIPTS_COUNT} numbers, which are SDXL's in sd-scripts' order, and the base is "
                f"{family}; write them by block name, such as {{IN00-IN08: 0.5}}"
            )
        self._vector = None if text is None or self._numbers is not None else block_vector("block_lr", text, family)

    def factor(self, name: str) -> float:
        """The factor on the learning rate of a parameter; 0 leaves it as it is."""
        if self._numbers is not None:
            number = _sd_scripts_number(name, self._scheme.block_of(name))
            return 1.0 if number is None else self._numbers[number]
        module = name.rpartition(".")[0]
        block = self._scheme.block_of(module) if self._vector is not None else None
        rate = None if self._vector is None or block is None else self._vector.at(block, module)
        return 1.0 if rate is None else rate


def sd_scripts_rates(text: str) -> list[float] | None:
    """The numbers of ``text`` if it is a list of sd-scripts' length, else None."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == SD_SCRIPTS_COUNT else None


def _sd_scripts_number(name: str, block: str | None) -> int | None:
    """Which of the 23 a parameter's is; 0 for what stands before the blocks, None outside the UNet."""
    if not name.startswith("unet."):
        return None
    if name.startswith(("unet.conv_norm_out", "unet.conv_out")):
        return 22
    if block is None:
        return 0
    if block == "M00":
        return 10 + next(place for place, stem in enumerate(_MIDDLE) if name.startswith(stem))
    return (1 if block.startswith("IN") else 13) + int(block[-2:])
