"""Which model a LoRA file is for: by its module names, what it says of itself, and the shapes of its differences.

Names tell families apart whose networks differ in kind. Transformers share theirs: double and single blocks are called
alike in Flux.1, Chroma, Flux.2, HunyuanVideo, LongCat-Image, Bria and, in part, in Qwen-Image and SD3. There the
header's words and the shapes decide, and where they do not, the answer says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from loratools.adapter.algebra.fused_rows import SINGLE_ROWS, FusedWeight
from loratools.adapter.architectures.block_transformer import BlockTransformer, fits
from loratools.adapter.architectures.family import UNKNOWN, Family, Model, Transformer, UNet
from loratools.adapter.architectures.header_words import (
    MODEL,
    UNCERTAIN,
    may_be_same,
    model_named,
    stated_model,
    states_another,
)
from loratools.adapter.architectures.known_families import DECLARED, FAMILIES, family_of
from loratools.adapter.architectures.names import declared_weights, kohya_name, resolve
from loratools.module_path import is_text, numbered_path

Shape = tuple[int, ...]

_CROSS = (
    "attn2_to_k",
    "attn2_to_v",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.processor.to_k_lora",
    "attn2.processor.to_v_lora",
)
_ORIGINAL_UNET = ("input_blocks", "middle_block", "output_blocks")
_SD3_WIDTHS = (1536, 2432)  # SD3 and SD3.5 medium, SD3.5 large
_FLUX_WIDTH = 3072
_SMALLEST_REAL_WIDTH = 1024  # narrower networks are test models of any family
# families that are told by rules of their own, whose header words are also what trainers write by default
_UNDECLARED = tuple(name for name, family in FAMILIES.items() if not isinstance(family.network, BlockTransformer))

# module of Flux's table -> (rows per width, columns per width); of Flux.2 where it differs
_FLUX_SHAPES = {
    "ff.net.0.proj": (4, 1),
    "ff_context.net.0.proj": (4, 1),
    "ff.net.2": (1, 4),
    "ff_context.net.2": (1, 4),
    "proj_mlp": (4, 1),
    "proj_out": (1, 5),
    "norm.linear": (3, 1),
    "norm1.linear": (6, 1),
    "norm1_context.linear": (6, 1),
    **{f"attn.{part}": (1, 1) for part in ("to_q", "to_k", "to_v", "to_out.0", "to_add_out")},
    **{f"attn.add_{part}_proj": (1, 1) for part in "qkv"},
}
_FLUX2_SHAPES = {
    "ff.net.0.proj": (6, 1),
    "ff_context.net.0.proj": (6, 1),
    "ff.net.2": (1, 3),
    "ff_context.net.2": (1, 3),
    "proj_out": (1, 4),
}
_FLUX2_SINGLE_ROWS = 9  # q, k, v of one width each and a gated feed-forward layer of six
_LAST_BLOCKS = (".transformer_blocks.18.", ".single_transformer_blocks.37.")  # of 19 and 38
_MODULATION = ("norm.linear", "norm1.linear", "norm1_context.linear")  # in every block of Flux.1; Chroma has none


@dataclass(frozen=True)
class Identity:
    """Which model a file is for, as far as it can be told.

    Args:
        family: whose table its names are read by, a key of ``FAMILIES`` or ``unknown``.
        model: a :class:`Model`'s name; empty where it cannot be told.
        title: what messages call it.
        readable: the families whose tables can read its names, ``family`` among them: the others count where the file
            stands beside one of that family.
    """

    family: str
    model: str
    title: str
    readable: tuple[str, ...]

    @property
    def label(self) -> str:
        """The family as reports name it: of a model that only shares a family's names, the model; of what several
        declared families may be, all of them."""
        if self.family == UNKNOWN.name or self.uncertain:
            return self.family
        return self.model or self.title

    @property
    def own_table(self) -> bool:
        """Whether the family's table is the model's own, so that what the family is called is true of the file."""
        return self.model == self.family

    @property
    def several(self) -> bool:
        """Whether several declared families have these names and shapes."""
        return not self.model and len(self.readable) > 2 and not self.uncertain

    @property
    def uncertain(self) -> bool:
        """Whether several models that are known have these names."""
        return self.title == UNCERTAIN


def identify(shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> Identity:
    """Which model a file is for.

    A family fits if it has every module. UNet names are so distinctive that one which has most of them fits too, and
    the rest are stray keys; transformers' names are shared by many models, so there a stray module means another model.

    Args:
        shapes: stem -> shape of its difference, whatever it is stored as; empty where that is not known.
    """
    lost = {family: sum(resolve(stem, family) is None for stem in shapes) for family in _UNDECLARED}
    fitting = [family for family, count in lost.items() if count == 0]
    declared = [family for family in map(_name, DECLARED) if _names_fit(family, shapes) and _shapes_fit(family, shapes)]
    if not fitting:
        mostly = [f for f, n in lost.items() if isinstance(FAMILIES[f].network, UNet) and 2 * n < len(shapes)]
        fewest = min((lost[family] for family in mostly), default=0)
        fitting = [family for family in mostly if lost[family] == fewest]
    if declared:
        return _declared(declared, fitting, shapes, metadata)
    return _undeclared(fitting, shapes, metadata)


def _undeclared(fitting: list[str], shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> Identity:
    """A file whose names fit these UNets, Flux.1 or SD3, or no table."""
    transformers = [family for family in fitting if isinstance(FAMILIES[family].network, Transformer)]
    if transformers and len(transformers) == len(fitting):
        return _transformer(transformers, shapes, metadata)
    if fitting:
        family = _claimed(fitting, metadata) or _by_width(fitting, shapes)
        return _as_family(family, stated_model(metadata))
    return _unknown(shapes, metadata)


def _declared(
    declared: list[str], others: list[str], shapes: Mapping[str, Shape], metadata: Mapping[str, str]
) -> Identity:
    """A file whose names and shapes fit these declared transformers, and whose names fit ``others`` too.

    What the header says decides, then what only one has. Files that several may be are read by a table of names that
    all of them share, and no model is claimed.
    """
    stated = stated_model(metadata)
    if stated is not None:
        named = [family for family in declared if may_be_same(family, stated.name)]
        if named:
            return Identity(named[0], stated.name, stated.title, (named[0],))
        return _undeclared(others, shapes, metadata)
    if not others:
        if len(declared) == 1:
            return _as_family(declared[0], None)
        title = " or ".join(family_of(family).title for family in declared)
        order = (*declared, UNKNOWN.name) if _one_table(declared, shapes) else (UNKNOWN.name, *declared)
        return Identity(order[0], "", title, order)
    other = _undeclared(others, shapes, metadata)
    if other.family == UNKNOWN.name and not other.uncertain and len(declared) == 1:
        return _as_family(declared[0], None)
    return replace(other, readable=(*other.readable, *declared)) if other.uncertain else other


def _declared_network(family: str) -> BlockTransformer | None:
    network = FAMILIES[family].network
    return network if isinstance(network, BlockTransformer) else None


def _name(family: Family) -> str:
    return family.name


def _names_fit(family: str, stems: Iterable[str]) -> bool:
    """Whether a declared family has every module of a file. Its tables are made only where the paths from the first
    number on may be its own."""
    network = _declared_network(family)
    numbered = (numbered_path(stem) for stem in stems if not is_text(stem))
    if network is None or not all(network.has_path(*place) for place in numbered if place is not None):
        return False
    return all(resolve(stem, family) is not None for stem in stems)


def _one_table(families: Iterable[str], stems: Iterable[str]) -> bool:
    """Whether these families, which have all of a file's modules, call every one of them alike in both spellings."""
    for stem in stems:
        held = [(fused.names, family) for family in families if (fused := resolve(stem, family)) is not None]
        if len({(names, *(kohya_name(name, family) for name in names)) for names, family in held}) > 1:
            return False
    return True


