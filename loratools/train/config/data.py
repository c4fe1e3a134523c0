"""Settings of images and captions: of one folder, of one data set, and the run's own that both fall back to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from loratools.dataset.encodings import codec_of
from loratools.errors import OptionError

CACHE_SETTINGS = frozenset({"cache_dir"})  # where things lie, which changes no byte of the result

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Interpolation = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
Warmup = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Split = Annotated[float, Field(ge=0, lt=1)]


def _pair(value: Any) -> Any:
    if isinstance(value, str):
        value = value.lower().replace(",", "x").split("x")
        value = value[0] if len(value) == 1 else value
    return (value, value) if isinstance(value, (int, float, str)) else value


def _multiple(value: tuple[int, int]) -> tuple[int, int]:
    if any(side < 64 or side % 8 for side in value):
        raise ValueError(f"{value[0]}x{value[1]}: both sides must be multiples of 8, and at least 64 pixels")
    return value


def _folders(value: Any) -> Any:
    items = value if isinstance(value, (list, tuple)) else [value]
    return [{"folder": item} if isinstance(item, (str, Path)) else item for item in items]


def _dotted(value: str | None) -> str | None:
    return value if not value or value.startswith(".") else f".{value}"


def _encoding(value: str) -> str:
    try:
        codec_of(value)
    except OptionError as error:
        raise ValueError(str(error)) from error
    return value


Extension = Annotated[str | None, AfterValidator(_dotted)]
Encoding = Annotated[str, AfterValidator(_encoding)]
Resolution = Annotated[tuple[int, int], AfterValidator(_multiple), BeforeValidator(_pair)]  # width, height in pixels


class Subset(BaseModel):
    """One folder of images; what is left at None is taken from the run's own setting.

    Without ``folder`` the images are those that ``metadata_file`` names by their paths, and it stands for the folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    folder: Path = Field(description="the folder, or in a recipe a `draw` step")
    repeats: Count | None = Field(
        default=None,
        description="times an epoch shows each picture; the number before the folder's name, or the run's, if left out",
    )
    class_tokens: str | None = Field(default=None, description="stands in for the caption of a picture that has none")
    metadata_file: Path | None = Field(
        default=None, description="captions by picture: JSON `{name: {caption, tags}}`, or JSON lines"
    )
    caption_extension: Extension = None
    caption_encoding: Encoding | None = None
    shuffle_tags: bool | None = None
    keep_tokens: Natural | None = None
    keep_tokens_separator: str | None = None
    caption_separator: Annotated[str, Field(min_length=1)] | None = None
    secondary_separator: str | None = None
    wildcards: bool | None = None
    caption_dropout: Fraction | None = None
    caption_dropout_every: Natural | None = None
    tag_dropout: Fraction | None = None
    token_warmup_min: Natural | None = None
    token_warmup: Warmup | None = None
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    regularisation: bool = Field(
        default=False, description="pictures of the class: shown as often as all others, at `prior_loss_weight`"
    )
    flip: bool | None = None
    random_crop: bool | None = None
    color_aug: bool | None = None
    resize_interpolation: Interpolation | None = None
    alpha_mask: bool | None = None
    mask_folder: Path | None = Field(
        default=None, description="a picture of the same name for each: where it is black nothing is learnt"
    )
    validation_split: Split | None = None
    held_out: bool = Field(default=False, description="pictures to judge by, never trained on")
    plain_name: bool = Field(default=False, description="the folder's name means nothing, not even a number in front")

    @model_validator(mode="before")
    @classmethod
    def _by_list(cls, value: Any) -> Any:
        listed = value.get("metadata_file") if isinstance(value, dict) and "folder" not in value else None
        return {**value, "folder": listed} if listed else value

    @property
    def lists_images(self) -> bool:
        """Whether the images are those of the metadata file, wherever they lie."""
        return self.folder == self.metadata_file


FILES_OF_FOLDER = ("metadata_file", "mask_folder")  # what a folder's settings name beside the folder itself
Folders = Annotated[tuple[Subset, ...], BeforeValidator(_folders)]
# settings of a single folder; all others of a Subset may also be given for its data set
ONLY_FOLDER = frozenset(
    {
        "folder",
        "class_tokens",
        "metadata_file",
        "regularisation",
        "mask_folder",
        "held_out",
        "plain_name",
    }
)


