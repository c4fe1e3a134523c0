"""``--allow-unknown`` and ``--drop`` on every command that reads LoRA files.

And no message names an option that its command does not have.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from loratools.cli import cli
from tests.cli.test_cli import call
from tests.loras import lora_tensors
from tests.recipe.conftest import save_lora

PACKAGE = Path(__file__).parents[2] / "loratools"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]+")
GRID = ("--base", "pocket", "--prompt", "1girl", "--steps", "1", "--size", "64x64", "-o", "g")
READERS: list[tuple[str, ...]] = [
    ("inspect", "odd.safetensors"),
    ("inspect", "odd.safetensors", "--brief"),
    ("convert", "odd.safetensors", "-o", "o.safetensors", "--to", "kohya"),
    ("merge", "odd:1", "-o", "o.safetensors"),
    ("merge", "odd:1", "--dry-run"),
    ("soup", "odd", "-o", "o.safetensors"),
    ("subtract", "odd", "odd:0.5", "-o", "o.safetensors"),
    ("resize", "odd.safetensors", "-o", "o.safetensors", "--rank", "1"),
    ("extract", "--tuned", "full.safetensors", "-o", "o.safetensors", "--rank", "1"),
    ("verify", "odd.safetensors", "odd:1"),
    ("analyze", "odd.safetensors"),
    ("analyze", "odd.safetensors", "odd.safetensors"),
    ("epochs", "run"),
    ("blocks", "show", "GP1", "--lora", "odd"),
    ("blocks", "suggest", "odd", "odd"),
    ("blocks", "analyze-effect", "odd", *GRID),
    ("grid", "odd", "--weights", "1", *GRID),
]  # fmt: skip


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two LoRAs that hold keys of no module: bundled embeddings, and a layer of another model."""
    monkeypatch.chdir(tmp_path)
    save_lora(tmp_path / "good.safetensors", 1)
    extra = {"bundle_emb.tok.clip_l": torch.ones(2, 4), "lora_unet_nowhere.lora_up.weight": torch.ones(4, 2),
             "lora_unet_nowhere.lora_down.weight": torch.ones(2, 4)}  # fmt: skip
    save_file({**load_file("good.safetensors"), **extra}, "odd.safetensors")
    full = {**load_file("good.safetensors"), "lora_unet_conv_in.diff": torch.randn(8, 4, 3, 3)}
    save_file({**full, **extra}, "full.safetensors")
    (tmp_path / "run").mkdir()
    for number in (1, 2):  # another trainer's
        save_file({**load_file("good.safetensors"), **extra}, f"run/odd-{number:06d}.safetensors")
    return tmp_path


@cache
def commands() -> dict[tuple[str, ...], click.Command]:
    """Every command by its words."""

    def below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from below(command, (*words, name))
            else:
                yield (*words, name), command

    return dict(below(cli, ()))


