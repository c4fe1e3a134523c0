"""``loratools grid`` along axes: what is given where, and what is said when it does not go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from loratools.base.sampling.noise_kinds import NOISE_KINDS
from loratools.cli import cli
from loratools.cli.pictures.grid import FORMATS, NOISE
from loratools.preview.render.batches import StackBatch
from loratools.preview.render.mixed import MixedBatches
from loratools.preview.request import options
from tests.recipe.conftest import save_lora
from tests.tiny import save_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a LoRA ``a`` and a run of three epochs."""
    monkeypatch.chdir(tmp_path)
    save_lora(tmp_path / "a.safetensors", 1)
    (tmp_path / "run").mkdir()
    for epoch in (1, 2, 3):
        save_lora(tmp_path / f"run/ink-{epoch:06d}.safetensors", 10 + epoch)
    return tmp_path


def grid(*words: str | Path) -> Result:
    common = ["--steps", "1", "--size", "64", "--device", "cpu", "-o", "out"]
    return CliRunner().invoke(cli, ["grid", *(str(word) for word in words), *common])


def record() -> dict[str, Any]:
    return dict(json.loads(Path("out/grid.json").read_text(encoding="utf-8")))


def shown() -> dict[str, list[str]]:
    return {axis["name"]: axis["labels"] for axis in record()["axes"] if axis["slot"]}


def test_epochs_against_a_block_with_the_base_in_front(here: Path, base: Path) -> None:
    done = grid(
        "run", "--base", base, "--prompt", "1girl", "--x", "epoch: 1-3 (+2)", "--y", "block OUT11: 0-1 [2]", "--json"
    )
    assert done.exit_code == 0, done.output
    assert shown() == {"adapter": ["base", "run@1", "run@3"], "OUT11": ["0", "1"]}
    assert json.loads(done.stdout)["rendered"] == 5
    labels = [row["label"] for row in record()["rows"]]
    assert "run@3 OUT11=0" in labels


def test_an_epoch_of_one_lora_of_a_stack(here: Path, base: Path) -> None:
    done = grid("run:1:GP1,a:-0.5", "--base", base, "--prompt", "1girl", "--x", "epoch: 1,2", "--no-base")
    assert done.exit_code == 0, done.output
    (labels,) = shown().values()
    assert [label.replace(".0", "") for label in labels] == ["run@1:1:GP1,a:-0.5", "run@2:1:GP1,a:-0.5"]


def test_rows_take_the_free_place_and_weights_are_an_axis_when_given(here: Path, base: Path) -> None:
    done = grid("run@1", "a", "--base", base, "--prompt", "1girl", "--z", "cfg: 2,4", "--weights", "0.5")
    assert done.exit_code == 0, done.output
    assert shown() == {"weight": ["base", "0.5"], "adapter": ["run@1", "a"], "CFG": ["2", "4"]}
    assert done.stdout.splitlines()[-4].startswith("2 weight x 2 adapter x 2 CFG: 6 pictures rendered, 0 used")


def test_tags_in_a_prompt_need_no_row(here: Path, base: Path) -> None:
    done = grid(
        "--base",
        base,
        "--prompt",
        "1girl, <lora:ink-000001:0.2>",
        "--lora-dir",
        "run",
        "--x",
        "s/r: 000001, 000003",
        "--y",
        "s/r: 0.2>, 1>",
    )
    assert done.exit_code == 0, done.output
    assert [axis["name"] for axis in record()["axes"]] == ["S/R", "S/R", "prompt", "seed"]
    assert [axis["labels"] for axis in record()["axes"][:2]] == [["base", "000001", "000003"], ["0.2>", "1>"]]
    assert len({cell["key"] for cell in record()["cells"]}) == 5


def test_words_that_mark_a_place_in_a_tag_are_said_once_and_drawn_nowhere(here: Path, base: Path) -> None:
    words = ["--base", base, "--prompt", "1girl, <lora:ink-NUM:STRENGTH>", "--lora-dir", "run", "--no-base"]
    done = grid(*words, "--x", "s/r: NUM, 000001, 000003", "--y", "s/r: STRENGTH, 0.5, 1", "--json")
    assert done.exit_code == 0, done.output
    assert [axis["labels"] for axis in record()["axes"][:2]] == [["000001", "000003"], ["0.5", "1"]]
    assert done.stderr.count("'NUM' marks the place") == 1 and json.loads(done.stdout)["rendered"] == 4


