"""What each block of a LoRA does to pictures: every block alone, and every block left out, over prompts and seeds.

A block's ``alone`` is how far the base's picture moves when only that block is on, its ``missed`` how far the whole
LoRA's picture moves when that block is off; both relative to how far the whole LoRA moves the base's picture. One
seed's difference says little, so each is a mean over prompts and seeds with its spread.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from loratools.adapter.files.file import Adapter
from loratools.base.model import LoadedBase
from loratools.blocks.explain import sparks
from loratools.blocks.scheme import full_scheme
from loratools.blocks.vector import BlockVector
from loratools.errors import GridError
from loratools.files import replacing, write_text
from loratools.imaging.colours import GREY, INK, PAPER
from loratools.imaging.lettering import Lettering
from loratools.ops.merging.terms import Term
from loratools.ops.text_table import table
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import GridResult, render_grid

FILE = "effect.json"


@dataclass(frozen=True)
class Spread:
    """A mean over pictures, and its standard deviation (0 for a single picture)."""

    mean: float
    spread: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of ``values``, one for each picture."""
        return Spread(fmean(values), stdev(values) if len(values) > 1 else 0.0)

    def text(self) -> str:
        """For a table."""
        return f"{self.mean:.3f} ± {self.spread:.3f}"


@dataclass(frozen=True)
class BlockEffect:
    """One block's effect: its modules; ``alone`` and ``missed`` relative to the whole LoRA's; ``nudged`` likewise, when
    its weight in the whole LoRA goes up and down by a nudge (None if none was asked for)."""

    modules: int
    alone: Spread
    missed: Spread
    nudged: Spread | None = None


@dataclass(frozen=True)
class Effect:
    """All blocks' effects. ``whole`` is the LoRA's own: root mean square change of a pixel, of 1; ``pictures`` is how
    many prompts x seeds each mean is over."""

    label: str
    weight: float
    pictures: int
    whole: Spread
    blocks: Mapping[str, BlockEffect]
    folder: Path
    rendered: int
    nudge: float = 0.0

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "lora": self.label,
            "weight": self.weight,
            "nudge": self.nudge,
            "pictures": self.pictures,
            "whole": asdict(self.whole),
            "blocks": {name: asdict(effect) for name, effect in self.blocks.items()},
            "strip": str(self.folder / "effect.png"),
            "grid": str(self.folder / "grid.png"),
            "rendered": self.rendered,
        }

    def text(self) -> str:
        """A table and two sparklines."""
        rows = [["block", "modules", "alone", "missed when off", *([f"at ±{self.nudge:g}"] if self.nudge else [])]]
        rows += [
            [name, str(one.modules), one.alone.text(), one.missed.text(), *([one.nudged.text()] if one.nudged else [])]
            for name, one in self.blocks.items()
        ]
        alone = sparks([one.alone.mean for one in self.blocks.values()])
        missed = sparks([one.missed.mean for one in self.blocks.values()])
        note = f"the whole LoRA at {self.weight:g} changes a pixel by {self.whole.text()} (of 1)"
        return f"{table(rows)}\n\nalone  |{alone}|\nmissed |{missed}|\n{note}; over {self.pictures} pictures each"


