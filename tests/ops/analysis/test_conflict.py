"""The conflict report: shares of what agrees, cancels and is orthogonal, against dense matrices."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from loratools.errors import FormatError
from loratools.ops.analysis.analyze import Analysis, analyze
from loratools.ops.analysis.conflict import Conflict
from tests.loras import lora_tensors, save
from tests.ops.conftest import CONV, LINEAR, POINT, TEXT, Made, dense

NAMES = (LINEAR, POINT, CONV, TEXT)


def report(*paths: Path) -> Conflict:
    """The conflict of files."""
    analysis = analyze(*paths)
    assert isinstance(analysis, Analysis) and analysis.conflict is not None
    return analysis.conflict


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("conflict")
    made = [
        Made(seed=1),
        Made("lokr", rank=1, seed=2),
        Made("diff", seed=3, names=(LINEAR, TEXT)),
        Made(seed=4, rank=2),
    ]
    return [one.save(folder / f"{number}.safetensors") for number, one in enumerate(made)]


def test_shares_of_any_number_of_files_are_those_of_dense_matrices(files: list[Path]) -> None:
    known = [dense(path) for path in files]
    agree, cancel, whole = ([0.0] * len(files) for _ in range(3))
    total2 = 0.0
    for name in NAMES:
        total2 += float(sum(own[name] for own in known if name in own).norm()) ** 2  # type: ignore[union-attr]
        for place, own in enumerate(known):
            if name not in own:
                continue
            rest = sum((other[name] for other in known if other is not own and name in other), torch.zeros(()))
            u, s, v = torch.linalg.svd(own[name], full_matrices=False)
            for k in range(len(s)):
                met = float(u[:, k] @ rest.double() @ v[k]) if rest.dim() else 0.0
                matched = float(s[k]) * min(float(s[k]), abs(met))
                agree[place] += matched * (met > 0)
                cancel[place] += matched * (met < 0)
                whole[place] += float(s[k]) ** 2
    made = report(*files)
    for place, share in enumerate(made.files):
        assert share.agree == pytest.approx(agree[place] / whole[place], rel=1e-4)
        assert share.cancel == pytest.approx(cancel[place] / whole[place], rel=1e-4)
        assert share.agree + share.cancel + share.orthogonal == pytest.approx(1)
    assert made.total.agree == pytest.approx(sum(agree) / sum(whole), rel=1e-4)
    assert made.total.strength == pytest.approx(math.sqrt(total2 / sum(whole)), rel=1e-4)
    for (i, j), cosine in made.cosines.items():
        shared = [name for name in known[i] if name in known[j]]
        product = sum(float((known[i][name] * known[j][name]).sum()) for name in shared)
        norms = [math.sqrt(sum(float(known[k][name].norm()) ** 2 for name in shared)) for k in (i, j)]
        assert cosine == pytest.approx(product / norms[0] / norms[1], abs=1e-5)
    assert len(made.cosines) == 6


def test_the_same_file_agrees_the_negative_cancels_and_other_directions_are_orthogonal(tmp_path: Path) -> None:
    path = Made(seed=1).save(tmp_path / "a.safetensors")
    tensors = load_file(path)
    flipped = {key: -t if "lora_up" in key else t for key, t in tensors.items()}
    twice = {key: 2 * t if "lora_up" in key else t for key, t in tensors.items()}
    minus, double = save(tmp_path / "minus.safetensors", flipped), save(tmp_path / "double.safetensors", twice)
    same, against = report(path, path).total, report(path, minus).total
    assert (same.agree, same.cancel) == (pytest.approx(1), 0) and same.strength == pytest.approx(math.sqrt(2))
    assert (against.agree, against.cancel) == (0, pytest.approx(1)) and against.strength < 1e-3
    half = report(path, double)
    assert half.files[0].agree == pytest.approx(1) and half.files[1].agree == pytest.approx(0.5)  # |c| / s = 1 / 2
    three = report(path, minus, path)
    assert three.files[1].cancel == pytest.approx(1)
    assert three.files[0].orthogonal == pytest.approx(1)  # what one adds the other takes: nothing is left to meet
    apart = Made(seed=5, names=(LINEAR, POINT), zero=(LINEAR,)).save(tmp_path / "apart.safetensors")
    blocks = report(path, apart).blocks
    assert blocks["IN01"].orthogonal == 1 and blocks["IN01"].strength == 1 and blocks["M00"].orthogonal < 1


def test_the_report_reads_well_on_80_columns_and_as_json(files: list[Path], tmp_path: Path) -> None:
    long = tmp_path / f"{'a_very_long_name_' * 5}000001.safetensors"
    long.write_bytes(files[0].read_bytes())
    analysis = analyze(*files, long)
    text = analysis.text()
    assert max(map(len, text.splitlines())) <= 80 and "5 a_very_long_name_a_very_l..." in text
    assert text.startswith("added at weight 1") and "4 and 5" in text and "orthogonal" in text
    value = analysis.json()
    assert set(value) == {"files", "conflict"} and len(value["files"]) == 5 and "blocks" in value["files"][0]
    assert set(value["conflict"]) >= {"agree", "cancel", "orthogonal", "strength", "blocks", "files", "pairs"}
    assert value["conflict"]["pairs"][0]["files"] == [0, 1]
    two = analyze(*files[:2]).json()
    assert set(two) >= {"files", "blocks", "cosine", "overlap", "shared_start", "conflict"}
    assert "conflict" not in analyze(files[0]).json()
    many = report(*[files[0]] * 6)
    assert len(many.cosines) == 15 and "and 3 pairs whose cosines are nearer to 0" in many.text()


def test_files_that_cannot_be_compared_are_named(files: list[Path], tmp_path: Path) -> None:
    other = save(tmp_path / "xl.safetensors", lora_tensors("sdxl", rank=1))
    with pytest.raises(FormatError, match=r"xl\.safetensors is sdxl; only LoRAs of one family"):
        analyze(*files, other)
    alone = Made(seed=5, names=(POINT,)).save(tmp_path / "alone.safetensors")
    with pytest.raises(FormatError, match=r"alone\.safetensors"):
        analyze(files[2], files[2], alone)