def test_prompts_on_an_axis_may_come_from_a_file_and_base_models_too(here: Path, base: Path) -> None:
    Path("prompts.txt").write_text("a cat, red\n# no\na dog\n", encoding="utf-8")
    done = grid("a", "--x", "prompt: prompts.txt", "--z", f"base: {base}")
    assert done.exit_code == 0, done.output
    assert shown()["prompt"] == ["a cat, red", "a dog"] and shown()["base model"] == ["tiny"]


def test_pictures_name_the_files_of_their_loras(here: Path, base: Path) -> None:
    from loratools.base.infotext import read_png

    for n, name in enumerate(("style.v1", "style.v2", "one/last", "two/last")):
        Path(name).parent.mkdir(exist_ok=True)
        save_lora(Path(f"{name}.safetensors"), 20 + n)
    done = grid(
        "style.v1:0.1,style.v2:0.2",
        "run@3:0.1",
        "one/last:0.1,two/last:0.2,one/last:0.3:GP1",
        "--base",
        base,
        "--prompt",
        "1girl",
        "--weights",
        "1",
    )
    assert done.exit_code == 0, done.output
    texts = [read_png(Path("out", cell["file"]))[0] for cell in record()["cells"] if cell["weight"]]
    assert texts[0].startswith("1girl, <lora:style.v1:0.1>, <lora:style.v2:0.2>\n")
    hashes = texts[0].partition("Lora hashes: ")[2]
    assert "style.v1: " in hashes and "style.v2: " in hashes
    assert texts[1].startswith("1girl, <lora:ink-000003:0.1>\n")
    assert texts[2].startswith("1girl, <lora:last:0.1>, <lora:last-2:0.2>, <lora:last:0.3:lbw=")


def test_files_of_one_name_are_told_apart_by_their_folders(here: Path, base: Path) -> None:
    for n, folder in enumerate(("one", "two", "deep/one")):
        Path(folder).mkdir(parents=True)
        save_lora(Path(f"{folder}/last.safetensors"), 20 + n)
    words = ["--base", base, "--prompt", "1girl", "--weights", "1"]
    done = grid("one/last.safetensors", "two/last", "deep/one/last", "a", *words)
    assert done.exit_code == 0, done.output
    assert [row["label"] for row in record()["rows"]] == [f"{here.name}/one/last", "two/last", "deep/one/last", "a"]
    done = grid(*words, "--x", "adapter: one/last; two/last", "--force")
    assert done.exit_code == 0 and shown()["adapter"] == ["one/last", "two/last"], done.output
    done = grid("a", "./a", *words)
    assert done.exit_code == 1 and "two rows are called 'a'; give each once" in done.stderr


def test_a_pasted_prompt_alone_is_weighed(here: Path, base: Path) -> None:
    words = ["--base", base, "--lora-dir", "run", "--prompt", "1girl, <lora:ink-000002:0.5>"]
    done = grid(*words)
    assert done.exit_code == 0, done.output
    assert shown() == {"weight": ["base", "0.25", "0.5", "0.75", "1"]}
    assert done.stdout.startswith("<lora:ink-000002>: 0.9 test: ")
    assert len({cell["key"] for cell in record()["cells"]}) == 5
    assert grid(*words, "--weights", "1", "--force").exit_code == 0 and shown() == {"weight": ["base", "1"]}


