"""run.json and report.html: true facts, inline pictures, no script, and hostile text only as text."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file

from loratools.cli import cli
from loratools.files import sha256
from loratools.recipe.report.charts import loss_line, vector_bars
from loratools.recipe.report.page import draw
from tests.recipe.conftest import save_lora

RECIPE = """\
version: 1
base: tiny
steps:
  mixed: {merge: "a:1:GP1, b:-0.5:GP2"}
  small: {resize: {lora: mixed, rank: 1}}
  broken: {merge: "a:1, other:1"}
  after: {resize: {lora: broken, rank: 1}}
"""


class Elements(HTMLParser):
    """The page's tags, and its text outside styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    for seed, name in enumerate(("a", "b")):
        save_lora(here / f"{name}.safetensors", seed)
    return here


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_a_run_leaves_its_facts_and_a_page(folder: Path) -> None:
    recipe = "\n".join(line for line in RECIPE.splitlines() if "broken" not in line)
    (folder / "r.yaml").write_text(recipe, encoding="utf-8")
    done = invoke("run", "r.yaml", "--device", "cpu")
    assert done.exit_code == 0 and done.stdout.rstrip().endswith("report: runs/r/report.html")
    facts = json.loads((folder / "runs/r/run.json").read_text(encoding="utf-8"))
    mixed, small = facts["steps"]
    assert (mixed["state"], mixed["kind"], mixed["out"]) == ("made", "merge", "mixed.safetensors")
    assert mixed["files"] == {"": sha256(folder / "runs/r/mixed.safetensors")}
    assert [(term["name"], term["weight"]) for term in mixed["terms"]] == [
        ("a.safetensors", 1),
        ("b.safetensors", -0.5),
    ]
    assert mixed["terms"][0]["vector"]["IN01"] == 0.6 and small["reads"][0]["step"] == "mixed"
    assert [item["label"] for item in facts["inputs"]] == ["a", "b"] and facts["recipe"]["text"] == recipe
    page = (folder / "runs/r/report.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert len([tag for tag, _ in elements.tags if tag == "svg"]) == 2
    assert not any(tag in ("script", "link", "iframe") for tag, _ in elements.tags)
    assert not re.search(r"https?://", page) and "subtracted:" in elements.text
    assert "loratools run r.yaml -o runs/r\n" in elements.text
    assert "loratools reproduce runs/r/mixed.safetensors" in elements.text
    assert invoke("merge", "r.yaml", "--device", "cpu").exit_code == 0
    again = json.loads((folder / "runs/r/run.json").read_text(encoding="utf-8"))
    assert [(step["step"], step["state"]) for step in again["steps"]] == [("mixed", "cached")]


def test_two_recipes_in_one_folder_keep_their_reports_apart(folder: Path) -> None:
    """Also a file of the same name that no run wrote stays as it is."""
    for name, weight in (("one", "1"), ("two's", "${w}")):
        text = f'{{version: 1, base: tiny, vars: {{w: 0.5}}, steps: {{{name[:3]}: {{merge: "a:{weight}"}}}}}}'
        (folder / f"{name}.yaml").write_text(text if "$" in text else text.replace("vars: {w: 0.5}, ", ""))
    for recipe in ("one", "two's", "one"):
        more = ("--set", "w=0.25") if recipe != "one" else ()
        assert invoke("run", f"{recipe}.yaml", "-o", "work", "--device", "cpu", *more).exit_code == 0
    facts = {name: json.loads((folder / "work" / name).read_text()) for name in ("run.json", "two's.run.json")}
    assert [(one["recipe"]["name"], one["steps"][0]["state"]) for one in facts.values()] == [
        ("one", "cached"),
        ("two's", "made"),
    ]
    assert shlex.split(facts["two's.run.json"]["commands"][0]) == [
        "loratools",
        "run",
        "two's.yaml",
        "-o",
        "work",
        "--set",
        "w=0.25",
    ]
    assert "two&#x27;s.run.json" in (folder / "work/two's.report.html").read_text()
    (folder / "mine").mkdir()
    (folder / "mine/report.html").write_text("my own page")
    done = invoke("run", "one.yaml", "-o", "mine", "--device", "cpu")
    assert done.stdout.rstrip().endswith("report: mine/one.report.html")
    assert (folder / "mine/report.html").read_text() == "my own page"


def test_a_failure_is_reported_and_what_does_not_need_it_is_there(folder: Path) -> None:
    tensors = load_file(folder / "a.safetensors")
    next(tensor for tensor in tensors.values() if tensor.numel() > 1).fill_(float("nan"))
    save_file(tensors, folder / "other.safetensors")
    (folder / "r.yaml").write_text(RECIPE, encoding="utf-8")
    done = invoke("run", "r.yaml", "-o", "work", "--device", "cpu")
    assert done.exit_code == 1
    facts = json.loads((folder / "work/run.json").read_text(encoding="utf-8"))
    assert {step["step"]: step["state"] for step in facts["steps"]} == {
        "mixed": "made",
        "small": "made",
        "broken": "failed",
        "after": "not run",
    }
    page = Elements((folder / "work/report.html").read_text(encoding="utf-8"))
    assert "broken failed" in page.text and "goes on from here" in page.text


def test_hostile_text_is_only_text_and_pictures_are_inside(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    (tmp_path / "sheet").mkdir()
    Image.new("RGB", (3000, 900), "red").save(tmp_path / "sheet/grid.png")
    step = {"step": evil, "kind": "grid", "state": "made", "key": "0" * 64, "out": "sheet", "options": {evil: evil},
            "reads": [{"label": evil, "digest": evil, "step": None}], "seconds": 1.0, "memory": 5, "size": 5,
            "files": {evil: evil}, "summary": evil, "result": {"scores": {"style": evil, "rows": [{"label": evil}]}},
            "terms": [{"name": evil, "weight": -1, "vector": {evil: 0.5}}]}  # fmt: skip
    failed = {**step, "state": "failed", "error": evil, "kind": "merge", "options": {}}
    facts = {
        "recipe": {"name": evil, "file": evil, "base": evil, "text": evil, "includes": {evil: evil}},
        "finished": "2026-01-01T00:00:00+00:00",
        "seconds": 2.0,
        "versions": {evil: evil},
        "commands": [evil],
        "inputs": [{"label": evil, "digest": evil, "read_by": [evil]}],
        "steps": [step, failed],
    }
    broken = {"losses": [0.5, float("nan")]}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/s.jsonl").write_text('{"kind": "step", "step": 1, "loss": null}\n{"kind": "step", "step": 2}\nx')
    facts["steps"] = [*facts["steps"], {**step, "kind": "train", "out": "run", "result": broken, "terms": []}]
    page = draw(facts, tmp_path, evil)
    assert not [tag for tag, _ in Elements(page).tags if tag == "script"]
    pictures = [attributes["src"] for tag, attributes in Elements(page).tags if tag == "img"]
    assert len(pictures) == 1 and str(pictures[0]).startswith("data:image/webp;base64,") and len(page) < 200_000


def test_charts_show_what_they_are_given() -> None:
    bars = vector_bars({"BASE": 1.0, "IN01": -0.5, "OUT11": 0.0}, "v")
    heights = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)"', bars)]
    assert heights == [44.0, 22.0, 0.8] and bars.count('class="minus"') == 1
    line = loss_line([(n, 1 / n) for n in range(1, 2001)], [(1000, 0.3), (2000, 0.1)], "l")
    points = line.split('points="')[1].split('"')[0].split()
    assert 300 < len(points) <= 400 and line.count("<circle") == 2
    assert loss_line([], [], "l") == ""


def test_merge_explains_a_recipes_step_and_refuses_it_for_terms(folder: Path) -> None:
    recipe = "\n".join(line for line in RECIPE.splitlines() if "broken" not in line)
    (folder / "r.yaml").write_text(recipe, encoding="utf-8")
    assert invoke("merge", "r.yaml", "--device", "cpu").exit_code == 0
    (folder / "r.yaml").write_text(recipe.replace("b:-0.5", "b:-0.25"), encoding="utf-8")
    result = invoke("merge", "r.yaml", "--explain", "mixed")
    assert result.exit_code == 0 and "b's weight: -0.5 -> -0.25" in result.stdout
    assert invoke("merge", "a:1", "--explain", "mixed", "-o", "x.safetensors").exit_code == 2
