"""``loratools epochs``: a table and a shortlist for people, JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from loratools.cli import cli
from tests.train.output.test_epoch_report import write_run


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_epochs_tells_people_and_scripts(tmp_path: Path) -> None:
    write_run(tmp_path, [0.12, 0.09, 0.08])
    shown = run("epochs", tmp_path, "--plot", tmp_path / "e.png")
    assert shown.exit_code == 0 and "shortlist (*), the first one first:\n  3: lowest training loss" in shown.stdout
    assert (tmp_path / "e.png").is_file()
    report = json.loads(run("epochs", tmp_path, "--json").stdout)
    assert [own["epoch"] for own in report["epochs"]] == [1, 2, 3] and report["shortlist"][0]["epoch"] == 3
    assert report["epochs"][0]["drift"] is None and report["epochs"][1]["drift"] > 0


def test_a_folder_without_epochs_is_one_clear_line(tmp_path: Path) -> None:
    shown = run("epochs", tmp_path)
    assert shown.exit_code == 1 and shown.stderr.startswith("error: ") and "epoch files" in shown.stderr


def test_the_pictures_that_are_learnt_worst(tmp_path: Path) -> None:
    write_run(tmp_path, [0.12, 0.09, 0.08])
    shown = run("epochs", tmp_path, "--images")
    assert shown.exit_code == 1 and "no log that tells losses by image" in shown.stderr
    lines = [
        {
            "kind": "losses",
            "epoch": epoch,
            "bands": [{"from": 0, "to": 99, "loss": loss}, {"from": 100, "to": 199, "loss": None}],
            "relative": {"a/easy.png": loss, "a/hard.png": 2 * loss},
        }
        for epoch, loss in ((1, 0.5), (2, 0.2), (3, 0.1))
    ]
    with (tmp_path / "ink.jsonl").open("a", encoding="utf-8") as log:
        log.write("\n" + "\n".join(json.dumps(line) for line in lines))
    shown = run("epochs", tmp_path, "--images")
    assert "  0.3000 (1.0000)  a/hard.png\n  0.1500 (0.5000)  a/easy.png\n" in shown.stdout
    assert shown.stdout.rstrip().endswith("0.1500 (0.5000)  0 to 99")
    report = json.loads(run("epochs", tmp_path, "--images", "--json").stdout)
    assert [own["name"] for own in report["images"]] == ["a/hard.png", "a/easy.png"] and report["shortlist"]
    assert report["timesteps"] == [{"name": "0 to 99", "earlier": 0.5, "later": 0.15000000000000002}]


def test_an_earlier_verdict_is_told_while_it_holds_and_the_json_stays_as_it_was(tmp_path: Path) -> None:
    from tests.recipe.plan.test_verdict_keys import write_verdict

    write_run(tmp_path, [0.12, 0.09, 0.08])
    plain, as_json = run("epochs", tmp_path), run("epochs", tmp_path, "--json")
    write_verdict(tmp_path, 2, "epoch 2: 3 copies 014.png")
    shown = run("epochs", tmp_path)
    assert shown.stdout == f"{plain.stdout}\nink.verdict.json: epoch 2: 3 copies 014.png\n"
    assert run("epochs", tmp_path, "--json").stdout == as_json.stdout
    merged = run("merge", f"{tmp_path}@best:1", "-o", tmp_path / "out/m.safetensors", "--dry-run")
    assert merged.exit_code == 0 and "@2" in merged.stdout
    (tmp_path / "ink-000003.safetensors").write_bytes((tmp_path / "ink-000001.safetensors").read_bytes())
    shown = run("epochs", tmp_path)
    assert "ink.verdict.json does not hold any more (epoch 3 is another file now); run" in shown.stdout


def test_options_of_pictures_need_a_base_to_draw_them_on(tmp_path: Path) -> None:
    write_run(tmp_path, [0.12, 0.09])
    for option, value in (("--prompts", "p.txt"), ("--seeds", "1"), ("--votes", "v.json"), ("--measure", "judge")):
        shown = run("epochs", tmp_path, option, value)
        assert shown.exit_code == 2 and f"{option} is for pictures, which are drawn with --base" in shown.stderr


def test_what_cannot_be_drawn_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    write_run(tmp_path, [0.12, 0.09])
    for words, told in (
        (("--prompts", tmp_path / "none.txt"), "there is no file of prompts"),
        (("--seeds", "one"), "one"),
        (("--size", "large"), "large"),
        (("--measure", "joy"), "there is no measure 'joy'"),
        (("--votes", tmp_path / "none.json"), "none.json is missing or unreadable"),
        (("--training-images", tmp_path / "none"), "there is no folder"),
    ):
        shown = run("epochs", tmp_path, "--base", "pocket", *words)
        assert shown.exit_code == 1 and told in " ".join(shown.stderr.split()), (words, shown.stderr)
    (tmp_path / "p.txt").write_text("1girl", encoding="utf-8")
    shown = run("epochs", tmp_path, "--base", tmp_path / "nowhere", "--prompts", tmp_path / "p.txt")
    assert shown.exit_code == 1 and "nowhere" in shown.stderr and shown.stderr.startswith("error: ")
    assert not list(tmp_path.glob("*verdict*"))