def test_a_row_that_stands_on_no_axis_is_named_and_judged(here: Path, base: Path) -> None:
    from loratools.preview.page.view import view_grid
    from loratools.preview.record.folder import read_grid

    words = ["a", "--base", base, "--prompt", "1girl", "--x", "weight: 0.5,1.0", "--y", "seed: 1,2"]
    assert grid(*words).exit_code == 0
    made = read_grid(Path("out"))
    (line,) = made.aside
    assert line.startswith(("a:  0.9 test: ", "a:  changes nothing"))
    assert "tiny · a · " in made.title
    view = view_grid(made)
    assert line in view.about
    verdicts = {shot.at[0]: shot.verdict for shot in view.shots}
    assert verdicts[0] is None and verdicts[1] is not None and verdicts[1] == verdicts[2]
    done = grid(*words, "--no-base", "--title", "Mine")
    assert "no 0.9 test: it compares with the base, which --no-base leaves out" in done.stdout
    assert read_grid(Path("out")).aside == ("LoRA:  a",)
    assert grid("a", "--base", base, "--prompt", "1girl").exit_code == 0 and read_grid(Path("out")).aside == ()


def test_every_file_of_prompts_is_read_and_a_missing_one_is_told(here: Path, base: Path) -> None:
    Path("one.txt").write_text("a cat\na dog\n", encoding="utf-8")
    Path("two.txt").write_text("a bird\na cat\n", encoding="utf-8")
    words = ["a", "--base", base, "--weights", "1"]
    long = "a fox" + ", very red" * 60
    done = grid(*words, "--prompt", "one.txt", "--prompt", long, "--prompt", "two.txt")
    assert done.exit_code == 0, done.output
    assert record()["prompts"] == ["a cat", "a dog", long, "a bird"]
    done = grid("a", "--base", base, "--x", "prompt: one.txt; two.txt", "--force")
    assert done.exit_code == 0, done.output
    assert shown()["prompt"] == ["a cat", "a dog", "a bird"]
    for more in (["--prompt", "one.txt", "--prompt", "gone.txt"], ["--x", "prompt: one.txt; gone.txt"]):
        done = grid(*words, *more)
        assert done.exit_code == 1 and "there is no file of prompts 'gone.txt'" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("a", "--x", "cgf: 1"), "axis x: 'cgf' is no kind of axis (did you mean 'cfg'?)"),
        (("a", "--x", "cfg: 1", "--cfg", "7"), "the cfg is given beside the axis x"),
        (("a", "--x", "seed: 1", "--seed", "7"), "the seed is given beside the axis x"),
        (("run", "a", "--x", "epoch: 1"), "needs one row with a training run in it, and there are 2"),
        (("a", "--x", "epoch: 1"), "needs one training run in 'a', and 0 of a are runs"),
        (("run", "--x", "epoch: 1,7"), "7"),
        (("a", "--x", "block OUT44: 1"), "OUT44"),
        (("a", "--x", "vector: GP9"), "unknown block preset 'GP9'"),
        (("a", "--x", "steps: 1", "--y", "size: 64"), "the steps is given beside"),
        (("a", "--x", "seed: 1-100", "--y", "cfg: 1-100"), "allow them with --most 20000"),
        (("--x", "cfg: 1", "--weights", "0,1"), "weight has nothing to change"),
        ((), "there is no row"),
    ],
)
def test_mistakes_are_printed_in_one_sentence(here: Path, base: Path, words: tuple[str, ...], expected: str) -> None:
    done = grid(*words, "--base", base, "--prompt", "1girl")
    assert done.exit_code == 1 and done.stderr.startswith("error: ") and expected in done.stderr, done.output
    assert not Path("out/cells").exists()


