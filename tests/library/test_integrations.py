"""The blocks of docs/integrations.md, each against a stand-in that checks what its host would."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import loratools as lt
from loratools.adapter.architectures.names import kohya_name
from tests.library.pages import HOSTS, ROOT, blocks, run, save_pocket_lora

PAGE = "docs/integrations.md"
NODE, HOOK, SCRIPT = blocks(PAGE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a style and a base style."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("ink", "base_style")):
        save_pocket_lora(tmp_path / f"loras/{name}.safetensors", number)
    return tmp_path


def test_blocks_are_as_short_as_they_promise() -> None:
    for block in (NODE, HOOK, SCRIPT):
        assert len([line for line in block.code.splitlines() if line.strip()]) <= 20, block.heading


@pytest.fixture
def comfy(place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module ``comfy.sd``, with a LoRA folder beside an empty one."""
    monkeypatch.syspath_prepend(str(HOSTS))
    for name in ("comfy", "comfy.sd", "folder_paths"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (place / "empty").mkdir()
    paths = {"loras": [str(place / "empty"), str(place / "loras")]}
    importlib.import_module("folder_paths").folder_names_and_paths.update(paths)
    return importlib.import_module("comfy.sd")


def _inputs_of(node: type) -> dict[str, Any]:
    """What ComfyUI reads of a node's class before it offers it, checked; the declared inputs by name."""
    declared = node.INPUT_TYPES()  # type: ignore[attr-defined]
    assert set(declared) <= {"required", "optional", "hidden"} and declared["required"]
    for kind in declared["required"].values():
        assert isinstance(kind, tuple) and isinstance(kind[0], str | list)
        assert len(kind) == 1 or (len(kind) == 2 and isinstance(kind[1], dict))
    returns = node.RETURN_TYPES  # type: ignore[attr-defined]
    assert isinstance(returns, tuple) and all(isinstance(kind, str) and kind.isupper() for kind in returns)
    assert isinstance(node.CATEGORY, str) and callable(getattr(node, node.FUNCTION))  # type: ignore[attr-defined]
    return dict(declared["required"])


def test_the_comfyui_node_patches_a_model_with_the_exact_sum(place: Path, comfy: Any) -> None:
    names: dict[str, Any] = {}
    run(PAGE, NODE, names)
    ((title, node),) = names["NODE_CLASS_MAPPINGS"].items()
    inputs = _inputs_of(node)
    assert isinstance(title, str) and set(inputs) == {"model", "clip", "terms"}
    terms = inputs["terms"][1]["default"]
    wanted = lt.merge(terms, lora_dirs="loras")
    by_name = {kohya_name(name, "sd1"): name for name in wanted}
    weights = {key: torch.randn(wanted.shapes[name]) for key, name in by_name.items()}
    model = comfy.Patcher({key: value for key, value in weights.items() if key.startswith("lora_unet")})
    clip = comfy.Patcher({key: value for key, value in weights.items() if key.startswith("lora_te")})
    own = node()
    result = getattr(own, node.FUNCTION)(model=model, clip=clip, terms=terms)  # as ComfyUI calls it
    assert isinstance(result, tuple) and len(result) == len(node.RETURN_TYPES)
    assert not comfy.NOT_LOADED and not model.patches and not clip.patches
    for patched, before in zip(result, (model, clip), strict=True):
        assert patched.patches.keys() == before.weights.keys()
        for key, weight in before.weights.items():
            asked = wanted[by_name[key]].dense().float()
            assert float((patched.patched(key) - weight - asked).norm()) < 2e-3 * float(asked.norm())
    with pytest.raises(lt.LoratoolsError, match="no LoRA 'nix'"):
        getattr(own, node.FUNCTION)(model=model, clip=clip, terms="nix:1")


def test_the_hook_leaves_the_training_as_it_is(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run(PAGE, HOOK, names)
    save_pocket_lora(place / "base_style.safetensors", 2)
    weight = torch.ones(2, requires_grad=True)
    for epoch in (1, 2):  # a trainer's loop: it saves a file, then calls the hook
        file = save_pocket_lora(place / f"run/ink-{epoch:06d}.safetensors", 10 + epoch)
        (weight * 2).sum().backward()
        bytes_before, random = file.read_bytes(), torch.get_rng_state()
        assert names["after_epoch"](file) is None
        assert file.read_bytes() == bytes_before and torch.equal(random, torch.get_rng_state())
        assert torch.is_grad_enabled() and float(weight.grad.sum()) == 4 * epoch
        clean = place / f"run/clean/ink-{epoch:06d}.safetensors"
        assert lt.verify(clean, f'"{file}":1:GP1,base_style:-1:GP2').error < 1e-3
        rows = [row.label for row in lt.read_grid(clean.with_suffix("")).rows]
        assert len(rows) == 2 and all(label.endswith(clean.stem) for label in rows)
    assert capfd.readouterr() == ("", "")
    assert [epoch.number for epoch in lt.epochs("run").epochs] == [1, 2]


def _job() -> list[dict[str, Any]]:
    """The steps of the workflow, as GitHub reads them."""
    (block,) = blocks(PAGE, "yaml")
    workflow = yaml.load(block.code, yaml.BaseLoader)  # "on" stays a word
    assert {"on", "jobs"} <= set(workflow) and set(workflow["on"]) <= {"push", "pull_request"}
    ((job, body),) = workflow["jobs"].items()
    assert job.isidentifier() and body["runs-on"].startswith("ubuntu")
    for step in body["steps"]:
        assert ("uses" in step) != ("run" in step) and set(step) <= {"uses", "run", "with", "name", "env"}
        assert "uses" not in step or step["uses"].count("@") == 1
    return list(body["steps"])


def test_the_ci_job_passes_the_right_file_and_fails_another(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [step["run"] for step in _job() if "run" in step]
    (command,) = [line for line in commands if not line.startswith("pip ")]
    program, script = command.split()
    assert program == "python" and script in (ROOT / PAGE).read_text(encoding="utf-8").partition("```python")[2]
    (place / script).write_text(SCRIPT.code, encoding="utf-8")

    def job() -> tuple[int, str]:
        """The exit code, and what is printed on stdout and stderr."""
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:  # a text goes to stderr, and the code is 1
            return 1, str(end.code)
        return 0, capsys.readouterr().out

    code, said = job()
    assert code == 1 and said.startswith("::error file=published/mine.safetensors::") and "\n" not in said
    terms = "loras/ink.safetensors:1:GP1, loras/base_style.safetensors:-1:GP2"
    lt.merge(terms, "published/mine.safetensors")
    code, said = job()
    assert code == 0 and "total" in said
    lt.merge("loras/ink.safetensors:1", "published/mine.safetensors", force=True)
    code, said = job()
    assert code == 1 and "away from" in said and said.startswith("::error file=")
