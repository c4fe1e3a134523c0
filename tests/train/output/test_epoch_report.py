"""The report on a run: norms and drift against dense matrices, and which epochs come onto the shortlist and why."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.errors import FileError
from loratools.train.output.epoch_plot import plot
from loratools.train.output.epoch_report import EpochFacts, best_epoch, report, shortlist

NAMES = [f"unet.mid_block.attentions.0.transformer_blocks.0.attn1.{part}" for part in ("to_q", "to_k", "to_v")]


def write_run(folder: Path, losses: Sequence[float | None], *, log: bool = True) -> list[dict[str, LowRank]]:
    """A run of random walks; a loss of None leaves the epoch out of the log."""
    generator = torch.Generator().manual_seed(3)
    ups, made = {name: torch.zeros(12, 4) for name in NAMES}, []
    downs = {name: torch.randn(4, 12, generator=generator) for name in NAMES}
    lines = []
    for number, loss in enumerate(losses, start=1):
        for name in NAMES:
            ups[name] = ups[name] + torch.randn(12, 4, generator=generator) / number**2
        made.append({name: LowRank(ups[name], downs[name], (12, 12)) for name in NAMES})
        write(made[-1], folder / f"ink-{number:06d}.safetensors", family="sd1", dtype=torch.float32)
        if loss is not None:
            lines.append(json.dumps({"kind": "epoch", "epoch": number, "loss": loss}))
    if log:
        (folder / "ink.jsonl").write_text("\n".join([*lines, '{"kind": "epo']), encoding="utf-8")
    return made


def test_norm_and_drift_are_those_of_the_dense_differences(tmp_path: Path) -> None:
    made = write_run(tmp_path, [0.12, 0.1, 0.09])
    dense = [torch.cat([delta.dense().flatten() for delta in epoch.values()]) for epoch in made]
    summary = report(tmp_path)
    assert [own.norm for own in summary.epochs] == pytest.approx([float(d.norm()) for d in dense], rel=1e-6)
    assert summary.epochs[0].drift is None
    wanted = [float((two - one).norm() / two.norm()) for one, two in itertools.pairwise(dense)]
    assert [own.drift for own in summary.epochs[1:]] == pytest.approx(wanted, rel=1e-5)


def test_training_loss_decides_among_the_later_half(tmp_path: Path) -> None:
    write_run(tmp_path, [0.05, 0.1, 0.099, 0.081, 0.0825, 0.095])
    summary = report(tmp_path)
    assert [pick.number for pick in summary.shortlist] == [4, 5]  # 0.05 was the first epoch; 0.095 is 17 % above
    assert "lowest training loss of the later half (0.0810)" in summary.shortlist[0].why
    assert best_epoch(tmp_path) == 4
    text = summary.text()
    assert "folk evidence" in text and "epochs 4-5 lie in it" in text and " 4*" in text


def test_validation_decides_where_every_epoch_has_it() -> None:
    facts = [
        EpochFacts(n, Path(f"{n}"), 0.1 - n / 100, value, 1.0, 0.1)
        for n, value in enumerate((0.2, 0.1001, 0.1, 0.12), start=1)
    ]
    assert [pick.number for pick in shortlist(facts)] == [3, 2]
    assert "validation" in shortlist(facts)[0].why
    some = [replace(facts[0], validation=None), *facts[1:]]
    assert [pick.number for pick in shortlist(some)] == [4]  # training loss falls all the time


def test_a_run_without_a_log_is_judged_by_its_drift(tmp_path: Path) -> None:
    write_run(tmp_path, [None] * 6, log=False)
    summary = report(tmp_path)
    assert all(own.loss is None for own in summary.epochs) and "folk" not in summary.text()
    limit = 0.5 * max(own.drift for own in summary.epochs if own.drift is not None)
    settled = [own.number for own in summary.epochs if own.drift is not None and own.drift <= limit]
    numbers = [pick.number for pick in summary.shortlist]
    assert numbers[0] == settled[0] and numbers[-1] == 6 and len(numbers) <= 4
    drifting = [EpochFacts(n, Path(f"{n}"), None, None, 1.0, None if n == 1 else 0.5 + n / 10) for n in (1, 2, 3)]
    assert "may be too short" in shortlist(drifting)[0].why


def test_one_epoch_is_its_own_shortlist(tmp_path: Path) -> None:
    write_run(tmp_path, [None], log=False)
    assert [pick.why for pick in report(tmp_path).shortlist] == ["the only epoch"]
    assert len(read(tmp_path / "ink-000001.safetensors")) == 3


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    write_run(tmp_path, [0.1, 0.09, None, 0.08])
    plot(report(tmp_path), tmp_path / "epochs.png")
    with Image.open(tmp_path / "epochs.png") as image:
        assert image.size == (880, 660) and len(image.convert("RGB").getcolors(1 << 20) or ()) > 50


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no epoch files"):
        report(tmp_path)
