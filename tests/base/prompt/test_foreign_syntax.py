"""What other programs carry out in prompts and nothing here does: refused by name, and nothing else is."""

from __future__ import annotations

import pytest

from loratools.base.prompt.foreign_syntax import check_prompt, is_foreign
from loratools.errors import PromptError


@pytest.mark.parametrize(
    ("text", "piece", "words"),
    [
        ("1girl, __colour__ hair", "__colour__", "is a wildcard"),
        ("__clothes/summer-*__, smile", "__clothes/summer-*__", "is a wildcard"),
        ("(__hair_colour__:1.2)", "__hair_colour__", "is a wildcard"),
        ("{1girl|1boy}, smile", "{1girl|1boy}", "is a random choice of Dynamic Prompts"),
        ("a {2$$red|{dark|light} blue} hat", "{dark|light}", "a prompt for each"),
        ("${season=winter} ${season}", "${season=winter}", "is a variable"),
        ("1girl <lora:ink:1>", "<lora:ink:1>", "names a LoRA where none can be added"),
        ("1girl <lora:ink:0.8, smile", "<lora:ink:0.8, smile", "no > closes"),
        ("1girl <hypernet:ink:1>", "<hypernet:ink:1>", "hypernetwork"),
        ("embedding:EasyNegative, lowres", "embedding:EasyNegative", "as `embeddings=`"),
        ("(embedding:bad/hands.pt:1.2)", "embedding:bad/hands.pt", "as `embeddings=`"),
    ],
)
def test_what_nothing_carries_out_is_refused_by_name(text: str, piece: str, words: str) -> None:
    assert is_foreign(text)
    with pytest.raises(PromptError) as error:
        check_prompt(text, "p.txt, line 3")
    message = str(error.value)
    assert message.startswith(f"p.txt, line 3: '{piece}'") and words in message and "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "1girl, >_<, ^_^, +_+, |_|, @_@, =_=, long_hair, fate/grand_order, foo__bar__baz, ____",
        "miku_\\(vocaloid\\), {{masterpiece}}, {best quality}, [red|blue] hair, [a:b:0.5]",
        "a cat AND a dog :0.7 BREAK red | blue, \\{a|b\\}",
        "1 < 2 > 0, <3, embedding, embedding: none",
        "",
    ],
)
def test_what_the_webui_itself_takes_as_it_stands_is_left_alone(text: str) -> None:
    check_prompt(text)
    assert not is_foreign(text)
