"""From pydantic's errors to places and sentences, for recipes and training configs alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from loratools.errors import RecipeError
from loratools.train.config.read import make_config, read_config
from loratools.validation import Mistake, conflict, mistakes


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int | None = None


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    vectors: dict[str, list[float] | str] = {}
    inner: tuple[Inner, ...] = ()
    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def _ordered(self) -> Outer:
        if self.low > self.high:
            raise conflict("low", f"low {self.low} is above high {self.high}")
        return self


def wrong(data: dict[str, Any]) -> list[Mistake]:
    with pytest.raises(ValidationError) as error:
        Outer.model_validate(data)
    return mistakes(error.value, data, Outer)


def test_every_mistake_has_its_place_and_one_sentence() -> None:
    name, inner = wrong({"inner": [{"siz": 3}]})
    assert name == Mistake((), "'name' is missing", missing=True)
    assert inner == Mistake(("inner", 0, "siz"), "there is no such key (did you mean 'size'?); valid: size", "siz")


def test_a_value_of_several_forms_is_one_mistake() -> None:
    (both,) = wrong({"name": "a", "vectors": {"x": 3}})
    assert (both.place, both.message) == (("vectors", "x"), "it must be a list or text (it is 3)")


def test_the_part_of_the_form_that_was_meant_is_named() -> None:
    (part,) = wrong({"name": "a", "vectors": {"x": [1, "half"]}})
    assert (part.place, part.message) == (("vectors", "x", 1), "it must be a number (it is 'half')")


def test_what_two_settings_make_together_stands_at_one_of_them() -> None:
    assert wrong({"name": "a", "low": 10}) == [Mistake(("low",), "low 10 is above high 9")]


@pytest.mark.parametrize(
    ("lines", "line", "carets"),
    [
        ("dim: 4\nepoch: 3", 4, "epoch"),
        ("dim: 4\nepochs: many", 4, "many"),
        ("resolution: [512, abc]", 3, "abc"),
        ("te_lr: 0\nunet_lr: 0", 4, "unet_lr"),
        ("preset: style-04", 3, "style-04"),
        ("datasets:\n  - images: [{folder: a, keep_token: 1}]", 4, "keep_token"),
    ],
)
def test_a_training_configs_mistake_has_its_line_with_a_caret(
    tmp_path: Path, lines: str, line: int, carets: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"base: b\nimages: imgs\n{lines}\n")
    with pytest.raises(RecipeError) as error:
        read_config(path)
    place, text, under = error.value.excerpt.splitlines()
    assert f"c.yaml:{line}:" in place and f"c.yaml, line {line}: " in str(error.value)
    assert text[under.index("^") : under.rindex("^") + 1] == carets
    assert str(error.value).endswith(error.value.reason)


def test_a_mistake_of_the_command_line_is_not_looked_for_in_the_config(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("base: b\nimages: imgs\nepochs: 3\n")
    with pytest.raises(RecipeError) as error:
        read_config(path, {"epochs": 0})
    assert str(error.value) == f"{path}: epochs: it must be 1 or more (it is 0)"
    assert error.value.place == ("epochs",) and not error.value.excerpt


def test_a_mistake_without_a_file_has_its_place() -> None:
    with pytest.raises(RecipeError, match="there is no training preset") as error:
        make_config({"base": "b", "images": "i", "preset": "style-04"}, "train")
    assert error.value.place == ("preset",) and error.value.reason.startswith("there is no training preset")
