"""Model families' ordered blocks, as data: which part of a network each slot of a block vector stands for.

SD1: IN n = 1 + 3 * level + layer, OUT n = 3 * level + layer; samplers have slots of their own on the way down and share
their neighbour's on the way up. The short schemes list only the blocks that hold attention. Flux has one block for each
double and single block of its transformer, SD3 one for each joint block. A model that no table knows is cut at the
first number in its modules' own names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from loratools.adapter.architectures.block_transformer import BlockTransformer
from loratools.adapter.architectures.family import Family
from loratools.adapter.architectures.known_families import FAMILIES
from loratools.errors import BlockError, did_you_mean
from loratools.module_path import is_text, numbered_container

_ALIASES = {"MID": "M00", "TE": "BASE"}

TEXT_BLOCK = "BASE"  # a text encoder's, where the scheme has one block for it
NO_BLOCK = "(none)"  # where modules stand that no block of the scheme covers


@dataclass(frozen=True)
class Block:
    """One slot: its name, and the dotted canonical prefixes of the modules it covers."""

    name: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True)
class Scheme:
    """An ordered list of blocks. ``name`` is ``sd1-17`` and the like; ``families`` are those it may be used on."""

    name: str
    title: str
    families: tuple[str, ...]
    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def family(self) -> str:
        """The family it is named after."""
        return self.families[0]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Block names in vector order."""
        return tuple(block.name for block in self.blocks)

    @cached_property
    def listing(self) -> str:
        """Block names for a person: ``BASE layers.00-29`` where a container's follow one another."""
        runs: list[list[str]] = []
        for name in self.names:
            if runs and _follows(runs[-1][-1], name):
                runs[-1].append(name)
            else:
                runs.append([name])
        return " ".join(_run_text(run) for run in runs)

    @cached_property
    def _by_prefix(self) -> dict[str, str]:
        return {prefix: block.name for block in self.blocks for prefix in block.prefixes}

    def block_of(self, module: str) -> str | None:
        """The block that a canonical module name belongs to, or None if it is in none of this scheme's."""
        end = len(module)
        while end > 0:
            block = self._by_prefix.get(module[:end])
            if block is not None:
                return block
            end = module.rfind(".", 0, end)
        return None

    def block_name(self, word: str) -> str:
        """The scheme's own spelling of a block name: any case; ``MID`` is ``M00``, ``TE`` is ``BASE``.

        Raises:
            BlockError: if the scheme has no such block.
        """
        name = _ALIASES.get(word.strip().upper(), word.strip().upper())
        if name not in self.names:
            near = did_you_mean(word, self.names)
            raise BlockError(f"{self.title} has no block '{word}'{near}; its blocks are {' '.join(self.names)}")
        return name


class NumberedScheme(Scheme):
    """The blocks of an unknown model: ``layers.03`` for ``diffusion_model.layers.3...`` or ``lora_unet_layers_3_...``.

    Which blocks there are is known only from a file's modules: ``blocks`` holds them where a file is at hand (see
    :func:`numbered_scheme`). Any such name is accepted, so that whoever has the file can say what it lacks.
    """

    def block_of(self, module: str) -> str | None:
        """The first numbered container of a module's name; ``BASE`` for a text encoder; None where nothing is numbered.

        The container is the words that stand before the number, without what says that it is the model's network.
        """
        if is_text(module):
            return TEXT_BLOCK
        numbered = numbered_container(module)
        return _numbered_name(*numbered) if numbered else None

    def block_name(self, word: str) -> str:
        """The block's own spelling: ``layers.3`` is ``layers.03``.

        Raises:
            BlockError: if it is not a container and a number.
        """
        text = word.strip().lower()
        if _ALIASES.get(text.upper(), text.upper()) == TEXT_BLOCK:
            return TEXT_BLOCK
        container, _, number = text.rpartition(".")
        if not container or not number.isdecimal():
            its = f"; its blocks are {self.listing}" if self.blocks else ""
            raise BlockError(
                f"'{word}' is no block of {self.title}{did_you_mean(word, self.names)}; write its container and "
                f"number, as in layers.03{its}"
            )
        return _numbered_name(container.replace(".", "_"), int(number))