def _shapes_fit(family: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether a file's shapes can be those of a declared family, whose table resolves all its names."""
    network = _declared_network(family)
    weights = declared_weights(family)
    modules = {stem: fused for stem in shapes if (fused := resolve(stem, family)) is not None}
    found = [
        (weights[fused.names], fused, shapes[stem])
        for stem, fused in modules.items()
        if shapes[stem] and fused.names in weights
    ]
    return network is not None and fits(found, network.sizes)


def _as_family(family: str, stated: Model | None) -> Identity:
    """A file whose names only one family has; Kolors has SDXL's."""
    if stated is not None and (family, stated.name) == ("sdxl", "kolors"):
        return Identity(family, stated.name, stated.title, (family,))
    return Identity(family, family, family_of(family).title, (family,))


def _unknown(shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> Identity:
    """A file that no table reads: its model is known only by its header, or by modules that no other has."""
    stated = stated_model(metadata)
    if stated is not None and stated.name not in _UNDECLARED:
        model = stated
    elif any(_flux2_alone(stem, shape) for stem, shape in shapes.items()):
        model = model_named("flux2")
    else:
        return Identity(UNKNOWN.name, "", UNKNOWN.title, (UNKNOWN.name,))
    return Identity(UNKNOWN.name, model.name, model.title, (UNKNOWN.name,))


def _flux2_alone(stem: str, shape: Shape) -> bool:
    """Whether one module's name or shape is only Flux.2's."""
    if any(word in stem for word in ("to_qkv_mlp_proj", "stream_modulation")):
        return True
    fused = resolve(stem, "flux")
    return fused is not None and _verdict(fused, shape) == "flux2"


def _transformer(families: list[str], shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> Identity:
    """A file whose names fit Flux.1, SD3, or both, and with them the models that share their names."""
    stated = stated_model(metadata)
    parts = _Parts.of(shapes) if "flux" in families else None
    if stated is not None and stated.name == "sd3" and "sd3" in families:
        return _as_family("sd3", stated)
    if "sd3" in families and _sd3_alone(shapes):
        return _as_family("sd3", None)
    if parts is None or "other" in parts.verdicts or "flux2" in parts.verdicts:
        return _sd3_or_unknown(families, shapes, metadata, parts)
    if stated is not None and stated.name != "flux":
        return _unknown(shapes, metadata) if stated.name not in _UNDECLARED else _shared(shapes, parts, certain=False)
    if stated is not None or (not states_another(metadata) and parts.only_flux1):
        return _as_family("flux", None)
    return _shared(shapes, parts, certain=metadata.get(MODEL) == UNCERTAIN)


def _shared(shapes: Mapping[str, Shape], parts: _Parts, *, certain: bool) -> Identity:
    """A file of Flux.1 or another model of its names.

    Its names are read by Flux's table only where every such model calls these modules so in both spellings; a few
    attention layers by their Diffusers names may be Qwen-Image's or AuraFlow's, which other tools call otherwise.
    """
    names = ("flux", UNKNOWN.name) if certain or parts.one_table else (UNKNOWN.name, "flux")
    return Identity(names[0], "", UNCERTAIN, names)


def _sd3_alone(shapes: Mapping[str, Shape]) -> bool:
    """Whether the names are the original network's of SD3, or the width is one of SD3's."""
    if any("joint_blocks" in stem for stem in shapes):
        return True
    widths = {shape[1] for shape in shapes.values() if len(shape) > 1}
    return bool(widths & set(_SD3_WIDTHS)) and not widths & {_FLUX_WIDTH}


def _sd3_or_unknown(
    families: list[str], shapes: Mapping[str, Shape], metadata: Mapping[str, str], parts: _Parts | None
) -> Identity:
    """A file that is not Flux's by names or shapes."""
    if "sd3" not in families or stated_model(metadata) is not None or (parts and "flux2" in parts.verdicts):
        return _unknown(shapes, metadata)
    real = {min(shape) for stem, shape in shapes.items() if "transformer_blocks" in stem and len(shape) > 1}
    if any(width >= _SMALLEST_REAL_WIDTH and width not in _SD3_WIDTHS for width in real):
        return _unknown(shapes, metadata)
    return _as_family("sd3", None)


@dataclass(frozen=True)
class _Parts:
    """Which parts of Flux's network a file changes, and what their shapes say.

    Attributes:
        verdicts: ``flux``, ``flux2`` or ``other`` for each module whose shape was compared.
        one_table: whether all models that have such modules call them alike in both spellings.
        only_flux1: whether no other model has such modules.
    """

    verdicts: frozenset[str]
    one_table: bool
    only_flux1: bool

    @staticmethod
    def of(shapes: Mapping[str, Shape]) -> _Parts:
        """From a file whose stems Flux's table resolves."""
        modules = {stem: fused for stem in shapes if (fused := resolve(stem, "flux")) is not None}
        network = {stem: fused for stem, fused in modules.items() if not fused.names[0].startswith("text_encoder")}
        verdicts = frozenset(_verdict(fused, shapes[stem]) for stem, fused in network.items()) - {""}
        names = [name for fused in network.values() for name in fused.names]
        original = any("double_blocks" in stem or "single_blocks" in stem for stem in network)
        both = any(".transformer_blocks." in n for n in names) and any(
            ".single_transformer_blocks." in n for n in names
        )
        one_table = original or both or any(_path(name).startswith(("ff", "norm", "proj_")) for name in names)
        modulated = any(_path(name) in _MODULATION for name in names)
        clip = bool(network) and any(fused.names[0].startswith("text_encoder.") for fused in modules.values())
        xlabs = any(".processor." in stem for stem in network)
        only = clip or xlabs or (modulated and (original or _covers_all_blocks(names)))
        return _Parts(verdicts, one_table, only)


def _covers_all_blocks(names: Iterable[str]) -> bool:
    return any(block in name for name in names for block in _LAST_BLOCKS)


def _verdict(fused: FusedWeight, shape: Shape) -> str:
    """Whose a module's shape is, in widths of Flux's blocks: ``flux``, ``flux2``, ``other``; empty if unclear."""
    if len(shape) != 2 or ".transformer_blocks." not in f".{fused.names[0]}".replace("single_", ""):
        return ""
    if fused.split == "single":
        models = {SINGLE_ROWS: "flux", _FLUX2_SINGLE_ROWS: "flux2"}
        return _of_real_width("other" if shape[0] % shape[1] else models.get(shape[0] // shape[1], "other"), shape[1])
    path, parts = _path(fused.names[0]), len(fused.names)
    if shape[0] % parts:
        return ""  # no fused weight at all, which reading it will say
    for model, table in (("flux", _FLUX_SHAPES), ("flux2", _FLUX2_SHAPES)):
        if path in table:
            rows, columns = table[path]
            if shape[0] * columns == shape[1] * rows * parts:
                return _of_real_width(model, shape[1] // columns)
    return "other" if path in _FLUX_SHAPES else ""


def _of_real_width(model: str, width: int) -> str:
    """``flux`` only at Flux.1's own width, or that of a test model."""
    return "other" if model == "flux" and width >= _SMALLEST_REAL_WIDTH and width != _FLUX_WIDTH else model


def _path(name: str) -> str:
    """A module's path below its block."""
    return ".".join(_below(name.split(".")))


def _below(parts: list[str]) -> Iterator[str]:
    after = next((index for index, part in enumerate(parts) if part.isdigit()), -1)
    return iter(parts[after + 1 :])


def _claimed(families: list[str], metadata: Mapping[str, str]) -> str | None:
    """The family that the header names: of two entries that differ, sd-scripts' own counts."""
    version, architecture = metadata.get("ss_base_model_version", ""), metadata.get("modelspec.architecture", "")
    for family in families:
        if version.startswith(family_of(family).base_model_version):
            return family
    stated = stated_model({"modelspec.architecture": architecture}) or stated_model({"ss_base_model_version": version})
    return stated.name if stated is not None and stated.name in families else None


def _by_width(families: list[str], shapes: Mapping[str, Shape]) -> str:
    """SD2's prompt is 1024 wide and SDXL's 2048; every other width (768, or a small model's) is taken for SD1."""
    for stem, shape in shapes.items():
        text = stem.startswith(("lora_te_", "text_encoder.")) and stem.endswith("q_proj")
        if len(shape) > 1 and (stem.endswith(_CROSS) or text) and "sd1" in families:
            width = {1024: "sd2", 2048: "sdxl"}.get(shape[1], "sd1")
            return width if width in families else families[0]
    if "sdxl" in families and any(name in stem for stem in shapes for name in _ORIGINAL_UNET):
        return "sdxl"
    return families[0]
