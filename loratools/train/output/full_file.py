"""The files of a full training: a checkpoint, the difference to the base, or the best LoRA of it.

All of them are made of one thing: what was learnt, which is the weights less those that training began with, rounded to
the files' number type. A checkpoint is the base plus that, so that a difference that is added to the base later gives
the checkpoint's very bytes; but for the VAE of a run that was given another one, which the checkpoint has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, Dense, Vector
from loratools.adapter.algebra.rank import parse_rank
from loratools.adapter.architectures.header_words import COMPONENTS
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.files.save import write
from loratools.adapter.files.write_model import model_marks, write_checkpoint
from loratools.base.model import Base
from loratools.base.to_device import as_float64
from loratools.base.vae import checkpoint_tensors
from loratools.errors import FormatError
from loratools.ops.extract import ModelPair, extract_pair
from loratools.ops.extract_parts import Take
from loratools.train.config.full import FileKind
from loratools.train.network.full import FullWeights
from loratools.train.output.diffusers_folder import write_folder
from loratools.train.output.saved import Saved

ALL = Take(conv=True, norms=True, biases=True)  # everything that a LoRA file can hold


@dataclass(frozen=True)
class FullFile:
    """Writes one kind of file of what a full training has learnt.

    Args:
        base: as it is loaded.
        digest: of the base's files, which must be the same at every file.
        vae: folder or file of the VAE that the run was trained with instead of the base's own, which its checkpoints
            have too, since the weights were learnt from its latents; None for the base's.
    """

    kind: FileKind
    network: FullWeights
    dtype: torch.dtype
    base: Base
    digest: str
    vae: Path | None = None

    def write(self, path: Path, metadata: Mapping[str, str], provenance: Provenance, *, force: bool) -> Saved:
        """Write the file (or folder) ``path``, whole or not at all.

        Raises:
            TrainingError: if the base is gone or another one.
        """
        self.network.start.check(self.digest)
        learnt = Learnt(self.network, self.dtype)
        match self.kind.kind:
            case "delta":
                texts = {**metadata, "ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "full"}'}
                written = write(
                    learnt,
                    path,
                    family=self.network.family,
                    metadata=texts,
                    dtype=self.dtype,
                    provenance=provenance,
                    force=force,
                )
                return Saved(written.digest)
            case "lora":
                return self._extract(path, metadata, provenance, force)
            case _:
                texts = {key: text for key, text in metadata.items() if not key.startswith("ss_network")}
                components = sorted({name.partition(".")[0] for name in self.network.names})
                texts[COMPONENTS] = ",".join(components)
                texts["modelspec.architecture"] = texts["modelspec.architecture"].removesuffix("/lora")
                base, weights = self.network.start.checkpoint, Summed(learnt)
                if self.kind.kind == "diffusers":
                    made = {"step": provenance.step, "inputs": list(provenance.inputs)}
                    owner, dtype = provenance.owner, self.dtype
                    digest = write_folder(
                        self.base, base, weights, path, dtype=dtype, owner=owner, made=made, vae=self.vae, force=force
                    )
                    return Saved(digest)
                digest = write_checkpoint(
                    base,
                    path,
                    weights,
                    dtype=self.dtype,
                    metadata=texts,
                    provenance=provenance,
                    marks=model_marks(
                        self.base.family, velocity=self.base.prediction == "v_prediction", zero_snr=self.base.zero_snr
                    ),
                    vae=None if self.vae is None else checkpoint_tensors(self.vae),
                    force=force,
                )
                return Saved(digest)

    def _extract(self, path: Path, metadata: Mapping[str, str], provenance: Provenance, force: bool) -> Saved:
        network = self.network
        shapes = {name: tuple(network.start.checkpoint.shapes[name]) for name in network.names}

        def change(name: str) -> Tensor:
            return as_float64(network.difference(name)).reshape(shapes[name])

        base = network.start.checkpoint.path
        pair = ModelPair(network.family, shapes, shapes, change, (base, path))
        try:
            report = extract_pair(
                pair,
                path,
                rule=parse_rank(self.kind.rank),
                take=ALL,
                dtype=self.dtype,
                metadata={**metadata, "ss_network_module": "networks.lora"},
                provenance=provenance,
                force=force,
            )
        except FormatError as error:
            raise FormatError(f"{path.stem}: no LoRA can be made of what was learnt so far ({error})") from error
        blocks = {name: share.error for name, share in report.blocks.items()}
        return Saved(report.digest, report.whole if report.whole is not None else report.total.error, blocks)


class Learnt(Mapping[str, Delta]):
    """What was learnt, as an adapter of full differences: rounded to ``dtype``, and 0 nowhere left out."""

    def __init__(self, network: FullWeights, dtype: torch.dtype) -> None:
        self.network, self.dtype = network, dtype
        shapes = {name: tuple(network.start.checkpoint.shapes[name]) for name in network.names}
        self._parameters = {adapter_name(name, shape): name for name, shape in shapes.items()}
        self._stored = shapes
        self.shapes = {adapter_name(name, shape): shape for name, shape in shapes.items()}
        self.ranks = {name: min(shape) if len(shape) > 1 else 1 for name, shape in self.shapes.items()}
        self.dense = frozenset(self.shapes)

    def __getitem__(self, name: str) -> Delta:
        parameter = self._parameters[name]
        value = self.of(parameter)
        return Vector(value) if value.dim() == 1 else Dense(value)

    def of(self, parameter: str) -> Tensor:
        """What was learnt of a parameter, in float32 and of the shape that the base's file has."""
        difference = self.network.difference(parameter).reshape(self._stored[parameter])
        return difference.to(self.dtype).float()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parameters))

    def __len__(self) -> int:
        return len(self._parameters)


class Summed(Mapping[str, Tensor]):
    """The base's weights with what was learnt added, by canonical parameter name, in float32."""

    def __init__(self, learnt: Learnt) -> None:
        self._learnt = learnt

    def __getitem__(self, name: str) -> Tensor:
        return self._learnt.network.start.exact(name) + self._learnt.of(name)

    def __contains__(self, name: object) -> bool:
        return name in self._learnt._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._learnt._stored)

    def __len__(self) -> int:
        return len(self._learnt._stored)


def adapter_name(parameter: str, shape: tuple[int, ...]) -> str:
    """What a LoRA file calls a parameter's difference: its module, but for biases and norms, of one dimension."""
    return parameter if len(shape) == 1 else parameter.removesuffix(".weight")