@dataclass(frozen=True)
class DeclaredScheme(NumberedScheme):
    """The blocks of a transformer that is declared by its containers: ``BASE``, the text encoder's, then
    ``double.00`` and so on in the order of the declaration.

    Containers are also read by their names in both networks, such as ``single_transformer_blocks.3`` and
    ``single_blocks.3``: ``words`` has them, with underscores, each with what its blocks are called.
    """

    words: tuple[tuple[str, str], ...] = ()

    def block_of(self, module: str) -> str | None:
        """The block that a canonical module name belongs to; None outside the blocks."""
        return TEXT_BLOCK if is_text(module) else Scheme.block_of(self, module)

    def block_name(self, word: str) -> str:
        """The block's own spelling.

        Raises:
            BlockError: if the model has no such block.
        """
        name = super().block_name(word)
        container, _, number = name.rpartition(".")
        known = f"{self.container(container)}.{number}" if container else name
        if known not in self.names:
            near = did_you_mean(word, self.names)
            raise BlockError(f"{self.title} has no block '{word}'{near}; its blocks are {self.listing}")
        return known

    def container(self, word: str) -> str:
        """The container of blocks that ``word`` names, in its own spelling."""
        return dict(self.words).get(word, word)


def _follows(name: str, other: str) -> bool:
    """Whether ``other`` is the next block of the same container."""
    (container, number), (other_container, other_number) = _number_order(name), _number_order(other)
    return container == other_container and number >= 0 and other_number == number + 1


def _run_text(run: Sequence[str]) -> str:
    return " ".join(run) if len(run) < 3 else f"{run[0]}-{run[-1].rpartition('.')[2]}"


def _numbered_name(container: str, number: int) -> str:
    return f"{container}.{number:02d}"


def _number_order(block: str) -> tuple[str, int]:
    """``layers.100`` comes after ``layers.99``."""
    container, _, number = block.rpartition(".")
    return (container, int(number)) if number.isdecimal() else (block, -1)


def _sd1() -> Iterator[Block]:
    yield Block("BASE", ("text_encoder",))
    yield Block("IN00", ("unet.conv_in",))
    for level in range(4):
        for layer in range(2):
            yield Block(f"IN{1 + 3 * level + layer:02d}", _pair(f"unet.down_blocks.{level}", layer))
        if level < 3:
            yield Block(f"IN{3 + 3 * level:02d}", (f"unet.down_blocks.{level}.downsamplers",))
    yield Block("M00", ("unet.mid_block",))
    yield from _ups(4)


def _sdxl() -> Iterator[Block]:
    yield Block("BASE", ("text_encoder", "text_encoder_2"))
    yield Block("IN00", ("unet.conv_in",))
    for level in range(3):
        for layer in range(2):
            yield Block(f"IN{1 + 3 * level + layer:02d}", _pair(f"unet.down_blocks.{level}", layer))
        if level < 2:
            yield Block(f"IN{3 + 3 * level:02d}", (f"unet.down_blocks.{level}.downsamplers",))
    yield Block("M00", ("unet.mid_block",))
    yield from _ups(3)


def _ups(levels: int) -> Iterator[Block]:
    for level in range(levels):
        for layer in range(3):
            sampler = (f"unet.up_blocks.{level}.upsamplers",) if layer == 2 else ()
            yield Block(f"OUT{3 * level + layer:02d}", _pair(f"unet.up_blocks.{level}", layer) + sampler)


def _pair(level: str, layer: int) -> tuple[str, ...]:
    return f"{level}.resnets.{layer}", f"{level}.attentions.{layer}"


