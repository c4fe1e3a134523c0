"""The weights that a full training began with, read again from the base's files when a difference is asked for."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from loratools.adapter.files.checkpoint import Checkpoint, open_checkpoint
from loratools.adapter.header import read_header
from loratools.base.base_path import base_digest, locate_base
from loratools.errors import BaseModelError, LoratoolsError, TrainingError


class StartWeights:
    """A base's weights by canonical parameter name, in float32 on the CPU; nothing of them is kept in memory.

    Args:
        base: as a config names it.
        narrow: they were rounded to bfloat16 (to the nearest) before the first step; the difference is then to the
            rounded ones, so that what was not learnt is 0.
        offline: never ask the hub.
    """

    def __init__(self, base: str, *, narrow: bool, offline: bool) -> None:
        self._base, self._narrow, self._offline = base, narrow, offline

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The base's files.

        Raises:
            LoratoolsError: if they are not there.
        """
        return open_checkpoint(locate_base(self._base, offline=self._offline).path)

    def check(self, digest: str) -> None:
        """Raise TrainingError unless the base is there and still the one of ``digest``."""
        remedy = "and go on with `resume=True`: the state is saved"
        try:
            now = base_digest(self._base, offline=self._offline)
        except (LoratoolsError, OSError) as error:
            raise TrainingError(
                f"the base {self._base}, to which the trained weights are compared, cannot be read any more ({error}); "
                f"put it back {remedy}"
            ) from error
        if now != digest:
            raise TrainingError(
                f"the base {self._base} was changed while it was trained on; put the one of digest {digest[:10]} back "
                f"{remedy}"
            )

    def __getitem__(self, name: str) -> Tensor:
        weight = self.exact(name)
        return weight.to(torch.bfloat16).float() if self._narrow else weight

    def exact(self, name: str) -> Tensor:
        """The parameter as the base's file has it, in float32."""
        return self.checkpoint[name].float()


def refuse_coarse(base: str, *, offline: bool = False) -> None:
    """Raise BaseModelError if a base's weights are stored in 8 bits, which are too coarse to begin from."""
    path = locate_base(base, offline=offline).path
    stored = [path] if path.is_file() else sorted({place.file for place in open_checkpoint(path).locations.values()})
    for file in stored:
        types = {info.dtype for info in read_header(file).tensors.values()} if file.suffix == ".safetensors" else set()
        if coarse := sorted(each for each in types if each.startswith("F8")):
            raise BaseModelError(
                f"{file} holds weights of 8 bits ({coarse[0]}), too coarse to train all of; give the fp16 or fp32 "
                "checkpoint, or train a LoRA"
            )
