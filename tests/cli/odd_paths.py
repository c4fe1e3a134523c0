"""A folder whose path is everything that people's paths are, and what commands work on, in names as odd."""

from __future__ import annotations

import json
import random
from pathlib import Path

from loratools.pocket.draw import draw, random_figure
from tests.recipe.conftest import save_lora

PARTS = ("мои файлы", "图片 [1] 😀", "it's & 100% #1, v=2; ~(x)", "long " + 90 * "a", "long " + 90 * "b")
SET = "картинки 😀"
LONGEST = 260  # characters of a path that Windows takes where it is not told otherwise


def crlf(path: Path, text: str) -> Path:
    """Write a text as Windows' editors do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8"))
    return path


def make(root: Path) -> Path:
    """The folder, below ``root``, with two LoRAs, a run of two epochs, a set of pictures, a recipe and tables; every
    text has Windows' ends of lines."""
    folder = root.joinpath(*PARTS)
    folder.mkdir(parents=True)
    for seed, name in enumerate(("стиль 1", "基 😀 [b]"), 1):
        save_lora(folder / f"{name}.safetensors", seed)
    for number in (1, 2):
        save_lora(folder / f"run, 运行/ink 墨-{number:06d}.safetensors", number)
    crlf(folder / "пресеты.yaml", f"МОЙ: {[1.0, *[0.5] * 16]}\n")
    recipe = f"base: pocket\nblocks:\n  GP1: {[1.0, *[0.5] * 16]}  # моё\nsteps:\n"
    recipe += "  final: {merge: '\"стиль 1\":1:GP1', out: итог 结果.safetensors}  # 合并\n"
    crlf(folder / "рецепт 😀.yaml", recipe)
    for number in range(4):
        kind = "4_лицо face" if number % 2 else "1_тело 全"
        place = folder / f"{SET}/{kind}/画 [{number}].png"
        place.parent.mkdir(parents=True, exist_ok=True)
        figure = random_figure(random.Random(number), framing="face_focus" if number % 2 else "cowboy_shot")
        draw(figure, number, 64).image.save(place)
        crlf(place.with_suffix(".txt"), ", ".join(figure.tags()) + "\n")
    crlf(folder / "таблица.csv", "smile,улыбка\n")
    crlf(folder / "переводы.csv", "smile,улыбка\n1girl,девушка\n")
    crlf(folder / "рамки.json", json.dumps({"1_тело 全/画 [0].png": {"head": [[40, 15, 80, 55]]}}))
    crlf(folder / "подсказки.txt", "1girl, улыбка\n\n1girl, smile\n")
    assert len(str(folder / "стиль 1.safetensors")) > LONGEST
    return folder


def configs(folder: Path) -> dict[str, Path]:
    """Training configs of each kind that is read, whose pictures and tiny base lie in ``folder``."""

    def text(name: str) -> str:
        return json.dumps(str(folder / name), ensure_ascii=False)

    toml = f"pretrained_model_name_or_path = {text('основа 基')}\n"
    toml += f"train_data_dir = {text(SET)}\noutput_name = '墨 1'\nmax_train_epochs = 1\n"
    toml += f"network_dim = 2\nresolution = 64\noutput_dir = {text('по toml')}\n"
    own = {"base": "основа 基", "images": SET, "out": "по json", "name": "墨 1", "epochs": 1, "dim": 2}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in own.items()]
    gui = {"pretrained_model_name_or_path": str(folder / "основа 基"), "train_data_dir": str(folder / SET)}
    gui |= {
        "output_name": "墨 1",
        "output_dir": str(folder / "по gui"),
        "epoch": 1,
        "network_dim": 2,
        "LoRA_type": "Standard",
    }
    gui["network_dim"] = 2
    return {
        "yaml": crlf(folder / "обучение 训.yaml", "\n".join(lines).replace("по json", "по yaml") + "\n"),
        "toml": crlf(folder / "обучение 训.toml", toml),
        "gui": crlf(folder / "обучение 训.json", json.dumps(gui, ensure_ascii=False, indent=1)),
    }
