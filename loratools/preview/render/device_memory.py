"""What the device's memory allows an engine: what is saved, how many pictures a batch has, and what is said of both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from loratools.base.model import Base
from loratools.preview.render.memory import (
    Need,
    Offloader,
    Savings,
    available,
    choose_savings,
    fitting,
    tiles,
    to_device,
)
from loratools.preview.request.options import EngineOptions

NeedOf = Callable[[int, Savings], Need]  # pictures a batch, what is saved -> what that takes


class DeviceMemory:
    """Savings that are in force on one base, and the batches that fit beside them.

    Args:
        free: gives back all that can be made or read again.
        say: called with a line of text: what is needed, what is saved, and smaller batches.
        announces: whether what is needed is said where there is enough of it.
    """

    def __init__(
        self,
        base: Base,
        options: EngineOptions,
        free: Callable[[], None],
        say: Callable[[str], None],
        *,
        announces: bool = True,
    ) -> None:
        self._base, self._free, self.say, self._announces = base, free, say, announces
        self.most = options.batch  # pictures a batch
        self.savings = Savings(options.offload, options.sliced, options.tiled)
        self._announced = False  # whether this caller knows what is needed
        self._tiles = contextlib.ExitStack()
        self._offloader: Offloader | None = None
        self._enforce()

    @property
    def offloads(self) -> bool:
        """Whether only the model that works is on the device."""
        return self._offloader is not None

    def serve(self, say: Callable[[str], None]) -> None:
        """Tell another caller from now on."""
        self.say, self._announced = say, False

    def close(self) -> None:
        """Decode as the VAE did before."""
        self._tiles.close()

    def using(self, *models: object) -> contextlib.AbstractContextManager[None]:
        """Inside the block ``models`` are on the device."""
        return self._offloader.using(*models) if self._offloader else contextlib.nullcontext()

    def park(self) -> None:
        """Have all models in main memory, if they are offloaded."""
        if self._offloader:
            self._offloader.park()

    def back(self) -> None:
        """Have all models where they were at first."""
        if self._offloader:
            self._offloader.back()

    def save(self, need_of: NeedOf, widest: int) -> bool:
        """Before anything is drawn, save as far as memory takes it; True if more is saved than before.

        Later on what is kept already takes its part of the memory, and smaller batches are enough.

        Args:
            widest: pictures of the batch with the most.
        """
        free = available(self._base.device)
        if free is None or self._announced:
            return False
        savings = choose_savings(need_of, self.savings, min(self.most, widest), free)
        more = savings != self.savings
        if more:
            self._free()
            self.savings = savings
            self._enforce()
            self.say(f"memory is short: {savings.text()}")
        if not self.offloads:  # where the base was loaded into main memory it fits the device after all
            to_device(self._base)
        return more

    def announce(self, need_of: NeedOf, widest: int) -> None:
        """Say once what the work needs, and begin with smaller batches where that is more than there is.

        Args:
            widest: pictures of the batch with the most.
        """
        free = available(self._base.device)
        if free is None:
            return

        def at_once(batch: int) -> Need:
            return need_of(batch, self.savings)

        asked = min(self.most, widest)
        most, text = fitting(at_once, asked, free)
        if most < asked:  # what earlier calls left is worth less than a larger batch
            self._free()
            most, text = fitting(at_once, asked, available(self._base.device) or free)
        if most < asked:
            self.most = most
        if most < asked or (self._announces and not self._announced):
            self.say(text)
        self._announced = True

    def ran_out(self, pictures: int) -> None:
        """A batch of ``pictures`` did not fit after all: later ones have half of them."""
        self.most = -(-pictures // 2)
        self._free()
        self.say(f"out of memory with {pictures} pictures at once; going on with {self.most}")

    def _enforce(self) -> None:
        if self.savings.tiled:
            self._tiles.close()
            self._tiles.enter_context(tiles(self._base.vae))
        if self.savings.offload and self._base.device.type != "cpu" and self._offloader is None:
            self._offloader = Offloader(self._base)
