"""The places of keys in TOML, and what they are for: a mistake in a file of sd-scripts' has its line and a caret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import RecipeError
from loratools.train.config.read import read_config
from loratools.train.sd_scripts.toml_file import read_toml
from loratools.yamlio import Place

TRICKY = '''# a comment = 1
top = "a # b" # = c
'quoted key' = 'x'
a.b . "c.d" = 1.5
many = [
  "one", # [ not a bracket
  """two
three = 3
""", { inner = [1, 2] },
]
[table] # = x
when = 1979-05-27 07:32:00
escaped = "say \\"hi\\" = 1"
[table.under]
x = true
[[list]]
y = 1
  [[list.inner]]
  z = 1
  [[list.inner]]
  z = 2
[[list]]
y = {q = 1}
  [[list.inner]]
  z = 3
'''


def places(data: Any, place: Place = ()) -> Iterator[Place]:
    """The place of every value that is neither a table nor within a list of plain values."""
    if isinstance(data, dict) and "q" not in data:
        for key, value in data.items():
            yield from places(value, (*place, key))
    elif isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        for number, item in enumerate(data):
            yield from places(item, (*place, number))
    else:
        yield place


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_every_key_has_its_place(tmp_path: Path, ends: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(TRICKY.replace("\n", ends).encode())
    document = read_toml(path)
    expected = set(places(document.data))
    assert len(expected) == 12
    assert {place for place in document.keys if place in expected} == expected
    assert not {place for place in document.keys if place not in expected and place[-1] in ("inner", "three", "q")} - {
        ("list", 0, "inner"),
        ("list", 1, "inner"),
    }
    span = document.keys["list", 1, "inner", 0, "z"]
    assert (span.line, document.text[span.start : span.end]) == (25, "z")
    value = document.spans["a", "b", "c.d"]
    assert document.text[value.start : value.end] == "1.5"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only = a comment",
        "a = 1",
        "a=[\n]\n",
        "a = {}",
        "1.2 = 3",
        'a = """"""',
        "a = '''x''''\nb = 1",
        'a = """x"""" # "[b"\nb = 1',
        "[ t . u ]\n[[ v ]]\n",
        "a = inf # =",
        "\ufeffa = -1\n\n\n",
        '"\\u00e9" = [[1], [2]]',
    ],
)
def test_any_toml_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    document = read_toml(tmp_path / "a.toml")
    assert {place[0] for place in document.keys if place} == document.data.keys()


OPTIONS = 'pretrained_model_name_or_path = "b"\n[train]\ntrain_data_dir = "imgs"\nnetwork_dim = 8\n'
DATASETS = """[general]
shuffle_caption = true
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = "a"
[[datasets]]
batch_size = 2
  [[datasets.subsets]]
  image_dir = "b"
  [[datasets.subsets]]
  image_dir = "c"
"""


@pytest.mark.parametrize(
    ("text", "line", "carets"),
    [
        (OPTIONS + 'lr_warmup_steps = "abc"\n', 5, "lr_warmup_steps"),
        (OPTIONS + 'lr_scheduler = "cosin"\n', 5, "cosin"),
        (OPTIONS + "max_train_epochs = 0\n", 5, "max_train_epochs"),
        (OPTIONS + "learning_rat = 1e-4\n", 5, "learning_rat"),
        (OPTIONS + "lowram = false\nfull_bf16 = true\n", 6, "full_bf16"),
        (DATASETS + "  num_repeats = 0\n", 13, "num_repeats"),
        (DATASETS + "  num_repeat = 2\n", 13, "num_repeat"),
        (DATASETS + "  batch_size = 2\n", 13, "batch_size"),
        (DATASETS.replace("batch_size = 2", "batch_size = 0"), 8, "batch_size"),
        (DATASETS.replace("shuffle_caption = true", "keep_tokens = -1"), 2, "keep_tokens"),
        (DATASETS.replace('image_dir = "b"', ""), 9, "datasets.subsets"),
        (DATASETS.replace("[general]", "[generals]"), 1, "generals"),
    ],
)
def test_a_mistake_has_its_line_and_a_caret(tmp_path: Path, text: str, line: int, carets: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        read_config(path, {} if text.startswith(OPTIONS) else {"base": "b"})
    place, shown, under = error.value.excerpt.splitlines()
    assert f"my.toml:{line}:" in place and str(error.value).startswith(f"{path}: ")
    assert shown[under.index("^") : under.rindex("^") + 1] == carets


def test_a_mistake_in_the_dataset_config_of_options_is_shown_there(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(DATASETS.replace("resolution = 512", "resolution = 500"))
    (tmp_path / "o.toml").write_text(OPTIONS + 'dataset_config = "d.toml"\n')
    with pytest.raises(RecipeError, match="multiples of 8") as error:
        read_config(tmp_path / "o.toml")
    assert "d.toml:4:" in error.value.excerpt


def test_what_the_command_line_says_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text(OPTIONS + "max_train_epochs = 3\n")
    with pytest.raises(RecipeError, match="epochs: it must be 1 or more") as error:
        read_config(path, {"epochs": 0})
    assert not error.value.excerpt
