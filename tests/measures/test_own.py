"""Measures of the user's own: a Python function, and a program that speaks JSON lines."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from loratools.errors import MeasureError
from loratools.measures.measure import take
from loratools.measures.own_command import CommandMeasure
from loratools.measures.own_function import function_measure, module_file
from loratools.measures.request import parse_measures
from loratools.measures.sources import digest_of_sources
from tests.measures.test_measure import shown

MODULE = """
def brightness(images, prompts, seeds):
    assert all(image.mode == "RGB" for image in images) and len(images) == len(prompts) == len(seeds)
    return [sum(image.resize((1, 1)).getpixel((0, 0))) for image in images]

def beauty(images, prompts, seeds):
    return seeds
beauty.better = "higher"

def odd(images, prompts, seeds):
    return seeds
odd.better = "both"

number = 3
"""
SCORE = """
import json, sys
from pathlib import Path
started = Path(sys.argv[1])
started.write_text((started.read_text() if started.exists() else "") + "x")
for line in sys.stdin:
    asked = json.loads(line)
    assert Path(asked["file"]).read_bytes().startswith(b"\\x89PNG")
    print(json.dumps({"value": asked["seed"] + 0.5 if asked["seed"] != 2 else None}), flush=True)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_scores_for_tests.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_scores_for_tests", raising=False)
    return "my_scores_for_tests"


def program(tmp_path: Path, code: str, *arguments: str) -> str:
    (tmp_path / "score it.py").write_text(code)
    return " ".join(f'"{part}"' for part in (sys.executable, str(tmp_path / "score it.py"), *arguments))


def test_a_function_of_the_current_folder_gives_the_values(module: str) -> None:
    before = list(sys.path)
    measure = function_measure(f"{module}:brightness")
    assert sys.path == before and (measure.name, measure.better) == ("brightness", "lower")
    values = take(measure, shown(3)).values
    assert values.shape == (3,) and (values > 0).all()


def test_a_function_of_a_file_anywhere_gives_the_values(module: str, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "helper_for_tests.py").write_text("elsewhere = 1\n")
    (tmp_path / "deeper/helper_for_tests.py").write_text("factor = 2\n")
    (tmp_path / "deeper/my score.py").write_text(
        "import helper_for_tests\ndef double(images, prompts, seeds):\n"
        "    return [helper_for_tests.factor * seed for seed in seeds]\n"
    )
    before = list(sys.path)
    (request,) = parse_measures(["python=higher:deeper/my score.py:double"])
    measure = function_measure(request.source, request.better)
    assert take(measure, shown(3)).values.tolist() == [2.0 * each.seed for each in shown(3)]
    assert sys.path == before and (measure.name, measure.better) == ("double", "higher")
    with pytest.raises(MeasureError, match=r"'nowhere.py' cannot be imported \(FileNotFoundError"):
        function_measure("nowhere.py:double")


def test_a_search_goes_on_only_by_the_same_function_and_program(module: str, tmp_path: Path) -> None:
    """Figures that an earlier version of a measure gave would else be taken for those of this one."""
    script = tmp_path / "score it.py"
    script.write_text(SCORE)
    texts = [f"python={module}:brightness", f"command={sys.executable} '{script.as_posix()}'"]
    assert module_file(f"{module}:brightness") == tmp_path / f"{module}.py"
    for text, file in zip(texts, (tmp_path / f"{module}.py", script), strict=True):
        before = digest_of_sources(parse_measures([text]))
        assert len(before) == 64 and before == digest_of_sources(parse_measures([text]))
        file.write_text(file.read_text() + "\n# another\n")
        assert digest_of_sources(parse_measures([text])) != before
    assert digest_of_sources(parse_measures(["judge", "python=no_such_module:a"])) == ""
    assert module_file("no_such_folder.module:a") is None and module_file("no_such.py:a") is None


def test_a_function_or_the_request_says_which_way_is_good(module: str) -> None:
    assert function_measure(f"{module}:beauty").better == "higher"
    assert function_measure(f"{module}:brightness", "higher").better == "higher"
    with pytest.raises(MeasureError, match="says better = 'both'; it should be 'lower' or 'higher'"):
        function_measure(f"{module}:odd")


def test_what_is_no_function_is_one_sentence(module: str, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"has no function 'brightnes' \(did you mean 'brightness'\?\)"):
        function_measure(f"{module}:brightnes")
    with pytest.raises(MeasureError, match="has no function 'number'"):
        function_measure(f"{module}:number")
    with pytest.raises(MeasureError, match=r"'no_such_module' cannot be imported \(ModuleNotFoundError"):
        function_measure("no_such_module:hands")
    (tmp_path / "broken_for_tests.py").write_text("def (")
    with pytest.raises(MeasureError, match=r"'broken_for_tests' cannot be imported \(SyntaxError"):
        function_measure("broken_for_tests:hands")


def test_a_program_is_started_once_and_answers_line_by_line(tmp_path: Path) -> None:
    measure = CommandMeasure(program(tmp_path, SCORE, str(tmp_path / "started")), timeout=30)
    first, second = take(measure, shown(4)).values, take(measure, shown(70)).values
    assert first.tolist()[:2] == [0.5, 1.5] and np.isnan(first[2]) and first[3] == 3.5
    assert second[-1] == 69.5 and len(second) == 70
    assert (tmp_path / "started").read_text() == "x"
    measure.close()
    take(measure, shown(1))
    measure.close()
    assert (tmp_path / "started").read_text() == "xx"


@pytest.mark.parametrize(
    "code, sentence",
    [
        ("raise SystemExit(3)", "ended with exit code 3 before it had answered for every picture"),
        ("pass", "ended by itself before"),
        ("print('loading model')", "wrote 'loading model', which is no JSON"),
        ("print('{\"score\": 1}')", 'should write {"value": a number}'),
        ("print('{\"value\": true}')", 'should write {"value": a number}'),
        ('print(\'{"error": "no hands in it"}\')', "says: no hands in it"),
        ("print('0.5')", "ended by itself before"),
    ],
)
def test_a_program_that_does_not_answer_is_one_sentence(tmp_path: Path, code: str, sentence: str) -> None:
    with pytest.raises(MeasureError) as caught:
        take(CommandMeasure(program(tmp_path, code), timeout=30), shown(2))
    assert sentence in str(caught.value)


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    begun = time.perf_counter()
    with pytest.raises(MeasureError, match=r"gave no answer for 0\.5 s"):
        take(CommandMeasure(program(tmp_path, "import sys\nfor line in sys.stdin: pass"), timeout=0.5), shown(2))
    assert time.perf_counter() - begun < 5


def test_a_program_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(MeasureError, match="'no-such-program --x' cannot be started"):
        take(CommandMeasure("no-such-program --x"), shown(1))
    with pytest.raises(MeasureError, match="there is no program 'no-such-program'"):
        CommandMeasure("no-such-program --x").check()
    CommandMeasure(f'"{sys.executable}" --x').check()
    with pytest.raises(MeasureError, match="cannot be read"):
        CommandMeasure('score "x')
