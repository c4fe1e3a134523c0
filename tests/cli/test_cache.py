"""``loratools cache`` and ``loratools explain``: what is kept, what goes, and a file's story in words."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loratools.adapter.files.file import read
from loratools.cli import cli
from loratools.files import locked
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.cache import Cache
from loratools.recipe.run.runner import make_planner, run_steps
from tests.recipe.conftest import save_lora
from tests.tiny import save_tiny_base

RECIPE = """\
steps:
  final: {merge: "style.safetensors:1:GP1, other.safetensors:-0.5:GP2"}
  slim: {resize: {lora: final, rank: "1"}}
"""


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def run_recipe() -> dict[str, bool]:
    """step -> whether it was cached."""
    planner = make_planner("r.yaml", Path("work"))
    return {ran.planned.name: ran.cached for ran in run_steps(planner.plan(), Path("work"), RunContext(device="cpu"))}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_lora(tmp_path / "style.safetensors", seed=1)
    save_lora(tmp_path / "other.safetensors", seed=2)
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    run_recipe()
    return tmp_path / "work"


def test_ls_shows_what_is_kept(work: Path) -> None:
    shown = call("cache", "ls", work)
    assert shown.exit_code == 0 and "final" in shown.stdout and "2 results, " in shown.stdout
    entries = json.loads(call("cache", "ls", work, "--json").stdout)
    assert {entry["step"] for entry in entries} == {"final", "slim"} and all(entry["size"] > 0 for entry in entries)


def test_a_missing_folder_is_reported_as_every_mistake_is(work: Path) -> None:
    for words in (("ls",), ("gc", "--max-size", "0")):
        shown = call("cache", *words, "nowhere")
        assert shown.exit_code == 1 and "there is no folder nowhere; give a run's work folder" in shown.stderr


def test_gc_removes_the_least_recently_used_first(work: Path) -> None:
    kept = {entry.record.name: entry for entry in Cache(work / ".loratools").entries()}
    for age, name in enumerate(("slim", "final")):
        place = work / ".loratools/objects" / kept[name].identity / "record.json"
        os.utime(place, (1e9 + age, 1e9 + age))
    limit = kept["final"].alone + 10
    dry = call("cache", "gc", work, "--max-size", limit, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "slim" in dry.stdout and "1 result would be removed" in dry.stdout
    assert len(Cache(work / ".loratools").entries()) == 2
    assert "1 result removed" in call("cache", "gc", work, "--max-size", limit).stdout
    assert [entry.record.name for entry in Cache(work / ".loratools").entries()] == ["final"]
    assert run_recipe() == {"final": True, "slim": True}  # the outputs themselves stay
    call("cache", "gc", work, "--max-size", "0")
    assert not Cache(work / ".loratools").entries()


def test_a_damaged_result_is_never_taken_from_the_cache(work: Path) -> None:
    good = (work / "slim.safetensors").read_bytes()
    (entry,) = [entry for entry in Cache(work / ".loratools").entries() if entry.record.name == "slim"]
    place = work / ".loratools/objects" / entry.identity / "result"
    place.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))  # same size, one bit
    os.utime(place, (work.stat().st_mtime,) * 2)
    (work / "slim.safetensors").unlink()
    assert run_recipe() == {"final": True, "slim": False}
    assert (work / "slim.safetensors").read_bytes() == good


def test_gc_leaves_what_a_process_holds(work: Path) -> None:
    cache = Cache(work / ".loratools")
    held, other = cache.entries()
    with locked(cache.folder(held.identity)):
        assert [entry.identity for entry in cache.gc(0)] == [other.identity]
    assert [entry.identity for entry in cache.entries()] == [held.identity]
    assert [entry.identity for entry in cache.gc(0)] == [held.identity] and not cache.entries()


def test_a_run_keeps_the_cache_within_its_limit(work: Path) -> None:
    limit = Cache(work / ".loratools").entries()[0].alone
    (work.parent / "r.yaml").write_text(RECIPE.replace("-0.5:GP2", "-0.4:GP2"), encoding="utf-8")
    assert call("run", "r.yaml", "-o", "work", "--cache-limit", f"{limit}B").exit_code == 0
    assert {entry.record.name for entry in Cache(work / ".loratools").entries()} == {"final", "slim"}  # of this run
    assert len(Cache(work / ".loratools").entries()) == 2
    assert call("run", "r.yaml", "--cache-limit", "much").exit_code == 2


def test_a_cache_that_cannot_be_written_is_said_at_once(work: Path) -> None:
    done = call("run", "r.yaml", "-o", "elsewhere", "--cache", "style.safetensors/kept")
    assert done.exit_code == 1 and "cannot write in style.safetensors/kept/objects" in done.stderr


def test_a_run_says_that_it_waits_for_another(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (step, _) = make_planner("r.yaml", Path("elsewhere")).plan()
    held = contextlib.ExitStack()
    held.enter_context(locked(Cache(Path("kept")).folder(step.identity)))
    monkeypatch.setattr("loratools.files.time.sleep", lambda _: held.close())
    done = call("run", "r.yaml", "-o", "elsewhere", "--cache", "kept")
    assert done.exit_code == 0
    assert done.stderr.splitlines()[0] == (
        "the step 'final' waits: another process is making the very same for this cache"
    )


def test_sizes_and_folders_that_make_no_sense(work: Path) -> None:
    assert call("cache", "gc", work, "--max-size", "much").exit_code == 2
    assert call("cache", "ls", work / "nowhere").exit_code != 0


def test_explain_prints_the_story(work: Path) -> None:
    shown = call("explain", work / "final.safetensors")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("final.safetensors is a LoRA for Stable Diffusion 1")
    assert "subtracted: `other.safetensors` x -0.5, blocks BASE 0.3, IN01 to OUT06 0.1" in shown.stdout
    assert "`style.safetensors` x 1, blocks BASE 1, IN01 0.6, IN02 to IN05 0.9" in shown.stdout
    assert "`loratools reproduce final.safetensors` makes" in shown.stdout
    foreign = call("explain", "style.safetensors")
    assert foreign.exit_code == 0 and read("style.safetensors").metadata
    assert call("explain", "nothing.safetensors").exit_code == 1


def test_explain_says_what_was_subtracted_resized_and_converted_and_the_error(work: Path) -> None:
    Path("r.yaml").write_text(
        "base: BASE\nsteps:\n"
        "  apart: {subtract: {style: style, base_style: 'other:0.8', mode: project, energy: 0.9}}\n"
        "  slim: {resize: {lora: apart, rank: 1}}\n"
        "  other_keys: {convert: {lora: slim, to: diffusers}}\n".replace("BASE", "pocket"),
        encoding="utf-8",
    )
    run_recipe()
    lines = call("explain", work / "other_keys.safetensors").stdout.splitlines()[2:]
    error = r"error \d\.\d\de-\d\d"
    expected = [
        r"- Converted from `slim.safetensors` to the keys of diffusers: fp16, error 0.00e\+00\.",
        rf"  - Resized from `apart.safetensors`: rank 1, fp16, {error}\.",
        rf"    - Subtracted, project \(its directions, energy 0.9, side output\): rank exact, fp16, {error}\.",
        r"      - kept:",
        r"        - `style.safetensors` x 1",
        r"      - taken away:",
        r"        - `other.safetensors` x 0.8",
    ]
    for line, pattern in zip(lines, expected, strict=False):
        assert re.fullmatch(pattern, line), (line, pattern)
    written = json.loads((work / ".loratools/steps/slim.json").read_text(encoding="utf-8"))["facts"]["error"]
    assert f"error {written:.2e}" in lines[1]


def test_explain_knows_a_checkpoint_and_of_an_extraction(work: Path, tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "tiny") / "unet/diffusion_pytorch_model.safetensors"
    text = "steps:\n  into: {merge_into: {terms: 'style:0.5:te=0', into: BASE}}\n"
    text += "  back: {extract: {tuned: into, base: BASE, rank: 4}}\n"
    Path("r.yaml").write_text(text.replace("BASE", str(base)), encoding="utf-8")
    run_recipe()
    shown = call("explain", work / "into.safetensors")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("into.safetensors is a base model's checkpoint that LoRAs were added to.")
    merged = "- Merged into `diffusion_pytorch_model.safetensors`: every other tensor as it was."
    assert f"{merged}\n  - `style.safetensors` x 0.5, te x 0" in shown.stdout
    text = call("explain", work / "back.safetensors").stdout
    what = "what makes `into.safetensors` out of `diffusion_pytorch_model.safetensors`"
    assert f"- Extracted {what}: rank 4, fp16, error " in text
    assert call("explain", base).exit_code == 1  # a foreign checkpoint has no story
