"""``/api/state``, ``/api/loras``, ``/api/catalog``: what there is, and what menus offer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from loratools.adapter.header import Header, read_header
from loratools.base.base_path import POCKET
from loratools.blocks.explain import knowledge
from loratools.blocks.layer_kinds import layer_kinds
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import NumberedScheme, full_scheme, shortest_scheme
from loratools.blocks.scheme import Scheme as BlockScheme
from loratools.blocks.symptoms import symptoms
from loratools.studio.api.models import BaseInfo, Block, Lora, LoraDetail, Root, Scheme, State
from loratools.studio.api.stacks import Catalog, Preset, Symptom
from loratools.studio.api.words import Words, english, problem, quoted, words
from loratools.studio.context import Studio
from loratools.studio.device import device
from loratools.studio.discover.snapshot import FoundBase, FoundLora
from loratools.studio.handlers.answers import get
from loratools.studio.stacks import shown_scheme
from loratools.version import __version__
from loratools.yamlio import read_yaml

_SIZES = {"sd1": (512, 512), "sd2": (768, 768), "sdxl": (1024, 1024), "flux": (1024, 1024), "sd3": (1024, 1024)}
_OWN_SIZE = (128, 128)  # of the pocket base
_LONGEST = 4_000  # letters of one entry of a header that are shown
_MOST_ENTRIES = 200
_PROMPTS = Path(__file__).parents[2] / "train" / "drawing" / "basestyle_prompts.yaml"
_POCKET = (  # made of tags that the pocket base knows
    "1girl, face_focus, black_hair, short_hair, red_eyes, glasses, simple_background",
    "1girl, cowboy_shot, pink_hair, spiky_hair, green_eyes, dress, spread_arms, hat, starry_sky",
    "1girl, full_body, brown_hair, purple_eyes, tan, yellow_clothes, dress, arms_at_sides, indoors",
)
_GROUPS = {"BASE": "BASE", "M": "MID", "D": "DOUBLE", "S": "SINGLE"}


def state(studio: Studio, request: Request) -> State:
    """What the page needs before anything else."""
    bases = [BaseInfo(id=POCKET, name=POCKET, family="sd1", size=_OWN_SIZE)]
    bases += [_base(studio, found) for found in studio.index.now.bases]
    return State(
        version=__version__,
        roots=[Root(id=root.id, name=root.name) for root in studio.roots.roots],
        bases=bases,
        device=device(studio.options.device),
        demo=studio.options.demo,
        prompts=_prompts(),
        last_event=studio.events.last,
    )


def loras(studio: Studio, request: Request) -> list[Lora]:
    """Every LoRA file, the newest first."""
    found = sorted(studio.index.now.loras, key=lambda own: -own.stamp.mtime_ns)
    return [Lora(**_lora(studio, own)) for own in found]


def lora(studio: Studio, request: Request) -> LoraDetail:
    """One LoRA file with its blocks and its header."""
    found = find_lora(studio, request.path_params["id"])
    header = read_header(found.path)
    entries = list(header.metadata.items())[:_MOST_ENTRIES]
    return LoraDetail(
        **_lora(studio, found),
        scheme=_scheme(*_scheme_of(found, header), studio.norms.shares(found.path, found.stamp)),
        metadata={key[:_LONGEST]: value[:_LONGEST] for key, value in entries},
    )


def catalog(studio: Studio, request: Request) -> Catalog:
    """Blocks, presets, symptoms and samplers for a family."""
    from loratools.base.sampling.samplers import SAMPLERS

    family = request.query_params.get("family", "sd1")
    scheme = shown_scheme(family, request.query_params.get("scheme", ""))
    presets = [
        Preset(name=name, weights=dict(own.weights))
        for name, variants in load_presets().items()
        if not isinstance(variants, str)
        for own in variants
        if family in own.scheme.families
    ]
    return Catalog(
        scheme=_scheme(scheme),
        presets=presets,
        symptoms=[
            Symptom(name=own.name, help=own.title, steps=[step.say for step in own.steps])
            for own in symptoms().values()
        ],
        samplers=list(SAMPLERS),
    )


def find_lora(studio: Studio, lora_id: str) -> FoundLora:
    """The LoRA file of an id.

    Raises:
        StudioError: if there is none.
    """
    path = studio.roots.path(lora_id)
    found = next((own for own in studio.index.now.loras if own.path == path), None)
    if found is None:
        raise problem("lora.unreadable", status=404, name=path.name)
    return found


def _base(studio: Studio, found: FoundBase) -> BaseInfo:
    size = _SIZES.get(found.family, (512, 512))
    file = found.path.suffix.lower() in (".safetensors", ".ckpt")
    name = found.path.stem if file else found.path.name  # of a folder such as sd-v1.5 all of it
    return BaseInfo(id=studio.roots.id_of(found.path), name=name, family=found.family, size=size)


def _lora(studio: Studio, found: FoundLora) -> dict[str, Any]:
    root = studio.roots.root_of(found.path)
    return {
        "id": studio.roots.id_of(found.path),
        "name": found.path.stem,
        "root": root.id if root else "",
        "path": studio.roots.shown(found.path),
        "family": found.facts.family,
        "rank": found.facts.rank,
        "bytes": found.stamp.size,
        "changed": found.stamp.mtime_ns / 1e9,
        "run": studio.roots.id_of(found.run, "run") if found.run else None,
        "epoch": found.epoch,
        "trigger": found.facts.trigger,
    }


def _scheme_of(found: FoundLora, header: Header) -> tuple[BlockScheme, Mapping[str, tuple[str, ...]]]:
    """The scheme that shows its blocks, of a model that no table knows by its own modules; and the kinds of layers in
    each block."""
    from loratools.adapter.files.decode import decode

    scheme = shown_scheme(_family(found), found.facts.scheme)
    pieces = tuple(decode(found.path, header.tensors, header.metadata, allow_unknown=True).pieces)
    if isinstance(scheme, NumberedScheme):
        return shortest_scheme(scheme.family, pieces), {}
    return scheme, layer_kinds(pieces, full_scheme(scheme.family))


def _family(found: FoundLora) -> str:
    """The family whose blocks it has: that of another model's LoRA may share one's names."""
    from loratools.adapter.architectures.known_families import FAMILIES

    return found.facts.family if found.facts.family in FAMILIES else "unknown"


def _scheme(
    scheme: BlockScheme,
    kinds: Mapping[str, tuple[str, ...]] | None = None,
    shares: Mapping[str, float] | None = None,
) -> Scheme:
    """The blocks; with ``shares``, in which one that holds nothing is left out, where the norm lies."""
    known = knowledge(scheme.family)
    blocks = [
        Block(
            name=name,
            group=_group(name),
            norm_share=shares.get(name, 0.0) if shares else None,
            help=_governs(known[name].governs) if name in known else None,
            kinds=(kinds or {}).get(name, ()),
        )
        for name in scheme.names
    ]
    return Scheme(family=scheme.family, blocks=blocks)


def _governs(text: str) -> Words:
    """What a block is said to govern, in words that have a key."""
    key = f"governs.{text}"
    return words(key) if key in english() else quoted(text)


def _group(name: str) -> str:
    """``IN`` of ``IN04``, ``MID`` of ``M00``; of a numbered container its name."""
    stem = name.rpartition(".")[0] if "." in name else name.rstrip("0123456789")
    return _GROUPS.get(stem, stem)


@lru_cache(maxsize=1)
def _prompts() -> dict[str, list[str]]:
    """Example prompts by family, and those of the pocket base by its name."""
    listed = [prompt for prompts in read_yaml(_PROMPTS).data.values() for prompt in prompts]
    return {POCKET: list(_POCKET), **dict.fromkeys(_SIZES, listed)}


ROUTES: list[Route] = [
    get("/api/state", state),
    get("/api/loras", loras),
    get("/api/loras/{id}", lora),
    get("/api/catalog", catalog),
]
