"""Stage ``judge``: the classifier, on drawings and on their trips through the autoencoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from loratools.pocket.judge import JudgeNet, questions_of
from tools.build_pocket import autoencoder
from tools.build_pocket.data import HIDDEN, layout
from tools.build_pocket.settings import Settings
from tools.build_pocket.trainer import Trainer

CLEARLY_BAD = 2  # grade from which a drawing counts as bad when the threshold is set
CAUGHT = 0.95


def train(settings: Settings, folder: Path, device: str, seconds: float) -> None:
    """Train on the judge set less its held-out part, and write ``judge/`` with its held-out scores."""
    torch.manual_seed(settings.seed + 2)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    drawn = np.load(folder / "judge.npz")
    images = torch.from_numpy(drawn["images"]).to(device)
    labels = torch.from_numpy(drawn["labels"]).to(device)
    decoded = through_autoencoder(images, settings, folder, device)
    net = JudgeNet(questions_of(layout())).to(device, dtype).train()
    batch, held = settings.judge.batch, settings.held_out

    def loss_of() -> Tensor:
        rows = torch.randint(held, len(images), (batch,), device=device)
        coded = (torch.rand(batch, device=device) < 0.5).view(-1, 1, 1, 1)
        pictures = torch.where(coded, decoded[rows], images[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        return loss_on(net(_disturb(pictures).to(dtype)), labels[rows])

    trainer = Trainer([net], loss_of, settings.judge, device)
    trainer.run("judge", seconds, folder / "log.jsonl")
    trainer.use_averages()
    net = net.float()
    settle_norms(net, lambda: images[torch.randint(held, len(images), (batch,), device=device)])
    scores = {
        "drawings": examine(net, images[:held], labels[:held]),
        "decoded": examine(net, decoded[:held], labels[:held]),
    }
    save(net, scores, folder / "judge")


def _disturb(pictures: Tensor) -> Tensor:
    """Small shifts of brightness, colour, noise and sharpness that a generated picture may have."""
    count = len(pictures)

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, 1, 1, device=pictures.device) - 0.5

    pictures = pictures * (1 + 0.15 * rand(1)) + 0.1 * rand(3)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = torch.lerp(pictures, blurred, 0.6 * (rand(1) + 0.5) ** 2)
    return pictures + 0.06 * (rand(1) + 0.5) * torch.randn_like(pictures)


def loss_on(logits: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy over shown attributes and the style; absolute error of shown grades."""
    facts = layout()
    total = torch.zeros((), device=labels.device)
    for column, name in enumerate(facts.attributes):
        total = total + F.cross_entropy(logits[f"tag_{name}"].float(), labels[:, column].long(), ignore_index=HIDDEN)
    total = total + F.cross_entropy(logits["style"].float(), labels[:, len(facts.attributes)].long())
    for column, name in enumerate(facts.faults, start=len(facts.attributes) + 1):
        shown = labels[:, column] >= 0
        error = F.smooth_l1_loss(logits[f"fault_{name}"][:, 0].float(), labels[:, column], reduction="none", beta=0.3)
        total = total + 2 * (error * shown).sum() / shown.sum().clamp(min=1)
    return total


@torch.no_grad()
def through_autoencoder(images: Tensor, settings: Settings, folder: Path, device: str) -> Tensor:
    """The pictures encoded and decoded, uint8 like ``images``."""
    model = autoencoder.load_unscaled(settings, folder, device)
    dtype, out = next(model.parameters()).dtype, torch.empty_like(images)
    for start in range(0, len(images), 256):
        pictures = images[start : start + 256].permute(0, 3, 1, 2).to(dtype) / 127.5 - 1
        made = model.decode(model.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
        out[start : start + 256] = ((made.float() + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return out


@torch.no_grad()
def settle_norms(net: JudgeNet, batch_of: Callable[[], Tensor], rounds: int = 50) -> None:
    """Recompute batch-norm statistics for the averaged weights (they belong to other weights before)."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the rounds
    net.train()
    for _ in range(rounds):
        net(_disturb(batch_of().permute(0, 3, 1, 2).float() / 127.5 - 1))
    net.eval()


@torch.no_grad()
def examine(net: JudgeNet, images: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """Accuracy of every attribute and the style; of every defect the share of rightly ranked pairs and a threshold."""
    net.eval()
    parts = [net(chunk.permute(0, 3, 1, 2).float() / 127.5 - 1) for chunk in images.split(256)]
    logits = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    labels, facts = labels.cpu(), layout()
    accuracy, ranked, thresholds, false_alarms = {}, {}, {}, {}
    for column, name in enumerate([*facts.attributes, "style"]):
        key = "style" if name == "style" else f"tag_{name}"
        shown = labels[:, column] >= 0
        accuracy[name] = (logits[key].argmax(1) == labels[:, column])[shown].float().mean().item()
    for column, name in enumerate(facts.faults, start=len(facts.attributes) + 1):
        shown = labels[:, column] >= 0
        grade, read = labels[shown, column], logits[f"fault_{name}"][shown, 0]
        apart = grade[:, None] >= grade[None, :] + 1
        ranked[name] = (read[:, None] > read[None, :])[apart].float().mean().item()
        bad, sound = read[grade >= CLEARLY_BAD], read[grade == 0]
        thresholds[name] = float(torch.quantile(bad, 1 - CAUGHT)) if len(bad) else 1.0
        false_alarms[name] = (sound >= thresholds[name]).float().mean().item() if len(sound) else 0.0
    return {"accuracy": accuracy, "ranked": ranked, "thresholds": thresholds, "false_alarms": false_alarms}


def save(net: JudgeNet, scores: dict[str, dict[str, dict[str, float]]], folder: Path) -> None:
    """Write ``judge.safetensors`` (fp16) and ``judge.json`` (layout, thresholds, scores)."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    state = {n: v.cpu().half().contiguous() for n, v in net.state_dict().items() if "num_batches" not in n}
    state |= {n: v.cpu() for n, v in net.state_dict().items() if "num_batches" in n}
    save_file(state, folder / "judge.safetensors")
    facts = layout()
    every = [score["thresholds"] for score in scores.values()]
    thresholds = {name: min(score[name] for score in every) for name in facts.faults}
    whole = {
        "attributes": {n: list(t) for n, t in facts.attributes.items()},
        "styles": list(facts.styles),
        "faults": list(facts.faults),
        "thresholds": thresholds,
        "scores": scores,
    }
    (folder / "judge.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps(
            {"stage": "judge", **{k: {n: round(v, 4) for n, v in d.items()} for k, d in scores["decoded"].items()}}
        )
    )
