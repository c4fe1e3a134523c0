"""The code of a page of documentation, block by block, and a place where it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from loratools.adapter.architectures.names import kohya_name
from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.pocket import weights_folder

ROOT = Path(__file__).parents[2]
HOSTS = Path(__file__).with_name("hosts")  # stand-ins for what other programs give
_BLOCK = re.compile(r"^```(?P<language>python|yaml)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = (
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v",
    "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2",
)


@dataclass(frozen=True)
class Block:
    """A block of code: the heading that it stands under, its language, and the page's line that it begins at."""

    heading: str
    language: str
    code: str
    line: int


def blocks(page: str, language: str = "python") -> list[Block]:
    """The blocks of one language of ``README.md`` or ``docs/NAME.md``, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        headings = re.findall(r"^#+ (.+)$", text[: match.start()], re.MULTILINE)
        line = text[: match.start()].count("\n") + 2
        found.append(Block(headings[-1] if headings else "", match["language"], match["code"], line))
    return [block for block in found if block.language == language]


def run(page: str, block: Block, names: dict[str, object]) -> None:
    """Run a block among ``names``; a traceback shows the page and its line."""
    code = compile("\n" * (block.line - 1) + block.code, str(ROOT / page), "exec")
    exec(code, names)


def save_pocket_lora(path: Path, seed: int) -> Path:
    """A LoRA file of four modules that fits the pocket base, with sd-scripts' keys and no header."""
    shapes = open_checkpoint(weights_folder()).shapes
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name in MODULES:
        rows, columns = shapes[f"{name}.weight"][:2]
        stem = kohya_name(name, "sd1")
        tensors[f"{stem}.lora_up.weight"] = 0.1 * torch.randn(rows, 3, generator=generator)
        tensors[f"{stem}.lora_down.weight"] = 0.1 * torch.randn(3, columns, generator=generator)
        tensors[f"{stem}.alpha"] = torch.tensor(3.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def save_picture(folder: Path) -> Path:
    """A folder of one random picture with a caption."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "1.png")
    (folder / "1.txt").write_text("1girl, smile", encoding="utf-8")
    return folder
