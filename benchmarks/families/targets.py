"""What loaders make of `convert --to`'s files for each declared transformer: the table in docs/adapters.md.

Files of every trained module of one block of each kind, at published widths and rank 1, with factors trained apart, are
converted to each target and handed to what reads it:

- diffusers' own loader of the family (`lora_state_dict`) and its model class on the meta device (`load_lora_adapter`),
- ComfyUI's map by its rules: `diffusion_model.` and the original network's path, or `lora_unet_` and that path with
  underscores; the rules alone, since ComfyUI is no package that could be installed here,
- diffusers' converter of the original network's checkpoints, which has to find every declared path and cut it alike.

    python -m benchmarks.families.targets --docs docs/adapters.md
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from loratools.adapter.algebra.fused_rows import rows_of
from loratools.adapter.architectures.block_transformer import stored_shape
from loratools.adapter.files.key_layout import Style
from loratools.ops.convert import convert
from tests.families import DECLARED, Asked, header, network, spelled, weights
from tests.loras import save

BEGIN, END = "<!-- families: python -m benchmarks.families.targets -->", "<!-- /families -->"
PROBES = 4  # vectors that a difference is multiplied by, to compare it without forming it
BOUND = 1e-6
_NOT_CONVERTED = "prompt_adaln_single"  # LTX-2.3's: diffusers renames it in LoRA files, and not in checkpoints
COLUMNS = ("diffusers", "comfy", "kohya", "comfy in diffusers", "kohya in diffusers", "checkpoint")

Factors = Mapping[str, tuple[Tensor, Tensor]]  # module -> up, down


@dataclass(frozen=True)
class Answer:
    """What one loader made of one file.

    Args:
        error: the greatest relative error of a module's difference; None where the loader did not read the file.
        reason: why it did not, in a few words.
    """

    error: float | None
    reason: str = ""

    @property
    def right(self) -> bool:
        """Whether every module was taken with the difference that was asked for."""
        return self.error is not None and self.error < BOUND

    def __str__(self) -> str:
        if self.error is None or self.error == 0:
            return self.reason or "0"
        return f"{self.error:.0e}" if self.right else f"**{self.error:.1e}**"


@dataclass(frozen=True)
class Row:
    """A family's answers, by column, and how many modules were asked for."""

    family: str
    modules: int
    answers: Mapping[str, Answer]


def measure(family: str, folder: Path) -> Row:
    """Convert one family's file to every target, and ask the loaders."""
    place = network(family).diffusers
    blocks = 100 if place is not None and place.loader == "WanLoraLoaderMixin" else 1  # which wants every block
    asked = spelled(family, "diffusers", 0, blocks, network(family).sizes[0], 1, apart=True)
    source = save(folder / "source.safetensors", asked.tensors, header(family))
    styles: tuple[Style, ...] = ("diffusers", "comfy", "kohya")
    files = {style: converted(source, folder / f"{style}.safetensors", style) for style in styles}
    answers = {
        "diffusers": by_diffusers(family, files["diffusers"], asked),
        "comfy": by_comfyui(family, files["comfy"], asked),
        "kohya": by_comfyui(family, files["kohya"], asked),
        "comfy in diffusers": by_loader(family, files["comfy"], asked),
        "kohya in diffusers": by_loader(family, files["kohya"], asked),
        "checkpoint": by_converter(family),
    }
    return Row(family, len(asked.factors), answers)


def converted(source: Path, out: Path, style: Style) -> dict[str, Tensor]:
    """The tensors of ``source`` in another style."""
    tensors: dict[str, Tensor] = load_file(convert(source, out, style=style, dtype="fp32", force=True).path)
    return tensors


def by_diffusers(family: str, tensors: dict[str, Tensor], asked: Asked) -> Answer:
    """The family's loader, and the model class, which has to take every key."""
    answer = by_loader(family, tensors, asked) if _place(family).loader else compared(pairs(tensors), asked)
    left = left_by_the_model(family, tensors)
    return Answer(None, f"the model left {len(left)} keys") if left else answer


