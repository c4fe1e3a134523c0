"""The command line as a contract: exit codes, one-paragraph errors, pure JSON, overwriting, and instant help."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from loratools import __version__
from loratools.adapter.files.file import read
from loratools.cli import COMMANDS, cli
from loratools.cli.app import Command, report
from tests.loras import trained
from tests.recipe.conftest import MODULES, save_lora
from tests.tiny import save_tiny_base

ROOT = Path(__file__).parents[2]


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two LoRAs, ``a`` and ``b``."""
    monkeypatch.chdir(tmp_path)
    save_lora(tmp_path / "a.safetensors", 1)
    save_lora(tmp_path / "b.safetensors", 2, rank=3)
    return tmp_path


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom loratools.cli import main\n"
        "try:\n    sys.argv = ['loratools', '--help']; main()\nexcept SystemExit as e:\n    assert e.code == 0\n"
        "heavy = {'torch','numpy','diffusers','transformers','pydantic','yaml','PIL','matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


def test_python_dash_m_and_a_closed_pipe() -> None:
    command = f"{sys.executable} -m loratools blocks list --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = call(name, "--help")
    assert done.exit_code == 0
    assert f"loratools {name}" in done.output.split("Usage:")[1].split("\n", 1)[1]


@pytest.mark.parametrize("words", [(), ("blocks",), ("recipe",), ("dataset",), ("cache",)])
def test_a_group_alone_shows_its_help(words: tuple[str, ...]) -> None:
    done = call(*words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == call(*words, "--help").stdout and done.stdout.count("\n") > 8


def _leaves(group: click.Group, context: click.Context) -> Iterator[click.Command]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from _leaves(found, context) if isinstance(found, click.Group) else [found]


def test_every_command_spells_options_in_messages_as_flags(tmp_path: Path) -> None:
    assert [own.name for own in _leaves(cli, click.Context(cli)) if not isinstance(own, Command)] == []
    (tmp_path / "there.yaml").write_text("x", encoding="utf-8")
    done = call("recipe", "new", tmp_path / "there.yaml", "--yes")
    assert done.exit_code == 1 and "--force" in done.stderr and "`" not in done.stderr


def test_version() -> None:
    assert call("--version").output == f"loratools {__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("insp",), "did you mean 'inspect'?"),
        (("merge",), "missing argument"),
        (("merge", "a:1", "-o", "x.safetensors", "--dtype", "fp8"), "fp8"),
        (("merge", "a:1"), "give -o"),
        (("merge", "a", "b", "-o", "x.safetensors"), 'several LoRAs are one text: loratools merge "a:1,b:1" -o OUT'),
        (("merge", "a:1", "--rnak", "3"), "--rank"),
        (("merge", "r.yaml", "--rank", "3"), "stand in the recipe"),
        (("train",), "--base and --images"),
        (("grid", "a", "--base", "x", "-o", "y"), "--prompt"),
        (("blocks", "shwo"), "did you mean 'show'?"),
    ],
)
def test_syntax_errors_exit_with_2(words: tuple[str, ...], expected: str) -> None:
    done = call(*words)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("merge", "nope:1", "-o", "x.safetensors"), "nope"),
        (("merge", "a:1:GPX", "-o", "x.safetensors"), "GPX"),
        (("merge", "a:1:" + ",".join(["1"] * 16), "-o", "x.safetensors"), "16"),
        (("merge", "a:1", "-o", "x.bin"), ".safetensors"),
        (("merge", "a:1", "-o", "x.safetensors", "--rank", "many"), "many"),
        (("merge", "a:1", "-o", "x.safetensors", "--rank", "0"), "0"),
        (("merge", "no.yaml"), "no recipe no.yaml"),
        (("inspect", "nope.safetensors"), "nope.safetensors"),
        (("inspect", "text.safetensors"), "text.safetensors"),
        (("verify", "a.safetensors", "a:x"), "a:1:x"),
        (("blocks", "show", "GP9"), "GP9"),
        (("train", "--base", "pocket", "--images", "empty"), "empty"),
        (("train", "--base", "nope", "--images", "empty", "--preset", "style-04"), "did you mean 'style-004'?"),
        (("train", "no.yaml"), "no.yaml"),
        (("grid", "a", "--base", "nope", "--prompt", "x", "-o", "y"), "nope"),
        (("grid", "a", "--base", "nope", "--prompt", "x", "-o", "y", "--weights", "0:1"), "0:1"),
        (("grid", "a", "--base", "nope", "--prompt", "none.txt", "-o", "y"), "none.txt"),
        (("basestyle", "nope", "-o", "y"), "nope"),
        (("run", "bad.yaml"), "bad.yaml, line 2: steps.x.merg: there is no such key (did you mean 'merge'?)"),
        (("run", "pocket.yaml", "--only", "z"), "no step 'z'"),
        (("run", "pocket.yaml", "--only", "z", "--json"), "no step 'z'"),
    ],
)
def test_user_errors_exit_with_1_and_one_paragraph(loras: Path, words: tuple[str, ...], expected: str) -> None:
    (loras / "text.safetensors").write_text("hello, this is no LoRA at all")
    (loras / "empty").mkdir()
    (loras / "bad.yaml").write_text('steps:\n  x: {merg: "a:1"}\n')
    (loras / "pocket.yaml").write_text('steps:\n  x: {merge: "a:1"}\n')
    before = sorted(path.name for path in loras.rglob("*"))
    done = call(*words)
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("error: ")
    message, *excerpt = done.stderr.removesuffix("\n").split("\n")
    assert expected in message
    assert not excerpt or (excerpt[0].lstrip().startswith("--> ") and set(excerpt[2].strip()) == {"|", " ", "^"})
    assert done.stderr[7].islower() or not done.stderr[7].isalpha() or done.stderr[7:].startswith(expected)
    assert expected in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""
    assert sorted(path.name for path in loras.rglob("*")) == before


