"""Reads and checks `params.yaml`: the arguments of all stages."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from gan_core.config import (
    FEWEST_SCORED,
    LARGEST_MANIFOLD,
    LARGEST_SIZE,
    SMALLEST_SIZE,
    AugmentationConfig,
    ComputeConfig,
    DoctorConfig,
    ExecutionConfig,
    ExtractorConfig,
    NetworkConfig,
    TrainConfig,
    check_size,
)
from mlops.project.errors import UserError
from mlops.project.yaml_file import read_yaml

PARAMS = Path("params.yaml")
REPLACED = {
    "train.learning_rate_decay": "write the decay as generator_learning_rate and discriminator_learning_rate, as in "
    "presets/digits.yaml",
    "register.max_fid_ratio_to_real": "replace it by register.max_fid_to_trivial (see presets/digits.yaml), which is "
    "another measure: where FID may lie between real images, 0, and a trivial generator, 1",
}
"""Keys of before, with what takes their place."""
MOST_SEEDS = 10_000
Sections = TypeVar("Sections")


@dataclass(frozen=True)
class DataConfig:
    """Which images: the section of `fetch`."""

    name: Literal["digits", "mnist", "fashion_mnist", "cifar10", "folder"]
    path: str | None


@dataclass(frozen=True)
class PrepareConfig:
    """How images become arrays."""

    image_size: Annotated[int, Field(ge=SMALLEST_SIZE, le=LARGEST_SIZE)]
    channels: Literal[1, 3]
    fit: Literal["crop", "pad", "stretch"]
    test_share: Annotated[float, Field(gt=0, lt=1)]
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    max_refused_share: Annotated[float, Field(ge=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class ReplicateConfig:
    """How often the training is repeated under other seeds."""

    seeds: Annotated[int, Field(ge=0, le=MOST_SEEDS)]


@dataclass(frozen=True)
class ChooseConfig:
    """Which snapshot of a training becomes the generator, and of how many images the snapshots are scored."""

    checkpoint: Literal["last", "best"]
    images: Annotated[int, Field(ge=FEWEST_SCORED, le=LARGEST_MANIFOLD)]


@dataclass(frozen=True)
class EvaluateConfig:
    """How quality is measured."""

    seed: Annotated[int, Field(ge=0)]
    banks: Annotated[int, Field(ge=2, le=LARGEST_MANIFOLD)]
    max_images: Annotated[int, Field(ge=FEWEST_SCORED, le=LARGEST_MANIFOLD)]
    isc_splits: Annotated[int, Field(ge=1, le=LARGEST_MANIFOLD)]
    kid_subsets: Annotated[int, Field(ge=1, le=LARGEST_MANIFOLD)]
    kid_subset_size: Annotated[int, Field(ge=2, le=LARGEST_MANIFOLD)]
    few_images: Literal["mark", "refuse"]
    parzen: bool
    utility_seeds: Annotated[int, Field(ge=0, le=MOST_SEEDS)]


@dataclass(frozen=True)
class RegisterConfig:
    """What a model must reach to be called `champion`: absolute bounds, and a test against the one that is."""

    model_name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    max_fid_to_trivial: Annotated[float, Field(gt=0)]
    max_fid_ratio_to_noise: Annotated[float, Field(gt=0)]
    max_excess_near_copies: Annotated[float, Field(ge=0, le=1)]
    metric: Literal["fid", "kid"]
    noise: Literal["sampling", "seeds"]
    false_promotion_rate: Annotated[float, Field(gt=0, lt=0.5)]


@validated(config=ConfigDict(extra="forbid", strict=True), frozen=True)
class Params:
    """All of `params.yaml`; each attribute is a section, in the order of the file."""

    compute: ComputeConfig
    execution: ExecutionConfig
    data: DataConfig
    prepare: PrepareConfig
    extractor: ExtractorConfig
    network: Annotated[NetworkConfig, Field(discriminator="family")]
    augmentation: Annotated[AugmentationConfig, Field(discriminator="kind")]
    train: TrainConfig
    replicate: ReplicateConfig
    choose: ChooseConfig
    doctor: DoctorConfig
    evaluate: EvaluateConfig
    register: RegisterConfig


def load(path: Path = PARAMS) -> Params:
    """Return the validated content of a file with exactly the sections of `Params`, whose values go together."""
    params = load_as(Params, path)
    check_together(path, params)
    return params


def load_as(kind: type[Sections], path: Path) -> Sections:
    """Return the validated content of a YAML file, whose sections are the attributes of the dataclass `kind`.

    It is a UserError if `read_yaml` refuses the file, or a key is unknown, missing, of the wrong type or out of range;
    complaints of keys come together, each with file and key.
    """
    content = read_yaml(path)
    try:
        return TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise UserError(
            "\n".join(_complaint(path, details, json.loads(content)) for details in error.errors() if _is_of(details))
        ) from None


def _is_of(details: Any) -> bool:
    """Return whether an error is of the kind that a value is: pydantic complains that a number is no schedule, too."""
    kind, is_mapping = details["loc"][-1:], isinstance(details["input"], dict)
    return not (kind == ("Schedule",) and not is_mapping) and not (kind == ("float",) and is_mapping)


def _complaint(path: Path, details: Any, content: Any) -> str:
    key = ".".join(_keys(details["loc"], content)) or "the file"
    match details["type"]:
        case "union_tag_not_found":
            return f"{path}: missing key {key}.{_tag(details)}; add it (see `git diff {path}`)"
        case "union_tag_invalid":
            context = details["ctx"]
            expected, got = context["expected_tags"], context["tag"]
            return f"{path}: {key}.{_tag(details)} must be one of {expected}, got '{got}'; correct it"
        case "unexpected_keyword_argument":
            remedy = REPLACED.get(key, "remove it or correct its spelling")
            return f"{path}: unknown key {key}; {remedy}"
        case "missing":
            return f"{path}: missing key {key}; add it (see `git diff {path}`)"
        case _:
            message = details["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(details["input"], dict) else f", got {details['input']!r}"
            return f"{path}: {key}: {message}{shown}"


def _tag(details: Any) -> str:
    """Return the key that tells the members of a section's union apart: family or kind."""
    return str(details["ctx"]["discriminator"]).strip("'")


