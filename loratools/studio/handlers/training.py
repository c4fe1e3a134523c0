"""``/api/folders``, ``/api/presets``: what a training can be started with."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from loratools.studio.api.models import PictureFolder, TrainPreset
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import get


def folders(studio: Studio, request: Request) -> list[PictureFolder]:
    """Every folder of pictures."""
    shown = []
    for own in studio.index.now.pictures:
        root = studio.roots.root_of(own.path)
        if root is not None:
            place = studio.roots.shown(own.path)
            shown.append(
                PictureFolder(
                    id=studio.roots.id_of(own.path),
                    name=own.path.name,
                    root=root.id,
                    path=root.name if place == "." else place,
                    pictures=own.pictures,
                    captions=own.captions,
                )
            )
    return shown


def presets(studio: Studio, request: Request) -> list[TrainPreset]:
    """Every preset of a training."""
    from loratools.train.config.read import presets as known_presets

    return [
        TrainPreset(
            name=name, source=" ".join(own.source.split()), settings={key: str(v) for key, v in own.settings.items()}
        )
        for name, own in known_presets().items()
    ]


ROUTES: list[Route] = [get("/api/folders", folders), get("/api/presets", presets)]