def test_debug_shows_the_traceback_before_the_error() -> None:
    for words in (("--debug", "inspect", "nope"), ("inspect", "nope", "--debug")):
        done = call(*words)
        assert done.exit_code == 1
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: no LoRA 'nope'")


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (KeyboardInterrupt(), 130, "interrupted; "),
        (click.Abort(), 130, "interrupted; "),
        (OSError(28, "No space left on device", "x.bin"), 1, "error: no space left on device (x.bin)"),
        (MemoryError(), 1, "error: out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "error: the device ran out of memory"),
        (ZeroDivisionError("ups"), 1, "error: unexpected ZeroDivisionError: ups"),
    ],
)
def test_what_other_ends_say(
    error: BaseException, code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, debug=False) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(expected)
    assert err.count("\n") == 1


def test_merge_inline_verify_and_inspect(loras: Path) -> None:
    terms = "a:1:GP1,b:-1:GP2:te=0.5"
    done = call("merge", terms, "-o", "deep/er/c.safetensors", "--dtype", "fp32", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["error"] < 1e-6
    a, b, c = (read(path) for path in ("a.safetensors", "b.safetensors", "deep/er/c.safetensors"))
    weights = dict(zip(MODULES, ((1.0, -0.15), (0.6, -0.1), (0.4, -0.1), (1.1, -0.2)), strict=True))
    for name, (first, second) in weights.items():
        asked = first * a[name].dense(torch.float64) + second * b[name].dense(torch.float64)
        assert (c[name].dense(torch.float64) - asked).norm() <= 1e-6 * asked.norm()
    facts = json.loads(call("verify", "deep/er/c.safetensors", terms, "--json").stdout)
    assert facts["error"] < 1e-6
    assert set(facts["blocks"]) == {"BASE", "IN01", "M00", "OUT11"}
    assert json.loads(call("verify", "deep/er/c.safetensors", "a:1:GP1", "--json").stdout)["error"] > 0.01
    facts = json.loads(call("inspect", "deep/er/c.safetensors", "--json").stdout)
    assert (facts["family"], facts["scheme"], facts["kind"], facts["modules"]) == ("sd1", "sd1-17", "lora", 4)
    assert facts["ranks"] == [5]
    assert facts["blocks"]["M00"]["modules"] == 1
    assert facts["blocks"]["M00"]["norm"] == pytest.approx(c[list(MODULES)[2]].norm())
    assert facts["metadata"]["sshs_model_hash"] == facts["model_hash"] == c.digest
    both = json.loads(call("inspect", "a.safetensors", "b.safetensors", "--json").stdout)
    assert [one["ranks"] for one in both] == [[2], [3]]
    assert "the stored one is the same" in call("inspect", "deep/er/c.safetensors").stdout


def test_dry_run_prints_the_plan_and_writes_nothing(loras: Path) -> None:
    done = call("merge", "a:1:GP1,b:-1:GP2", "--dry-run", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert {(row["file"], row["block"], row["weight"]) for row in rows} >= {("a", "IN01", 0.6), ("b", "OUT11", -0.2)}
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert "IN01" in call("merge", "a:1:GP1", "-o", "x.safetensors", "--dry-run").stdout
    assert not (loras / "x.safetensors").exists()


def test_only_what_the_same_merge_wrote_is_overwritten(loras: Path) -> None:
    assert call("merge", "a:1", "-o", "c.safetensors").exit_code == 0
    first = (loras / "c.safetensors").read_bytes()
    assert call("merge", "a:1", "-o", "c.safetensors").exit_code == 0
    assert (loras / "c.safetensors").read_bytes() == first
    for out, terms in (("c.safetensors", "b:1"), ("a.safetensors", "b:1")):
        before = (loras / out).read_bytes()
        refused = call("merge", terms, "-o", out)
        assert refused.exit_code == 1
        assert out in refused.stderr and "--force" in refused.stderr
        assert (loras / out).read_bytes() == before
    assert call("merge", "b:1", "-o", "c.safetensors", "--force").exit_code == 0


def test_lora_dirs_presets_and_missing(loras: Path) -> None:
    (loras / "dir").mkdir()
    (loras / "b.safetensors").rename(loras / "dir/b.safetensors")
    (loras / "more.yaml").write_text("SOFT: [" + ", ".join(["0.25"] * 17) + "]\n")
    words = (
        "merge",
        "b:1:soft",
        "--lora-dir",
        "dir",
        "--presets",
        "more.yaml",
        "-o",
        "c.safetensors",
        "--dtype",
        "fp32",
    )
    assert call(*words).exit_code == 0
    b, c = read("dir/b.safetensors"), read("c.safetensors")
    for name in MODULES:
        assert torch.allclose(c[name].dense(), 0.25 * b[name].dense(), rtol=1e-6)
    short = ("merge", "a:1:IN01=0.5", "-o", "d.safetensors")
    done = call(*short)
    assert done.exit_code == 1
    assert "--missing" in done.stderr
    assert call(*short, "--missing", "0").exit_code == 0


def test_blocks(loras: Path) -> None:
    shown = json.loads(call("blocks", "show", "GP1,MID=0.7", "--json").stdout)
    assert (shown["scheme"], shown["blocks"]["M00"], shown["blocks"]["OUT11"]) == ("sd1-17", 0.7, 1.1)
    assert "OUT11" in call("blocks", "show", "GP2").stdout
    listed = json.loads(call("blocks", "list", "--json").stdout)
    assert len(listed["presets"]["GP1"]["sd1-17"]) == 17
    assert {"sd1-17", "sd1-26", "sdxl-12", "sdxl-20", "flux-61", "sd3-42", "z-image", "wan"} <= set(listed["schemes"])


def test_recipes(loras: Path) -> None:
    (loras / "r.yaml").write_text('steps:\n  x: {merge: "a:1:GP1"}\n  y: {merge: {terms: "x:0.5", dtype: fp32}}\n')
    plan = json.loads(call("run", "r.yaml", "--dry-run", "--json").stdout)
    assert [(step["step"], step["state"]) for step in plan] == [("x", "to do"), ("y", "to do")]
    assert not (loras / "runs").exists()
    first = call("merge", "r.yaml")
    assert first.exit_code == 0, first.output
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["x", "y", "report:"]
    again = json.loads(call("run", "r.yaml", "--json").stdout)
    assert [step["state"] for step in again] == ["cached", "cached"]
    dry = call("merge", "r.yaml", "--dry-run")
    assert "IN01" in dry.stdout and "cached" in dry.stdout
    assert [step["step"] for step in json.loads(call("run", "r.yaml", "--only", "x", "--json").stdout)] == ["x"]
    assert read("runs/r/y.safetensors").names == tuple(sorted(MODULES))
    assert call("run", "r.yaml", "-o", "other").exit_code == 0
    assert (loras / "other/x.safetensors").is_file()
    refused = call("merge", "r.yaml", "-o", "z.safetensors")
    assert refused.exit_code == 1
    assert "several merge steps" in refused.stderr
    (loras / "one.yaml").write_text('steps:\n  x: {merge: "a:1:GP1"}\n')
    assert call("merge", "one.yaml", "-o", "z.safetensors").exit_code == 0
    assert (loras / "z.safetensors").is_file()
    assert call("merge", "one.yaml").exit_code == 0
    assert (loras / "z.safetensors").is_file()  # what went elsewhere is left there


def test_train_and_grid(loras: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = save_tiny_base(tmp_path_factory.mktemp("tiny") / "tiny")
    (loras / "2_pics").mkdir()
    Image.new("RGB", (64, 64), "red").save(loras / "2_pics/1.png")
    (loras / "2_pics/1.txt").write_text("1girl, red hair")
    words = ["train", "--base", base, "--images", "2_pics", "--name", "red", "--epochs", "2", "--dim", "2", "-o", "run"]
    words += ["--device", "cpu"]
    dry = call(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert not (loras / "run").exists()
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert [line.split()[:2] for line in done.stdout.splitlines()[:2]] == [["epoch", "1"], ["epoch", "2"]]
    assert done.stdout.splitlines()[-1] == f"which to take: loratools epochs run --base {base}"
    assert read("run/red-000002.safetensors").metadata["ss_network_dim"] == "2"
    common = [
        "--base",
        base,
        "--prompt",
        "1girl",
        "--steps",
        "1",
        "--sampler",
        "Euler",
        "--size",
        "64",
        "--device",
        "cpu",
    ]
    grid = call("grid", "run", "a:0.5:GP1", *common, "--weights", "0,1", "-o", "grid", "--json")
    assert grid.exit_code == 0, grid.output
    assert json.loads(grid.stdout)["rendered"] == 4  # the base, two epochs and a stack
    facts = json.loads((loras / "grid/grid.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in facts["rows"]] == ["run@1", "run@2", "a:0.5:GP1"]  # as a merge string names them
    assert Image.open(loras / "grid/grid.png").size[0] > 64


def test_files_that_sd_scripts_trained_merge_and_verify(tmp_path: Path) -> None:
    a, b = trained("style-r8a4"), trained("base-r4a1")
    out = tmp_path / "c.safetensors"
    done = call("merge", f"{a}:1:GP1,{b}:-1:GP2", "-o", out)
    assert done.exit_code == 0, done.output
    assert json.loads(call("verify", out, f"{a}:1:GP1,{b}:-1:GP2", "--json").stdout)["error"] <= 5e-4


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("overwrite it with `force=True`", "overwrite it with --force"),
        ("give it as `out=`", "give it as --out"),
        ("use `rank=8` or `lora_dirs=a b`", 'use --rank 8 or --lora-dir "a b"'),
        ("go on with `resume=True`", "go on with `resume=True`"),  # an option that this command has not
        ("the step's `out`, and `loratools run`", "the step's `out`, and `loratools run`"),
    ],
)
def test_options_in_messages_are_spelled_as_the_commands_flags(text: str, spelled: str) -> None:
    command = cli.get_command(click.Context(cli), "merge")
    assert isinstance(command, Command) and command.with_flags(text) == spelled


def test_a_package_that_is_not_installed_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """tests/test_extras.py has each package alone; our own modules are never missing, but for a bug."""
    assert report(ModuleNotFoundError("No module named 'diffusers.models'", name="diffusers.models"), debug=False) == 1
    assert "error: the package 'diffusers' is not installed; `pip install loratools`" in capsys.readouterr().err
    assert report(ModuleNotFoundError("x", name="loratools.x"), debug=False) == 1
    assert "looks like a bug" in capsys.readouterr().err