def _flux() -> Iterator[Block]:
    yield Block("CLIP", ("text_encoder",))
    yield Block("T5", ("text_encoder_2",))
    yield Block("IN", ("transformer.x_embedder", "transformer.context_embedder", "transformer.time_text_embed"))
    yield from (Block(f"D{i:02d}", (f"transformer.transformer_blocks.{i}",)) for i in range(19))
    yield from (Block(f"S{i:02d}", (f"transformer.single_transformer_blocks.{i}",)) for i in range(38))
    yield Block("OUT", ("transformer.norm_out", "transformer.proj_out"))


def _sd3() -> Iterator[Block]:
    yield Block("CLIP", ("text_encoder", "text_encoder_2"))
    yield Block("T5", ("text_encoder_3",))
    outer = ("pos_embed", "context_embedder", "time_text_embed")
    yield Block("IN", tuple(f"transformer.{name}" for name in outer))
    yield from (Block(f"B{i:02d}", (f"transformer.transformer_blocks.{i}",)) for i in range(38))
    yield Block("OUT", ("transformer.norm_out", "transformer.proj_out"))


def _declared(family: Family, network: BlockTransformer) -> Scheme:
    """The scheme of a declared transformer; the text encoder's block comes first, also where none is trained."""
    if network.slots is None:
        text = Block(TEXT_BLOCK, tuple(encoder.component for encoder in family.text))
        blocks = (text, *_containers(network, _numbered_name))
        return DeclaredScheme(family.name, family.title, (family.name,), blocks, _container_words(network))
    before, after = (
        [Block(name, tuple(prefixes.split())) for name, prefixes in slots]
        for slots in (network.slots.before, network.slots.after)
    )
    blocks = (*before, *_containers(network, "{}{:02d}".format), *after)
    return Scheme(f"{family.name}-{len(blocks)}", f"{family.title} ({len(blocks)} blocks)", (family.name,), blocks)


def _container_words(network: BlockTransformer) -> tuple[tuple[str, str], ...]:
    """What containers are called in either network -> what their blocks are called."""
    own = {(c.block or c.name).replace(".", "_") for c in network.containers}
    words = {
        path.replace(".", "_").lower(): (container.block or container.name).replace(".", "_")
        for container in network.containers
        for path in (container.original, container.name)
    }
    return tuple((word, name) for word, name in words.items() if word not in own)


def _containers(network: BlockTransformer, named: Callable[[str, int], str]) -> Iterator[Block]:
    for container in network.containers:
        component = container.component or network.component
        for number in range(container.count):
            name = named((container.block or container.name).replace(".", "_"), number)
            yield Block(name, (f"{component}.{container.name}.{number}",))


def _only(blocks: Iterator[Block], names: str) -> tuple[Block, ...]:
    wanted = names.split()
    return tuple(block for block in blocks if block.name in wanted)


_SD1_ATTENTION = "BASE IN01 IN02 IN04 IN05 IN07 IN08 M00 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11"
_SDXL_ATTENTION = "BASE IN04 IN05 IN07 IN08 M00 OUT00 OUT01 OUT02 OUT03 OUT04 OUT05"

SD1_17 = Scheme("sd1-17", "SD1/SD2 LoRA (17 blocks)", ("sd1", "sd2"), _only(_sd1(), _SD1_ATTENTION))
SD1_26 = Scheme("sd1-26", "SD1/SD2 LoCon (26 blocks)", ("sd1", "sd2"), tuple(_sd1()))
SDXL_12 = Scheme("sdxl-12", "SDXL LoRA (12 blocks)", ("sdxl",), _only(_sdxl(), _SDXL_ATTENTION))
SDXL_20 = Scheme("sdxl-20", "SDXL LoCon (20 blocks)", ("sdxl",), tuple(_sdxl()))
FLUX_61 = Scheme("flux-61", "Flux (61 blocks)", ("flux",), tuple(_flux()))

SD3_42 = Scheme("sd3-42", "SD3/SD3.5 (42 blocks)", ("sd3",), tuple(_sd3()))
UNKNOWN = NumberedScheme("numbered", "a model that no table knows", ("unknown",), ())

DECLARED: dict[str, Scheme] = {
    family.name: _declared(family, family.network)
    for family in FAMILIES.values()
    if isinstance(family.network, BlockTransformer)
}