def test_redraw_renders_nothing_and_needs_no_model(here: Path, base: Path) -> None:
    assert grid("a", "--base", base, "--prompt", "1girl", "--weights", "0,1").exit_code == 0
    words = ["grid", "-o", "out", "--redraw"]
    done = CliRunner().invoke(cli, [*words, "--title", "Mine", "--label", "a=the file", "--embed", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["rendered"] == 0, done.output
    assert record()["title"] == "Mine" and record()["labels"] == {"a": "the file"}
    assert "data:image/png;base64" in Path("out/grid.html").read_text(encoding="utf-8")
    assert CliRunner().invoke(cli, [*words, "--no-embed"]).exit_code == 0
    assert "data:image/png;base64" not in Path("out/grid.html").read_text(encoding="utf-8")
    for more, code, expected in (
        (["a"], 2, "--redraw renders nothing"),
        (["--label", "a"], 1, "VALUE=TEXT"),
        (["--full-size"], 1, "goes with --sheet"),
    ):
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == code and expected in done.stderr


def test_redraw_refuses_what_only_a_rendering_heeds(here: Path) -> None:
    for more, expected in (
        (["--weights", "0,1", "--steps", "4"], "leave --weights, --steps out"),
        (["a"], "leave rows out"),
        (["--batch-size", "8"], "leave --batch-size out"),
    ):
        done = CliRunner().invoke(cli, ["grid", "-o", "out", "--redraw", *more])
        assert done.exit_code == 2 and expected in done.stderr, done.output


def test_an_epoch_of_a_run_goes_by_the_run_s_name(here: Path, base: Path) -> None:
    (here / "runs").mkdir()
    (here / "run").rename(here / "runs/ink")
    done = grid("runs/ink@3,a:0.5", "--base", base, "--prompt", "1girl", "--x", "weight of ink: 0,1")
    assert done.exit_code == 0, done.output
    assert shown()["weight of ink"] == ["0", "1"]


def test_scores_are_drawn_when_asked(here: Path, base: Path) -> None:
    from PIL import Image

    Path("images").mkdir()
    for n in range(3):
        Image.new("RGB", (64, 64), (80 * n, 200 - 60 * n, 30)).save(f"images/{n}.png")
    done = grid("a", "--base", base, "--prompt", "1girl", "--weights", "1", "--score", "--score-images", "images")
    assert done.exit_code == 0, done.output
    names = [score["name"] for own in record()["scores"].values() for score in own]
    assert names == ["from base (pixels)", "nearest (pixels)"] * 2
    done = grid("a", "--base", base, "--prompt", "1girl", "--held-out", "images")
    assert done.exit_code == 2 and "add it" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--score-images", "none"), "there is no folder 'none'"),
        (("--held-out", "run"), "there are no images in run"),
        (("--score-model", "run"), "run holds no model"),
    ],
)
def test_what_scores_compare_with_is_looked_at_before_anything_is_rendered(
    here: Path, base: Path, words: tuple[str, str], expected: str
) -> None:
    done = grid("a", "--base", base, "--prompt", "1girl", "--score", *words)
    assert done.exit_code == 1 and expected in done.stderr and not Path("out").exists()


def test_noise_and_embeddings(here: Path, base: Path) -> None:
    import torch

    Path("ti").mkdir()
    torch.save({"x": torch.ones(16)}, "ti/badink.pt")
    done = grid("a", "--base", base, "--prompt", "[1girl:hat:0.5]", "--negative", "(badink:1.2)", "--weights", "1",
                "--noise", "webui-gpu", "--embeddings", "ti")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert record()["noise"] == "webui-gpu" and record()["cells"][0]["embeddings"][0][0] == "badink"
    refused = grid("a", "--base", base, "--prompt", "1girl", "--embeddings", "none")
    assert refused.exit_code == 1 and "there is no folder of embeddings 'none'" in refused.output


@pytest.mark.parametrize(("flag", "together"), [(["--mixed"], [3]), ([], [1, 1, 1])])
def test_weights_share_a_batch_on_a_cpu_when_asked(
    here: Path, base: Path, monkeypatch: pytest.MonkeyPatch, flag: list[str], together: list[int]
) -> None:
    seen, plan = [], MixedBatches.plan

    def watched(self: MixedBatches, *words: Any, **named: Any) -> list[StackBatch]:
        groups = plan(self, *words, **named)
        seen.append([len(group.jobs) for group in groups])
        return groups

    monkeypatch.setattr(MixedBatches, "plan", watched)
    done = grid("a.safetensors", "--base", base, "--prompt", "1girl", "--weights", "0,0.5,1", *flag)
    assert done.exit_code == 0, done.output
    assert seen == [together]


def test_the_words_of_the_options_are_the_rooms_own() -> None:
    assert NOISE == NOISE_KINDS and set(FORMATS) == set(options.FORMATS)