class DataSet(BaseModel):
    """Folders with one batch size, resolution and buckets; what is left at None is taken from the run's own setting.

    Settings of captions and pictures may be given here too, for those of its folders that do not have them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    images: Folders = Field(min_length=1)
    batch_size: Count | None = None
    resolution: Resolution | None = None
    buckets: bool | None = None
    bucket_min: Count | None = None
    bucket_max: Count | None = None
    bucket_steps: Count | None = None
    bucket_no_upscale: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _handed_down(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "images" not in value:
            return value
        inherited = {key: value[key] for key in value if key in Subset.model_fields and key not in ONLY_FOLDER}
        images = [{**inherited, **image} if isinstance(image, dict) else image for image in _folders(value["images"])]
        return {**{key: value[key] for key in value if key not in inherited}, "images": images}


class Prior(BaseModel):
    """Pictures of the class that the base draws itself before the first step, as DreamBooth's prior has them."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    count: Count = Field(default=100, description="pictures to draw")
    prompts: Annotated[str, Field(min_length=1)] = Field(
        default="captions", description="`captions`: those of the run's own pictures without the trigger; or one text"
    )
    trigger: str | None = Field(
        default=None,
        description="tags to take out of the captions; those that all captions begin with if left out, '' for none",
    )
    negative: str = Field(default="", description="the negative prompt")
    steps: Count | None = Field(default=None, description="sampler steps; the base's own if left out")
    cfg: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="guidance scale; the base's own if left out"
    )


OF_DATA_SETS = tuple(name for name in DataSet.model_fields if name != "images")


class DataConfig(BaseModel):
    """The run's own settings of captions, pictures and caches."""

    repeats: Count = Field(
        default=1, description="times an epoch shows each picture, where its folder's name does not say (`10_ink`)"
    )
    caption_extension: Extension = Field(default=None, description="of caption files; .txt, then .caption, if left out")
    caption_encoding: Encoding = Field(
        default="auto",
        description="of captions that are not Unicode, such as gbk or cp1251; auto finds it if it is sure",
    )
    allow_uncaptioned: bool = Field(default=False, description="also train pictures that have no caption")
    shuffle_tags: bool = Field(default=True, description="each use of a picture gets its tags in another order")
    keep_tokens: Natural = Field(default=0, description="so many tags stay in front")
    keep_tokens_separator: str = Field(
        default="", description="all tags before this text stay in front, and those after a second one at the end"
    )
    caption_separator: Annotated[str, Field(min_length=1)] = Field(
        default=",", description="what parts tags in a caption"
    )
    secondary_separator: str = Field(
        default="", description="within a tag, parts what stays together when tags are shuffled or left out"
    )
    wildcards: bool = Field(default=False, description="one line of a caption file of several, and one of each `{a|b}`")
    caption_dropout: Fraction = Field(default=0.0, description="chance that a picture is shown without its caption")
    caption_dropout_every: Natural = Field(
        default=0, description="every so many epochs all captions are left out; 0: never"
    )
    tag_dropout: Fraction = Field(default=0.0, description="chance of leaving out each tag that is not kept in front")
    token_warmup_min: Natural = Field(
        default=1, description="tags of a caption at the start, where `token_warmup` is set"
    )
    token_warmup: Warmup = Field(
        default=0.0, description="batches, or a fraction of the run, in which captions grow to all of their tags"
    )
    caption_prefix: str = Field(default="", description="text in front of every caption")
    caption_suffix: str = Field(default="", description="text after every caption")
    prior_loss_weight: Warmup = Field(default=1.0, description="of the loss of regularisation images")
    prior: Prior | None = Field(
        default=None,
        description="pictures that the base draws itself for regularisation: `{count: 100, prompts: captions}`",
    )
    flip: bool = Field(default=False, description="mirror pictures at random")
    random_crop: bool = Field(default=False, description="cut large pictures at a random place, not in the middle")
    color_aug: bool = Field(default=False, description="shift hue and contrast at random")
    resize_interpolation: Interpolation | None = Field(
        default=None, description="how pictures are resized; Lanczos to shrink and bicubic to grow, if left out"
    )
    alpha_mask: bool = Field(default=False, description="a picture's alpha channel weighs the loss")
    validation_split: Split = Field(
        default=0.0, description="share of each folder's pictures that is held out, to judge by"
    )
    validation_seed: int | None = Field(default=None, description="which ones; the run's seed if left out")
    cache_latents: bool | Literal["disk"] = Field(
        default=True,
        description="true: in memory; disk: in `cache_dir` as well, for the next run; false: encoded at every use",
    )
    cache_dir: Path | None = Field(
        default=None, description="where latents are kept; `latents` in the run's folder if left out"
    )

    @field_validator("cache_latents", mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        words = {"true": True, "yes": True, "memory": True, "false": False, "no": False}
        return words.get(value.lower(), value) if isinstance(value, str) else value