def by_loader(family: str, tensors: dict[str, Tensor], asked: Asked) -> Answer:
    """diffusers' mixin for the family's pipelines."""
    import diffusers.loaders.lora_pipeline as pipelines

    if not _place(family).loader:
        return Answer(None, "no loader")
    mixin = getattr(pipelines, _place(family).loader)
    try:
        state = mixin.lora_state_dict(dict(tensors))
    except Exception as error:  # whatever another program raises is its answer
        return Answer(None, f"{type(error).__name__}")
    state = state[0] if isinstance(state, tuple) else state
    try:
        return compared(pairs(state), asked)
    except ValueError as error:
        return Answer(None, str(error))


def left_by_the_model(family: str, tensors: dict[str, Tensor]) -> list[str]:
    """The modules of a file in Diffusers' style that the family's model class, on the meta device, did not take."""
    import diffusers
    from accelerate import init_empty_weights

    place = _place(family)
    with init_empty_weights():
        model = getattr(diffusers, place.model)(**place.config)
    own = {key: value for key, value in tensors.items() if key.startswith("transformer.")}
    stems = {key.split(".lora_")[0].removeprefix("transformer.") for key in own}
    if not hasattr(model, "load_lora_adapter"):  # a class without LoRA: its weights have to have these shapes
        weighty = {name: getattr(module, "weight", None) for name, module in model.named_modules()}
        shapes = {name: tuple(weight.shape) for name, weight in weighty.items() if weight is not None}
        heights = {stem: len(own[f"transformer.{stem}.lora_B.weight"]) for stem in stems}
        return sorted(stem for stem in stems if shapes.get(stem, (0,))[0] != heights[stem])
    model.load_lora_adapter(own, prefix="transformer", adapter_name="asked", low_cpu_mem_usage=True)
    taken = {name for name, module in model.named_modules() if "asked" in getattr(module, "lora_A", {})}
    return sorted(stems - taken)


def by_comfyui(family: str, tensors: dict[str, Tensor], asked: Asked) -> Answer:
    """ComfyUI's map for any model: the original network's paths, dotted or flat; every key has to be one of them."""
    left = dict(tensors)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for weight in (weight for weight in weights(family) if weight.stored):
        path = weight.originals[0]
        for stem in (f"diffusion_model.{path}", f"lora_unet_{path.replace('.', '_')}"):
            alpha = left.pop(f"{stem}.alpha", None)
            for up_key, down_key in (("lora_up", "lora_down"), ("lora_B", "lora_A")):
                up, down = left.pop(f"{stem}.{up_key}.weight", None), left.pop(f"{stem}.{down_key}.weight", None)
                if up is None or down is None:
                    continue
                scale = 1.0 if alpha is None else float(alpha) / len(down)
                rows = rows_of(weight.fused, len(up), down.flatten(1).shape[1])
                for module, ranges in zip(weight.fused.names, rows, strict=True):
                    found[module] = (torch.cat([up[first:last] for first, last in ranges]) * scale, down)
    return Answer(None, f"{len(left)} keys left") if left else compared(found, asked)


