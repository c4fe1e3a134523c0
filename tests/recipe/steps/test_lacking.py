"""A recipe is planned on a machine that lacks a package of one of its trainings, and not run there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from loratools.cli import cli


def test_a_missing_package_is_a_warning_of_the_plan_and_an_error_before_any_step_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    Path("pics").mkdir()
    Image.new("RGB", (64, 64)).save("pics/a.png")
    Path("pics/a.txt").write_text("a")
    Path("r.yaml").write_text(
        "base: pocket\nsteps:\n  first: {train: {images: pics, epochs: 1}}\n"
        "  last: {train: {images: pics, epochs: 1, optimizer: AdamW8bit}}\n"
    )
    lack = "r.yaml, line 4: steps.last.train.optimizer: the optimizer 'bitsandbytes.optim.AdamW8bit' cannot be imported"
    planned = CliRunner().invoke(cli, ["run", "r.yaml", "--dry-run"])
    assert planned.exit_code == 0 and planned.output.count(f"warning: {lack}") == 1
    facts = json.loads(CliRunner().invoke(cli, ["run", "r.yaml", "--dry-run", "--json"]).stdout)
    assert [len(step["warnings"]) for step in facts] == [0, 1]
    run = CliRunner().invoke(cli, ["run", "r.yaml", "--device", "cpu"])
    assert run.exit_code == 1 and lack in run.output and not list(Path("runs").rglob("*.safetensors"))