def analyze_effect(
    base: LoadedBase,
    adapter: Adapter,
    prompts: Sequence[str],
    *,
    out: Path,
    seeds: Sequence[int] = (1, 2, 3),
    weight: float = 1.0,
    nudge: float = 0.0,
    label: str = "",
    sampling: SamplingRequest | None = None,
    options: EngineOptions | None = None,
    progress: bool = False,
    on_picture: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> Effect:
    """Render each block on and off, measure, and write ``effect.json`` and the heat strip ``effect.png`` beside the
    grid of all the pictures.

    Args:
        weight: of the LoRA.
        nudge: also render the whole LoRA with each block's weight up and down by this; 0 does not.
        The other arguments are those of :func:`loratools.preview.run.render_grid`.
    Raises:
        GridError: if the LoRA changes no block, or no picture.
        LoratoolsError: as for ``render_grid``.
    """
    scheme = full_scheme(adapter.family)
    placed = [scheme.block_of(name) for name in adapter]
    present = {name for name in placed if name is not None}
    held = [*(name for name in scheme.names if name in present), *sorted(present - set(scheme.names))]
    if not held:
        raise GridError(f"{adapter.path} changes no block that {scheme.title} knows, so there is nothing to tell apart")
    rows = [GridRow.of_terms([Term(adapter, 1.0, label="whole")], "whole")]
    for name in held:
        rows += [_row(adapter, held, name, 1.0, 0.0, f"only {name}")]
        rows += [_row(adapter, held, name, here, 1.0, label) for label, here in _around(name, nudge).items()]
    result = render_grid(
        base,
        rows,
        [weight],
        prompts,
        out=out,
        sampling=sampling,
        seeds=seeds,
        options=options,
        title=f"{label or adapter.path.stem}: every block alone, and left out",
        owner="blocks analyze-effect",
        force=force,
        progress=progress,
        on_picture=on_picture,
    )
    effect = _measured(result, held, weight, nudge, label or adapter.path.stem, [placed.count(name) for name in held])
    write_text(out / FILE, json.dumps(effect.json(), indent=1, ensure_ascii=False) + "\n")
    draw_strip(out / "effect.png", effect)
    return effect


def _around(name: str, nudge: float) -> dict[str, float]:
    """Rows of the whole LoRA with one block off, and up and down by a nudge: label -> the block's weight."""
    nudged = {f"{name} up": 1 + nudge, f"{name} down": 1 - nudge} if nudge else {}
    return {f"without {name}": 0.0, **nudged}


def _row(adapter: Adapter, held: Sequence[str], block: str, here: float, elsewhere: float, label: str) -> GridRow:
    """The LoRA with one block at ``here`` and all others at ``elsewhere``; modules in no block stay at 1."""
    scheme = full_scheme(adapter.family)
    vector = BlockVector(scheme, {name: here if name == block else elsewhere for name in held})
    return GridRow.of_terms([Term(adapter, 1.0, vector, label=label)], label)


def _measured(
    result: GridResult, held: Sequence[str], weight: float, nudge: float, label: str, modules: Sequence[int]
) -> Effect:
    base, whole = result.paths("whole", 0.0), result.paths("whole", weight)
    reach = [distance(a, b) for a, b in zip(base, whole, strict=True)]
    if not any(reach):
        raise GridError(f"{label} changes no picture at weight {weight:g}; give another `weight=`, or check the file")
    blocks = {}
    for name, count in zip(held, modules, strict=True):
        alone = _relative(base, result.paths(f"only {name}", weight), reach)
        missed = _relative(whole, result.paths(f"without {name}", weight), reach)
        moved = [
            value
            for side in ("up", "down")
            for value in (_relative(whole, result.paths(f"{name} {side}", weight), reach) if nudge else [])
        ]
        blocks[name] = BlockEffect(count, Spread.of(alone), Spread.of(missed), Spread.of(moved) if moved else None)
    return Effect(
        label=label,
        weight=weight,
        pictures=len(base),
        whole=Spread.of(reach),
        blocks=blocks,
        folder=result.folder,
        rendered=result.rendered,
        nudge=nudge,
    )


def _relative(before: Sequence[Path], after: Sequence[Path], reach: Sequence[float]) -> list[float]:
    """Each picture's distance divided by that of the whole LoRA; pictures that the whole LoRA leaves as they are do not
    count."""
    return [distance(a, b) / far for a, b, far in zip(before, after, reach, strict=True) if far > 0]


def distance(a: Path, b: Path) -> float:
    """Root mean square difference of two pictures' channels, where 1 is black against white."""
    import numpy as np
    from PIL import Image

    with Image.open(a) as first, Image.open(b) as second:
        x = np.asarray(first.convert("RGB"), dtype=np.float64)
        y = np.asarray(second.convert("RGB"), dtype=np.float64)
    return math.sqrt(float(((x - y) ** 2).mean())) / 255


def draw_strip(path: Path, effect: Effect) -> None:
    """The heat strip: a column for each block, ``alone`` above ``missed``, dark is much."""
    from PIL import Image, ImageDraw

    side, left, top = 52, 150, 56
    small, head = Lettering(13, "±"), Lettering(19, effect.label)
    title = f"{effect.label}: what each block does, relative to the whole LoRA"
    width = max(left + side * len(effect.blocks) + 16, left + head.width(title) + 16)
    lines = 3 if effect.nudge else 2
    sheet = Image.new("RGB", (width, top + lines * side + 64), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((16, 14), title, fill=INK, font=head.font)
    rows = [
        ("only this block", [one.alone for one in effect.blocks.values()]),
        ("missed when off", [one.missed for one in effect.blocks.values()]),
    ]
    nudged = [one.nudged for one in effect.blocks.values() if one.nudged is not None]
    rows += [(f"at ±{effect.nudge:g}", nudged)] if nudged else []
    bottom = top + len(rows) * side
    highest = max(1e-9, *(one.mean for _, values in rows for one in values))
    for line, (text, values) in enumerate(rows):
        y = top + line * side
        pen.text((left - 10, y + side // 2), text, fill=INK, font=small.font, anchor="rm")
        for column, value in enumerate(values):
            x, share = left + column * side, value.mean / highest
            pen.rectangle((x, y, x + side - 2, y + side - 2), fill=_heat(share))
            ink = PAPER if share > 0.55 else INK
            pen.text((x + side // 2, y + side // 2 - 8), f"{value.mean:.2f}", fill=ink, font=small.font, anchor="mm")
            pen.text((x + side // 2, y + side // 2 + 9), f"±{value.spread:.2f}", fill=ink, font=small.font, anchor="mm")
    for column, name in enumerate(effect.blocks):
        pen.text((left + column * side + side // 2, bottom + 14), name, fill=INK, font=small.font, anchor="mm")
    note = f"mean ± standard deviation over {effect.pictures} pictures, weight {effect.weight:g}"
    pen.text((left, bottom + 34), note, fill=GREY, font=small.font)
    with replacing(path) as part:
        sheet.save(part, format="PNG")


def _heat(share: float) -> tuple[int, int, int]:
    """From paper to a deep blue."""
    light, dark = (239, 236, 228), (22, 52, 92)
    mixed = [round(a + (b - a) * max(0.0, min(1.0, share))) for a, b in zip(light, dark, strict=True)]
    return mixed[0], mixed[1], mixed[2]