def by_converter(family: str) -> Answer:
    """diffusers' converter of checkpoints, given a column of distinct numbers for every stored weight."""
    import diffusers.loaders.single_file_utils as single_file

    place = _place(family)
    if not place.converter:
        same = all(f"transformer.{w.originals[0]}" in w.fused.names for w in weights(family) if w.stored)
        return Answer(None, "same names" if same else "none")
    before = "net." if "cosmos" in place.converter else ""
    checkpoint, wanted = Checkpoint(), {}
    for number, weight in enumerate(weight for weight in weights(family) if weight.stored and not weight.norm):
        if not weight.fused.names[0].startswith("transformer.") or _NOT_CONVERTED in weight.originals[0]:
            continue
        rows, *columns = stored_shape(weight.weight, network(family).sizes[0])
        value = torch.arange(rows, dtype=torch.float64)[:, None] + number / 4096
        checkpoint[f"{before}{weight.originals[-1]}.weight"] = value.clone()
        for module, ranges in zip(weight.fused.names, rows_of(weight.fused, rows, columns[0]), strict=True):
            wanted[module] = torch.cat([value[first:last] for first, last in ranges])
    made = getattr(single_file, place.converter)(checkpoint)
    got = {f"transformer.{key.removesuffix('.weight')}": value for key, value in made.items()}
    wrong = [name for name, value in wanted.items() if name not in got or not torch.equal(got[name], value)]
    return Answer(None, f"**{len(wrong)} of {len(wanted)} differ**, such as {wrong[0]}") if wrong else Answer(0.0)


class Checkpoint(dict[str, Tensor]):
    """A checkpoint that has zeros for whatever a converter asks for beside the declared matrices: biases and norms."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, int] = {}

    def __setitem__(self, key: str, value: Tensor) -> None:
        self._rows[key.rpartition(".")[0]] = len(value)
        super().__setitem__(key, value)

    def pop(self, key: str, *default: Any) -> Tensor:  # type: ignore[override]
        """The tensor, which leaves the checkpoint."""
        return super().pop(key, torch.zeros(self._rows.get(key.rpartition(".")[0], 6), 1))


def pairs(state: Mapping[str, Tensor]) -> Factors:
    """The factors in a state dict of Diffusers' names.

    Raises:
        ValueError: if it has anything else.
    """
    stems = {key.removesuffix(".lora_A.weight") for key in state if key.endswith(".lora_A.weight")}
    others = {key for key in state if key.rsplit(".lora_", 1)[0] not in stems}
    if others:
        raise ValueError(f"{len(others)} keys left")
    return {stem: (state[f"{stem}.lora_B.weight"], state[f"{stem}.lora_A.weight"]) for stem in stems}


def compared(found: Factors, asked: Asked) -> Answer:
    """The greatest relative error over all modules, by a few random vectors."""
    if set(found) != set(asked.factors):
        lacking, more = set(asked.factors) - set(found), set(found) - set(asked.factors)
        return Answer(None, f"{len(lacking)} of {len(asked.factors)} modules lost" if lacking else f"{len(more)} more")
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for name, (up, down) in asked.factors.items():
        probe = torch.randn(down.flatten(1).shape[1], PROBES, dtype=torch.float64, generator=generator)
        wanted, given = applied((up, down), probe), applied(found[name], probe)
        if wanted.shape != given.shape:
            return Answer(None, f"{name} has another height")
        worst = max(worst, float((given - wanted).norm() / wanted.norm()))
    return Answer(worst)


def applied(factors: tuple[Tensor, Tensor], probe: Tensor) -> Tensor:
    """The difference times ``probe``, in float64."""
    up, down = (factor.double().flatten(1) for factor in factors)
    return up @ (down @ probe)


def _place(family: str) -> Any:
    return network(family).diffusers


def line(row: Row) -> str:
    """A family's line of the table."""
    cells = " | ".join(str(row.answers[column]) for column in COLUMNS)
    return f"| `{row.family}` | {row.modules} | {cells} |"


def table(rows: list[Row]) -> str:
    """The table as docs have it."""
    lines = [
        "| family | modules | `diffusers` in diffusers | `comfy` in ComfyUI | `kohya` in ComfyUI "
        "| `comfy` in diffusers | `kohya` in diffusers | paths in diffusers' converter |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(line, rows)])


def main() -> None:
    """Measure, and write the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, help="a page whose table is replaced; printed if not given")
    parser.add_argument("--family", action="append", help="only this one, and printed")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = []
    for family in asked.family or DECLARED:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(family, Path(folder)))
    if asked.docs is None or asked.family:
        print(table(rows))
        return
    page = asked.docs.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    asked.docs.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