def options_of(words: tuple[str, ...]) -> set[str]:
    command = next(found for end in (3, 2, 1) if (found := commands().get(words[:end])) is not None)
    context = click.Context(command)
    return {opt for param in command.get_params(context) for opt in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_every_reader_offers_what_its_message_says(odd: Path, words: tuple[str, ...]) -> None:
    refused = call(*words)
    assert refused.exit_code == 1 and "mean nothing in" in refused.stderr and "bundle_emb.tok.clip_l" in refused.stderr
    named = set(OPTION.findall(refused.stderr))
    assert named == {"--allow-unknown", "--drop"} and named <= options_of(words)
    if words[0] in ("grid",) or "analyze-effect" in words:
        return  # how they render is tested elsewhere; here it would take seconds
    for remedy in (["--allow-unknown"], ["--drop", "bundle_emb.*,lora_unet_nowhere.*"],
                   ["--drop", "bundle_emb.tok.clip_l", "--drop", "*nowhere*"]):  # fmt: skip
        done = call(*words, *remedy, *(["--force"] if "-o" in words else []))
        assert done.exit_code == 0, done.output
        if "-o" in words:
            with safe_open("o.safetensors", "pt") as file:
                kept = "bundle_emb.tok.clip_l" in file.keys()  # noqa: SIM118
            assert kept == (remedy == ["--allow-unknown"])
    half = call(*words, "--drop", "bundle_emb.*")
    assert half.exit_code == 1 and "has 2 keys" in half.stderr


@pytest.mark.parametrize(
    "words", [("grid", "odd", "--weights", "1", *GRID), ("blocks", "analyze-effect", "odd", *GRID)]
)
def test_pictures_take_the_rules_too(odd: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.errors import BaseModelError

    def refuse(*given: object, **settings: object) -> None:
        raise BaseModelError("the rows were read")

    for place in ("loratools.base.load.load_base", "loratools.preview.session.load_base"):
        monkeypatch.setattr(place, refuse, raising=False)
    for remedy in (["--allow-unknown"], ["--drop", "bundle_emb.*,*nowhere*"]):
        assert "mean nothing" not in call(*words, *remedy).output


def test_dropped_keys_of_known_modules_are_gone_too(odd: Path) -> None:
    done = call("convert", "good.safetensors", "-o", "unet.safetensors", "--to", "kohya", "--drop", "lora_te_*")
    kept = load_file("unet.safetensors")
    assert done.exit_code == 0 and kept and not any(key.startswith("lora_te_") for key in kept)
    every = call("inspect", "good.safetensors", "--drop", "*")
    assert every.exit_code == 1 and "holds no tensors" in every.stderr


def test_a_command_without_the_option_names_another_that_has_it(odd: Path) -> None:
    (odd / "r.yaml").write_text('version: 1\nsteps:\n  m: {merge: "odd:1"}\n', encoding="utf-8")
    message = call("run", "r.yaml").stderr
    assert "allow_unknown: true at the step" in message
    named = set(OPTION.findall(message.partition("`loratools ")[0]))
    assert named <= options_of(("run",)) and "`loratools convert FILE -o OUT --to kohya --drop KEYS`" in message
    (odd / "r.yaml").write_text('version: 1\nsteps:\n  m: {merge: {terms: "odd:1", allow_unknown: true}}\n')
    assert call("run", "r.yaml").exit_code == 0
    assert call("merge", "r.yaml", "--drop", "x").exit_code == 2


@pytest.mark.parametrize("words", [words for words in READERS if "odd" in " ".join(words)], ids=" ".join)
def test_the_advice_about_a_dora_is_the_commands_own(odd: Path, words: tuple[str, ...]) -> None:
    tensors = lora_tensors(names=["unet.mid_block.attentions.0.proj_in"])
    save_file(
        {**tensors, "lora_unet_mid_block_attentions_0_proj_in.dora_scale": torch.ones(16, 1, 1, 1)}, "odd.safetensors"
    )
    done = call(*words)
    if words[0] == "inspect":
        assert done.exit_code == 0
        return
    assert done.exit_code == 1 and "is a DoRA" in done.stderr
    own = done.stderr.partition("`loratools ")[0]
    assert set(OPTION.findall(own)) <= options_of(words)
    if words[0] in ("grid", "blocks"):  # a grid's --base is what it draws with
        assert "--base" not in own and "`loratools convert FILE -o OUT --to kohya --base BASE`" in done.stderr


def texts(path: Path) -> Iterator[str]:
    """Every text of a module but its docstrings, what stands between two values of an f-string joined."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef |
            ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


OTHERS = {
    "--lycoris",
    "--processes",
    "--nproc",
    "--num_processes",
    "--config_file",
    "--dataset_config",
    "--force-reinstall",
    "--index-url",
    "--query-gpu",
    "--format",
}  # of other programs
NO_ADVICE = (
    "preview/page",
    "recipe/report",
    "cli/commands.py",
    "cli/lora/sd_scripts.py",
    "train/sd_scripts",
    "pocket",
)  # styles of pages; flags of others


def test_every_option_that_a_message_names_is_one_of_ours() -> None:
    """And where it names a command, `loratools COMMAND ... --option`, one of that command's."""
    known = {opt for words in commands() for opt in options_of(words)}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith(NO_ADVICE):
            continue
        own = options_of_module(place)
        for text in texts(path):
            for quoted in re.findall(r"`loratools ([^`]*)`", text):
                words = (
                    tuple(re.findall(r"^[a-z]+(?: [a-z-]+)?", quoted)[0].split()) if re.match("[a-z]", quoted) else ()
                )
                if words and (words[:2] in commands() or words[:1] in commands()):
                    assert set(OPTION.findall(quoted)) <= options_of(words), (place, quoted)
            rest = re.sub(r"`[^`]*`", "", text)
            named = set(OPTION.findall(rest)) - OTHERS
            assert named <= known, (place, text)
            assert own is None or named <= own, (place, text)


def options_of_module(place: str) -> set[str] | None:
    """The options of the command whose module it is; None for a module of no single command."""
    match = re.fullmatch(r"cli/\w+/(\w+)\.py", place)
    words = (match[1],) if match else ()
    return options_of(words) if words in commands() else None


# files whose messages every command may show: they name no option but those that all of the commands have that can
# come there (``--out`` and ``--force`` of those that write), and :class:`loratools.cli.app.Command` adds the rest
SHARED = ("adapter", *(f"ops/merging/{name}.py" for name in ("terms", "combine", "merge_string", "verify")))
WRITERS = {"adapter/files/metadata.py": {"--out", "--force"}}


def test_what_every_command_may_say_names_no_option() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith(SHARED):
            for text in texts(path):
                named = set(OPTION.findall(re.sub(r"`[^`]*`", "", text)))
                assert named <= WRITERS.get(place, set()), (place, text)
    writers = [words for words in commands() if {"--out", "--force"} & options_of(words)]
    for words in [("merge",), ("soup",), ("subtract",), ("resize",), ("extract",), ("convert",), ("run",), ("demo",)]:
        assert words in writers and {"--out", "--force"} <= options_of(words)


def test_a_name_that_is_nothing_and_a_short_vector_get_the_commands_own_advice(odd: Path) -> None:
    for words in (("merge", "none:1", "--dry-run"), ("verify", "good.safetensors", "none"), ("grid", "none", *GRID)):
        message = call(*words).stderr
        assert "no LoRA 'none'" in message and "--lora-dir" in message and "--lora-dir" in options_of(words)
    (odd / "r.yaml").write_text('version: 1\nsteps:\n  m: {merge: "good:1:IN01=0.5"}\n', encoding="utf-8")
    run, merge = call("run", "r.yaml").stderr, call("merge", "good:1:IN01=0.5", "--dry-run").stderr
    assert "missing: 1 keeps them" in run and "--missing" not in run
    assert "missing: 1 keeps them" in merge and "(--missing 1 or 0)" in merge
