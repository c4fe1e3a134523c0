"""The judge: a small convolutional network that reads tags, style and defects back from a pocket picture.

Real models have no ground truth for "is the style stronger, are the tags obeyed, are the hands sound". The pocket has:
its drawings are made from tags, so a classifier trained on them reads the same tags from a generated picture.
``tools/build_pocket`` trains it; ``weights/judge`` holds it with the scores it reached on held-out drawings.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from loratools.errors import PocketError
from loratools.pocket import weights_folder

SIDE = 128  # pixels; other pictures are resized to it
GRADES = 3.0  # defects are read as grades from 0 (none) to 3 (bad)


@dataclass(frozen=True)
class Layout:
    """What the judge can say: the tags of every attribute, the styles, and the defects it grades."""

    attributes: Mapping[str, tuple[str, ...]]
    styles: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What the judge sees in one picture.

    Attributes:
        tags: the likeliest tag of every attribute (also of those that the picture may not show).
        style: probability of every style; they sum to 1.
        faults: grade of every defect, 0.0 (none) to 3.0 (bad).
    """

    tags: Mapping[str, str]
    style: Mapping[str, float]
    faults: Mapping[str, float]

    def obeys(self, asked: Mapping[str, str]) -> float:
        """Share of the ``asked`` attributes whose tag was read; 1.0 when nothing was asked."""
        matches = [self.tags.get(attribute) == tag for attribute, tag in asked.items()]
        return sum(matches) / len(matches) if matches else 1.0


JudgeFunction = Callable[[Sequence[Image.Image]], Sequence[Reading]]  # pictures -> what is read in each


class JudgeNet(nn.Module):
    """Residual CNN, (n, 3, 128, 128) in [-1, 1] -> one row of logits for every question.

    Every question (an attribute, the style, a defect) pools the last 8 x 8 feature map with its own attention, so that
    each can look at another part of the picture.
    """

    def __init__(self, questions: Mapping[str, int], widths: Sequence[int] = (24, 32, 64, 128, 152)) -> None:
        super().__init__()
        self.questions = dict(questions)
        stem, *stages = widths
        layers: list[nn.Module] = [_conv(3, stem), nn.ReLU()]
        for before, width in zip(widths, stages, strict=False):
            layers += [_conv(before, width, stride=2), nn.ReLU(), _Residual(width), _Residual(width)]
        self.body = nn.Sequential(*layers)
        last = widths[-1]
        self.position = nn.Parameter(torch.zeros(1, last, SIDE // 16, SIDE // 16))
        self.looks = nn.Conv2d(last, len(questions), 1)
        self.answers = nn.ModuleDict({name: nn.Linear(2 * last, size) for name, size in questions.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits by question, each (n, size)."""
        features = self.body(images)
        attention = self.looks(features + self.position).flatten(2).softmax(-1)  # (n, questions, places)
        looked = torch.einsum("nqp,ncp->nqc", attention, features.flatten(2))
        peak = features.flatten(2).amax(-1)
        return {
            name: answer(torch.cat([looked[:, index], peak], dim=1))
            for index, (name, answer) in enumerate(self.answers.items())
        }


def questions_of(layout: Layout) -> dict[str, int]:
    """The judge's questions and how many logits answer each; a defect's one logit is its grade."""
    tags = {f"tag_{name}": len(values) for name, values in layout.attributes.items()}
    return {**tags, "style": len(layout.styles), **{f"fault_{name}": 1 for name in layout.faults}}


class Judge:
    """The network with its vocabulary and its thresholds; :func:`shipped_judge` reads with the one of this package."""

    def __init__(self, net: JudgeNet, layout: Layout, thresholds: Mapping[str, float]) -> None:
        self.net = net.eval()
        self.layout = layout
        self.thresholds = dict(thresholds)
        self._nets: dict[torch.device, JudgeNet] = {}  # copies that give gradients

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Read ``judge.json`` and ``judge.safetensors`` from ``folder`` (default: the shipped ones).

        Raises:
            PocketError: if they are not there.
        """
        from safetensors.torch import load_file

        folder = folder or weights_folder() / "judge"
        if not (folder / "judge.json").is_file():
            raise PocketError(f"{folder} holds no judge; reinstall loratools or rebuild it with tools/build_pocket")
        description = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
        layout = Layout(
            {name: tuple(tags) for name, tags in description["attributes"].items()},
            tuple(description["styles"]),
            tuple(description["faults"]),
        )
        with torch.random.fork_rng(devices=[]):  # a caller's random numbers stay as they are
            net = JudgeNet(questions_of(layout))
        net.load_state_dict({name: value.float() for name, value in load_file(folder / "judge.safetensors").items()})
        return cls(net, layout, description["thresholds"])

    @torch.inference_mode()
    def read(self, images: Sequence[Image.Image], batch_size: int = 64) -> list[Reading]:
        """Read pictures of any size (they are resized to 128 x 128), in the order given."""
        readings: list[Reading] = []
        for start in range(0, len(images), batch_size):
            readings += self._readings(self.net(pixels(images[start : start + batch_size])))
        return readings

    def logits(self, images: Tensor) -> dict[str, Tensor]:
        """The network's answers to every question, each (n, size), for pictures (n, 3, height, width) in [0, 1].

        They can be differentiated by the pictures, on whose device they are computed.
        """
        if images.shape[-2:] != (SIDE, SIDE):
            images = nn.functional.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True)
        net = self._nets.get(images.device)
        if net is None:
            net = copy.deepcopy(self.net).requires_grad_(False).to(images.device)
            self._nets[images.device] = net
        answers: dict[str, Tensor] = net(images.float() * 2 - 1)
        return answers

    def sound(self, reading: Reading, fault: str) -> bool:
        """Whether the grade of ``fault`` lies below the threshold that catches 95 % of clearly bad held-out drawings.

        Raises:
            PocketError: for a defect that the judge does not grade.
        """
        if fault not in self.thresholds:
            raise PocketError(f"the judge grades no '{fault}'; it grades {', '.join(self.thresholds)}")
        return reading.faults[fault] < self.thresholds[fault]

    def _readings(self, logits: Mapping[str, Tensor]) -> list[Reading]:
        best = {name: logits[f"tag_{name}"].argmax(1).tolist() for name in self.layout.attributes}
        style = logits["style"].softmax(1).tolist()
        grades = {name: logits[f"fault_{name}"][:, 0].clamp(0, GRADES).tolist() for name in self.layout.faults}
        return [
            Reading(
                {name: self.layout.attributes[name][index[row]] for name, index in best.items()},
                dict(zip(self.layout.styles, style[row], strict=True)),
                {name: values[row] for name, values in grades.items()},
            )
            for row in range(len(style))
        ]


def shipped_judge(images: Sequence[Image.Image]) -> list[Reading]:
    """What the judge of this package reads in each of ``images``, in their order.

    Raises:
        PocketError: if the judge's weights are not in this install.
    """
    return _shipped().read(images)


@cache
def _shipped() -> Judge:
    """Read once: pictures come one by one."""
    return Judge.load()


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """Pictures as float32 (n, 3, 128, 128) in [-1, 1]."""
    small = [
        image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        if image.size != (SIDE, SIDE)
        else image.convert("RGB")
        for image in images
    ]
    stacked = np.stack([np.asarray(image) for image in small])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))