# those whose lengths other tools use, and SD3's, which is this project's own; no two are of one length
SCHEMES = (SDXL_12, SD1_17, SDXL_20, SD1_26, SD3_42, FLUX_61)
ALL_SCHEMES: tuple[Scheme, ...] = (*SCHEMES, *DECLARED.values())


def scheme_of_length(length: int, family: str | None = None, what: str = "a block vector") -> Scheme:
    """The scheme whose vectors have ``length`` numbers.

    Raises:
        BlockError: if none has, or it is not of ``family``; the message lists the lengths and what each is.
    """
    fitting = [scheme for scheme in SCHEMES if family is None or family in scheme.families]
    if family in DECLARED:
        fitting = [DECLARED[family]]
    for scheme in fitting:
        if len(scheme) == length:
            return scheme
    if family is not None and family in UNKNOWN.families:
        raise BlockError(
            f"{what} has {length} numbers, and the blocks of a model that no table knows have no agreed order; name "
            "them, as in ALL=1,layers.00-layers.09=0.5"
        )
    lengths = ", ".join(f"{len(scheme)} ({scheme.title.partition(' (')[0]})" for scheme in SCHEMES)
    if family in DECLARED:
        scheme = DECLARED[family]
        raise BlockError(
            f"{what} has {length} numbers, and {scheme.title} takes {len(scheme)}, for {scheme.listing}; or name them, "
            f"as in ALL=1,{scheme.names[-1]}=0.5"
        )
    own = " or ".join(str(len(scheme)) for scheme in fitting) or "none of them"
    here = f"; this model, {family}, takes {own}" if family else ""
    raise BlockError(f"{what} has {length} numbers; accepted lengths are {lengths}{here}")


def sorted_blocks(scheme: Scheme, blocks: Iterable[str]) -> tuple[str, ...]:
    """Block names in the scheme's order; those of an unknown model, which it does not list, by name and number."""
    names = set(blocks)
    listed = [name for name in scheme.names if name in names]
    return (*listed, *sorted(names - set(listed), key=_number_order))


def scheme_of_file(family: str, modules: Iterable[str]) -> Scheme:
    """The family's full scheme; of a model that no table knows, the blocks that a file of it has."""
    full = full_scheme(family)
    return full if full.names else numbered_scheme(modules)


def numbered_scheme(modules: Iterable[str]) -> NumberedScheme:
    """The blocks that a file of an unknown model has, by its modules' names: text encoder first, then by number."""
    present = {block for module in modules if (block := UNKNOWN.block_of(module)) is not None}
    blocks = tuple(Block(name, ()) for name in sorted_blocks(UNKNOWN, present))
    return NumberedScheme(UNKNOWN.name, UNKNOWN.title, UNKNOWN.families, blocks)


@lru_cache(maxsize=16)
def full_scheme(family: str) -> Scheme:
    """The scheme that names every block of ``family``: 26 for SD1 and SD2, 20 for SDXL, 42 for SD3, 61 for Flux.

    An ``unknown`` family's is a :class:`NumberedScheme`.

    Raises:
        BlockError: if the family has no blocks.
    """
    fitting = [scheme for scheme in (*SCHEMES, *DECLARED.values(), UNKNOWN) if family in scheme.families]
    if not fitting:
        raise BlockError(f"no block scheme is known for '{family}'{did_you_mean(family, FAMILIES)}")
    return max(fitting, key=len)


def shortest_scheme(family: str, modules: Sequence[str]) -> Scheme:
    """The shortest scheme of ``family`` with a block for every one of ``modules`` that :func:`full_scheme` has one for.

    Args:
        modules: canonical names.
    Raises:
        BlockError: if the family has no blocks.
    """
    full = full_scheme(family)
    placed = [name for name in modules if full.block_of(name) is not None]
    fitting = [scheme for scheme in SCHEMES if family in scheme.families]
    fitting = [scheme for scheme in fitting if all(scheme.block_of(name) is not None for name in placed)]
    return min(fitting, key=len, default=full)
