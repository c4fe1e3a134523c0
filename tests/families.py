"""Files of declared families for tests: narrow networks, every trainer's spelling, and the differences asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta
from loratools.adapter.architectures.block_transformer import BlockTransformer, PlacedWeight, placed, stored_shape
from loratools.adapter.architectures.known_families import FAMILIES
from loratools.adapter.files.file import Adapter, read
from tests.loras import save

DECLARED = [name for name, family in FAMILIES.items() if isinstance(family.network, BlockTransformer)]
NARROW = dict(zip("WFHCOPAKTGESMN", (24, 40, 4, 20, 8, 12, 16, 8, 12, 28, 20, 10, 48, 32), strict=True))
_OTHER_WIDTHS = {"krea-2": {"K": 6}}  # a quarter of the width, as its fused rows have it


@dataclass(frozen=True)
class Spelling:
    """How a trainer spells a stem: what stands before it, whose path, with dots or underscores, and the factors."""

    space: str
    path: str = "diffusers"
    flat: bool = False
    factors: tuple[str, str] = ("lora_A.weight", "lora_B.weight")


_KOHYA = ("lora_down.weight", "lora_up.weight")
SPELLINGS = {
    "kohya": Spelling("lora_unet_", "original", True, _KOHYA),
    "musubi": Spelling("lora_unet_", "diffusers", True, _KOHYA),
    "own paths, flat": Spelling("lora_unet_", "trainers", True, _KOHYA),
    "own paths": Spelling("diffusion_model.", "trainers"),
    "comfy": Spelling("diffusion_model.", "original"),
    "ai-toolkit": Spelling("diffusion_model."),
    "original": Spelling("", "original", False, _KOHYA),
    "DiffSynth": Spelling("", "original", False, ("lora_A.default.weight", "lora_B.default.weight")),
    "diffusers": Spelling("transformer."),
    "bare": Spelling("", factors=("lora_A", "lora_B")),
    "PEFT": Spelling("base_model.model.", factors=("lora_A", "lora_B")),
    "LyCORIS": Spelling("lycoris_", "diffusers", True, _KOHYA),
    "OneTrainer, dotted": Spelling("transformer.", factors=_KOHYA),
    "OneTrainer, flat": Spelling("lora_transformer_", "diffusers", True, _KOHYA),
    "InvokeAI": Spelling("lora_unet__", "original", True, _KOHYA),
}


def network(family: str) -> BlockTransformer:
    """The declaration of a family's network."""
    net = FAMILIES[family].network
    assert isinstance(net, BlockTransformer)
    return net


@cache
def weights(family: str) -> tuple[PlacedWeight, ...]:
    """Every declared weight, at its place."""
    return tuple(placed(network(family)))


def trained(family: str, blocks: int = 2) -> list[PlacedWeight]:
    """What plain LoRA training changes, of the first blocks of each container."""
    chosen = (weight for weight in weights(family) if weight.weight.trained and weight.stored and not weight.outer)
    return [weight for weight in chosen if _number(weight.originals[0]) < blocks]


def sizes(family: str) -> dict[str, int]:
    """Widths of a narrow network of the family."""
    return NARROW | _OTHER_WIDTHS.get(family, {})


def readable(family: str) -> Iterator[str]:
    """The spellings that a family's files have."""
    own = any(weight.weight.also for weight in weights(family))
    for name, spelling in SPELLINGS.items():
        if spelling.path == "trainers" and not own:
            continue
        # Anima's trainers use the original paths; its adapter has no such path of its own in Diffusers
        if family == "anima" and spelling.path == "diffusers" and name not in ("diffusers", "OneTrainer, dotted"):
            continue
        yield name


@dataclass(frozen=True)
class Asked:
    """A file's tensors in one spelling, and the factors (up, down) of every canonical module."""

    tensors: dict[str, Tensor]
    factors: dict[str, tuple[Tensor, Tensor]]

    @cached_property
    def deltas(self) -> dict[str, Tensor]:
        """Every module's difference, dense in float64."""
        return {
            name: (up.double().flatten(1) @ down.double().flatten(1)).reshape(len(up), *down.shape[1:])
            for name, (up, down) in self.factors.items()
        }


def spelled(
    family: str,
    name: str,
    seed: int = 0,
    blocks: int = 2,
    widths: Mapping[str, int] | None = None,
    rank: int = 2,
    apart: bool = False,
) -> Asked:
    """A file in one spelling.

    Args:
        apart: give every module factors of its own, as training by Diffusers' names does. By default all spellings have
            the same differences: those of the original network's weights, which Diffusers' names cut.
    """
    spelling = SPELLINGS[name]
    tensors: dict[str, Tensor] = {}
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)
    for weight in trained(family, blocks):
        rows, *columns = stored_shape(weight.weight, widths or sizes(family))
        down = torch.randn(rank, *columns, generator=generator)
        up = torch.randn(rows, rank, *[1] * (len(columns) - 1), generator=generator)
        shares = weight.weight.shares or (1,) * len(weight.fused.names)
        cuts = torch.split(up, [rows * share // sum(shares) for share in shares])
        for module, part in zip(weight.fused.names, cuts, strict=True):
            own = torch.randn(down.shape, generator=generator) if apart else down
            factors[module] = (part, own)
        for path, (part, own) in _paths(weight, factors, (up, down), spelling).items():
            component = path.startswith("text_conditioner.") and not spelling.flat  # one of its own
            stem = path if component else f"{spelling.space}{path.replace('.', '_') if spelling.flat else path}"
            first, second = spelling.factors
            tensors |= {f"{stem}.{first}": own.clone(), f"{stem}.{second}": part.clone()}
            if spelling.factors == _KOHYA:
                tensors[f"{stem}.alpha"] = torch.tensor(float(rank))
    return Asked(tensors, factors)


def _paths(
    weight: PlacedWeight,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    whole: tuple[Tensor, Tensor],
    spelling: Spelling,
) -> dict[str, tuple[Tensor, Tensor]]:
    if spelling.path == "diffusers":
        return {name.removeprefix("transformer."): factors[name] for name in weight.fused.names}
    return {weight.originals[-1 if spelling.path == "trainers" else 0]: whole}


def header(family: str) -> dict[str, str]:
    """What a trainer's header says of the family."""
    return {"modelspec.architecture": FAMILIES[family].architecture}


def opened(folder: Path, family: str, name: str, seed: int = 0, blocks: int = 2) -> tuple[Adapter, dict[str, Tensor]]:
    """A file in one spelling, open, and its differences."""
    asked = spelled(family, name, seed, blocks)
    file = "".join(letter for letter in name if letter.isalnum())
    return read(save(folder / f"{file}-{seed}.safetensors", asked.tensors, header(family))), asked.deltas


def error(given: Mapping[str, Delta], asked: Mapping[str, Tensor]) -> float:
    """The greatest relative error of the modules, which must be the same."""
    assert set(given) == set(asked)
    return max(
        float((given[name].dense(torch.float64).reshape(asked[name].shape) - asked[name]).norm() / asked[name].norm())
        for name in asked
    )


def _number(path: str) -> int:
    return int(next(part for part in path.split(".") if part.isdigit()))