def _keys(location: tuple[str | int, ...], content: Any) -> Iterator[str]:
    """Yield the keys of a place in the file.

    Pydantic adds the name of a union's member behind its section, and whether it tried a schedule.
    """
    for part in location:
        member = isinstance(content, dict) and part in (content.get("family"), content.get("kind"))
        if member or part in ("float", "Schedule"):
            continue
        content = content.get(part) if isinstance(content, dict) else None
        yield str(part)


def check_together(path: Path, params: Params) -> None:
    """Refuse values that do not go together with a UserError that names the file and the keys."""
    if params.data.name == "folder" and params.data.path is None:
        raise UserError(f"{path}: data.path must name a folder, zip or tar of images if data.name is folder")
    if params.data.name == "digits" and params.data.path is not None:
        raise UserError(f"{path}: data.path must be null if data.name is digits, which come with scikit-learn")
    if params.train.class_balance == "uniform" and not params.network.conditional:
        raise UserError(
            f"{path}: train.class_balance is uniform, but network.conditional is false, so no class is read; set "
            "network.conditional to true, or train.class_balance to data"
        )
    if params.evaluate.utility_seeds == 1:
        raise UserError(
            f"{path}: evaluate.utility_seeds is 1, of which there is no interval; set it to 0, or to 2 or more"
        )
    if params.evaluate.utility_seeds and not params.network.conditional:
        raise UserError(
            f"{path}: evaluate.utility_seeds is {params.evaluate.utility_seeds}, but network.conditional is false, and "
            "a classifier learns from images of known classes alone; set network.conditional to true, or "
            "evaluate.utility_seeds to 0"
        )
    try:
        check_size(params.network, params.prepare.image_size)
    except ValueError:
        raise UserError(
            f"{path}: network.family is {params.network.family}, which makes images of 8, 16, 32, 64, 128 or 256 "
            f"pixels, but prepare.image_size is {params.prepare.image_size}; set it to one of these, "
            "or network.family to dcgan"
        ) from None
    parts = params.execution.processes * params.execution.micro_batches
    if params.train.batch_size % parts:
        raise UserError(
            f"{path}: train.batch_size is {params.train.batch_size}, which execution.processes times "
            f"execution.micro_batches, {parts}, does not divide; change one of them"
        )
    if params.compute.device == "cuda":
        import torch  # only here: torch takes two seconds to import, and most stages need none of it

        if not torch.cuda.is_available():
            raise UserError(f"{path}: compute.device is cuda, but torch finds no GPU here; set it to auto or cpu")
