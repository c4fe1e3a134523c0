"""Which command makes which picture of README and ``docs``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    """One picture of ``docs``.

    Attributes:
        name: the file in ``docs``.
        commands: what makes it, in a folder of its own; ``loratools ...`` and ``python -m ...``.
        made: the file that the commands leave, which becomes the picture (as it is, or as WebP); empty for one that a
            person takes.
        page: a page whose commands make it, in the place of ``commands``.
        until: of a page, the text of the last block that is needed.
        minutes: on two idle CPU cores, about.
        earlier: why the picture shown is of an earlier version of these commands.
    """

    name: str
    commands: tuple[str, ...] = ()
    made: str = ""
    page: str = ""
    until: str = ""
    minutes: float = 0.1
    earlier: str = field(default="", compare=False)


_DEMO = "loratools demo -o demo"
_TITLE = "loratools demo: epochs of an ink style, its weight, and the published file"
_GRID = f'loratools grid -o demo/sheet --redraw --title "{_TITLE}" --label final=my_style'
_SCREENS = "python -m tools.pictures.screens demo/sheet page.png pairs.png"
_LORA = "ink-hands-1/run/lora-000010.safetensors"
_HANDS = "python -m benchmarks.defect_loras ink-hands-1 --work ."
_TUNE = f"loratools blocks tune {_LORA} --base pocket --symptom hands --quick -o tuned"
_PREVIEWS = {"epochs": "epochs", "samplers": "samplers", "blocks": "blocks", "tags": "tags", "scores": "scored"}
_SCREEN = "a screenshot of the page, taken by hand after the steps that stand below it"

PICTURES = (
    Picture("grid.png", (_DEMO, _GRID), "demo/sheet/grid.png", minutes=7),
    Picture("grid-page.png", (_DEMO, _GRID, _SCREENS), "page.png", minutes=7),
    Picture("grid-pairs.png", (_DEMO, _GRID, _SCREENS), "pairs.png", minutes=7),
    Picture("blocks-tune.webp", (_HANDS, _TUNE), "tuned/sheet.png", minutes=12),
    Picture(
        "tune-before-after.webp",
        (_HANDS, _TUNE, f"python -m tools.pictures.hands {_LORA} tuned hands.png"),
        "hands.png",
        minutes=12,
    ),
    Picture("pocket-samples.png", ("python -m tools.pictures.samples samples.png",), "samples.png", minutes=0.5),
    Picture("blocks-gp1.png", ("loratools blocks show GP1 --png gp1.png",), "gp1.png"),
    Picture("dataset-prepare.webp", ("python -m tools.pictures.dataset set.png",), "set.png"),
    Picture("prompts.png", page="docs/prompts.md", until="1girl BREAK red_hair", made="grid/grid.png"),
    *(
        Picture(f"previews-{name}.webp", page="docs/previews.md", until="--redraw", made=f"{made}/grid.png", minutes=3)
        for name, made in _PREVIEWS.items()
    ),
    *(
        Picture(
            f"tutorials/{name}.webp",
            page=f"docs/tutorials/{name}.md",
            until="loratools grid",
            made="grid/grid.png",
            minutes=6,
        )
        for name in ("style", "character", "full")
    ),
    *(Picture(f"studio-{name}.webp", ("loratools studio --demo",), earlier=_SCREEN) for name in ("blocks", "epochs")),
)
