"""Commands over many files: a summary, all inputs looked at before anything is written, and each result whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from loratools.adapter.files.file import read
from tests.cli.test_cli import call
from tests.recipe.conftest import save_lora


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with ``loras/a``, ``loras/b`` and a text file beside them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loras").mkdir()
    for seed, name in enumerate("ab"):
        save_lora(tmp_path / f"loras/{name}.safetensors", seed)
    (tmp_path / "loras/notes.txt").write_text("mine")
    return tmp_path


def json_of(*words: str) -> dict[str, Any]:
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@pytest.mark.parametrize(
    "words", [("--each", "loras"), ("loras/*.safetensors",), ("loras/a.safetensors", "loras/b.safetensors")]
)
def test_resize_of_a_folder_a_pattern_and_several_names(folder: Path, words: tuple[str, ...]) -> None:
    done = call("resize", *words, "-o", "small", "--rank", "1")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["file", "rank", "size", "error"] and lines[-1] == "2 files"
    assert [line.split()[:2] for line in lines[1:3]] == [["a.safetensors", "1"], ["b.safetensors", "1"]]
    for name in "ab":
        call("resize", f"loras/{name}.safetensors", "-o", f"{name}1.safetensors", "--rank", "1")
        assert read(f"small/{name}.safetensors").digest == read(f"{name}1.safetensors").digest
    again = json_of("resize", *words, "-o", "small", "--rank", "1")  # its own files
    assert again["failed"] == 0 and again["files"][0]["result"]["rank"] == 1
    assert again["files"][1]["out"] == str(Path("small/b.safetensors"))
    assert sorted(path.name for path in (folder / "small").iterdir()) == ["a.safetensors", "b.safetensors"]


def test_nothing_is_written_where_one_file_cannot_be_taken(folder: Path) -> None:
    (folder / "loras/c.safetensors").write_bytes(b"not a lora at all")
    done = call("resize", "--each", "loras", "-o", "small", "--rank", "1")
    assert done.exit_code == 1 and "1 of 3 files cannot be taken, so nothing was written" in done.stderr
    assert "c.safetensors" in done.stderr and not (folder / "small").exists()
    save_file({"mystery": torch.zeros(2)}, folder / "loras/c.safetensors")
    done = call("convert", "--each", "loras", "-o", "out", "--to", "diffusers")
    assert done.exit_code == 1 and not (folder / "out").exists()
    (folder / "loras/c.safetensors").unlink()
    save_lora(folder / "small/b.safetensors", 7)
    kept = (folder / "small/b.safetensors").read_bytes()
    done = call("resize", "--each", "loras", "-o", "small", "--rank", "1")
    assert done.exit_code == 1 and "small/b.safetensors exists" in done.stderr and "--force" in done.stderr
    assert sorted(path.name for path in (folder / "small").iterdir()) == ["b.safetensors"]
    assert (folder / "small/b.safetensors").read_bytes() == kept
    assert call("resize", "--each", "loras", "-o", "small", "--rank", "1", "--force").exit_code == 0


def test_a_file_that_fails_in_its_turn_stops_no_other(folder: Path) -> None:
    """NaN in a tensor shows only when it is read."""
    tensors = load_file(folder / "loras/a.safetensors")
    tensors[next(key for key in sorted(tensors) if "up" in key)][0] = float("nan")
    save_file(tensors, folder / "loras/a.safetensors")
    done = call("resize", "--each", "loras", "-o", "small", "--rank", "1")
    assert done.exit_code == 1 and "1 of 2 files failed; 1 others are done and stay" in done.stderr
    assert (
        "NaN or infinity" in done.stderr
        and "a.safetensors  failed" in done.stdout
        and "2 files, 1 failed" in done.stdout
    )
    assert [path.name for path in (folder / "small").iterdir()] == ["b.safetensors"]
    failed = call("resize", "--each", "loras", "-o", "small", "--rank", "1", "--json")
    rows = json.loads(failed.stdout)["files"]
    assert rows[0]["result"] is None and "NaN or infinity" in rows[0]["failure"] and rows[1]["failure"] is None


def test_convert_edit_header_inspect_verify_and_blocks_show(folder: Path) -> None:
    made = json_of("convert", "--each", "loras", "-o", "out", "--to", "diffusers")
    assert [one["result"]["style"] for one in made["files"]] == ["diffusers"] * 2
    edited = call("edit-header", "--each", "loras", "--author", "me", "--tags", "ink")
    assert edited.exit_code == 0 and "modelspec.author" in edited.stdout
    assert all(read(f"loras/{name}.safetensors").metadata["modelspec.author"] == "me" for name in "ab")
    other = call("edit-header", "--each", "loras", "--author", "you", "-o", "edited")
    assert other.exit_code == 0 and read("edited/a.safetensors").metadata["modelspec.author"] == "you"
    assert call("edit-header", "--each", "loras", "--title", "x").exit_code == 2
    seen = call("inspect", "--each", "loras", "--brief")
    assert seen.exit_code == 0 and "sd1" in seen.stdout and "2 files" in seen.stdout
    both = call("inspect", "loras/*.safetensors", "--json")  # a pattern that the shell left alone
    assert len(json.loads(both.stdout)) == 2
    (folder / "loras/c.safetensors").write_bytes(b"no")
    seen = call("inspect", "--each", "loras")
    assert seen.exit_code == 1 and "3 files, 1 failed" in seen.stdout and "c.safetensors" in seen.stderr
    (folder / "loras/c.safetensors").unlink()
    checked = json_of("verify", "--each", "loras", "a:1", "--lora-dir", "loras")
    assert checked["files"][0]["result"]["error"] < 1e-6 < checked["files"][1]["result"]["error"]
    shown = json_of("blocks", "show", "ALL0.5", "--each", "loras")
    assert shown["files"][0]["result"]["norm_kept"] == pytest.approx(0.5)
    table = call("blocks", "show", "GP1", "--each", "loras").stdout
    assert "norm kept" in table and "strongest block" in table


def test_one_file_is_as_ever_and_what_makes_no_batch_is_said(folder: Path) -> None:
    one = json_of("resize", "loras/a.safetensors", "-o", "r.safetensors", "--rank", "1")
    assert one["rank"] == 1 and "files" not in one
    (folder / "odd[1].safetensors").write_bytes((folder / "loras/a.safetensors").read_bytes())
    assert json_of("resize", "odd[1].safetensors", "-o", "r1.safetensors", "--rank", "1")["rank"] == 1
    for words, says in (
        (("--each", "absent", "-o", "x"), "absent is no folder"),
        (("--each", ".git-none", "-o", "x"), "is no folder"),
        (("lor*/x*.safetensors", "-o", "x"), "no file matches"),
        (("--each", "loras", "-o", "x.safetensors"), "has to be a folder"),
    ):
        done = call("resize", *words, "--rank", "1")
        assert done.exit_code == 1 and says in done.stderr, done.output
    (folder / "empty").mkdir()
    assert "holds no .safetensors file" in call("inspect", "--each", "empty").stderr
    (folder / "more").mkdir()
    save_lora(folder / "more/a.safetensors", 5)
    twice = call("resize", "--each", "loras", "--each", "more", "-o", "x", "--rank", "1")
    assert twice.exit_code == 1 and "would both be written to" in twice.stderr
    assert call("resize", "-o", "x", "--rank", "1").exit_code == 2
    assert call("verify", "a:1").exit_code == 2
    assert call("blocks", "show", "GP1", "--each", "loras", "--png", "x.png").exit_code == 2
    assert not (folder / "x").exists()


def test_extract_of_a_folder_of_full_differences(folder: Path) -> None:
    (folder / "tuned").mkdir()
    for name in "ab":
        adapter = read(f"loras/{name}.safetensors")
        full = {f"{adapter.stem(module)}.diff": adapter[module].dense(torch.float32).contiguous() for module in adapter}
        save_file(full, folder / f"tuned/{name}.safetensors")
    made = json_of("extract", "--each", "tuned", "-o", "out", "--rank", "2")
    assert [one["result"]["rank"] for one in made["files"]] == [2, 2]
    assert made["files"][0]["result"]["error"] < 1e-3  # what was made of rank 2 is of rank 2 again
    assert call("extract", "-o", "out", "--rank", "2").exit_code == 2
