"""How names, tags and images are spelled: alike for the same input, and as SageMaker takes them."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .errors import SpecError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import TagTypeDef

MAX_NAME = 63
# Room for the suffix of an attempt: -2 to -999.
MAX_JOB_BASE = MAX_NAME - 4
MAX_TAGS = 50
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
DIGEST_LENGTH = 10

# Tags by which what was made is recognised again.
ENDPOINT_TAG = "dagster:endpoint"
VERSION_TAG = "dagster:version"
# Tags of an endpoint config: when it last passed its deploy, and when it was rolled back.
VERIFIED_TAG = "dagster:verified-at"
ROLLED_BACK_TAG = "dagster:rolled-back-at"

# The registries of the first-party algorithms, as in image_uri_config/kmeans.json of the PyPI
# package sagemaker 2.257. The algorithms below share them.
REGISTRY_ACCOUNTS = {
    "af-south-1": "455444449433",
    "ap-east-1": "286214385809",
    "ap-northeast-1": "351501993468",
    "ap-northeast-2": "835164637446",
    "ap-northeast-3": "867004704886",
    "ap-south-1": "991648021394",
    "ap-south-2": "628508329040",
    "ap-southeast-1": "475088953585",
    "ap-southeast-2": "712309505854",
    "ap-southeast-3": "951798379941",
    "ap-southeast-4": "106583098589",
    "ca-central-1": "469771592824",
    "ca-west-1": "190319476487",
    "cn-north-1": "390948362332",
    "cn-northwest-1": "387376663083",
    "eu-central-1": "664544806723",
    "eu-central-2": "680994064768",
    "eu-north-1": "669576153137",
    "eu-south-1": "257386234256",
    "eu-south-2": "104374241257",
    "eu-west-1": "438346466558",
    "eu-west-2": "644912444149",
    "eu-west-3": "749696950732",
    "il-central-1": "898809789911",
    "me-central-1": "272398656194",
    "me-south-1": "249704162688",
    "sa-east-1": "855470959533",
    "us-east-1": "382416733822",
    "us-east-2": "404615174143",
    "us-gov-east-1": "237065988967",
    "us-gov-west-1": "226302683700",
    "us-west-1": "632365934929",
    "us-west-2": "174872318107",
}
BUILTIN_ALGORITHMS = frozenset(
    {
        "factorization-machines",
        "ipinsights",
        "kmeans",
        "knn",
        "linear-learner",
        "ntm",
        "object2vec",
        "pca",
        "randomcutforest",
    }
)


def deterministic_name(*parts: str, digest_of: object = None, longest: int = MAX_JOB_BASE) -> str:
    """A name for SageMaker out of parts: the same parts, the same name.

    Args:
        parts: Readable parts, such as a project and a date. Other characters than letters, digits
            and hyphens become hyphens.
        digest_of: Anything that JSON can hold; its digest ends the name. Put there what makes
            two pieces of work different: configuration, checksums of the inputs.
        longest: Longest name. A longer one is cut, and then ends in a digest of all of it.

    Raises:
        SpecError: Nothing readable is in the parts.
    """
    readable = re.sub(r"[^a-zA-Z0-9]+", "-", "-".join(parts)).strip("-")
    if not readable:
        raise SpecError(f"A name needs at least one letter or digit, and {parts!r} has none.")
    ending = "" if digest_of is None else digest(digest_of)
    name = f"{readable}-{ending}" if ending else readable
    if len(name) <= longest:
        return name
    ending = digest(["-".join(parts), ending])
    return f"{readable[: longest - len(ending) - 1].rstrip('-')}-{ending}"


def attempt_name(base: str, attempt: int) -> str:
    """The name of the n-th attempt at a job: `base`, `base-2`, `base-3`, ..."""
    return base if attempt == 1 else f"{base}-{attempt}"


def digest(value: object) -> str:
    """A short digest of anything that JSON can hold, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def to_tags(*groups: Mapping[str, str]) -> "list[TagTypeDef]":
    """Tags as SageMaker takes them; later groups win.

    Characters that AWS refuses become `_`, values longer than 256 and keys longer than 128
    characters are cut: a run must not fail because of a tag.

    Raises:
        SpecError: More than 50 tags, or a key that AWS keeps to itself.
    """
    merged: dict[str, str] = {}
    for group in groups:
        merged.update(group)
    reserved = [key for key in merged if key.lower().startswith("aws:")]
    if reserved:
        raise SpecError(f"Tags that begin with 'aws:' are AWS's own; rename {', '.join(reserved)}.")
    if len(merged) > MAX_TAGS:
        raise SpecError(f"{len(merged)} tags are more than the {MAX_TAGS} that AWS takes.")
    return [
        {"Key": _taggable(key)[:128], "Value": _taggable(value)[:256]}
        for key, value in merged.items()
    ]


def builtin_image_uri(algorithm: str, region: str) -> str:
    """The image of a built-in algorithm, for training and for serving.

    Args:
        algorithm: One of `BUILTIN_ALGORITHMS`, such as `kmeans`.
        region: Such as `eu-west-1`. SageMaker pulls images from its own region only.

    Raises:
        SpecError: The algorithm or the region is not known here.
    """
    if algorithm not in BUILTIN_ALGORITHMS:
        known = ", ".join(sorted(BUILTIN_ALGORITHMS))
        raise SpecError(f"No built-in image is known for {algorithm!r}. Known are: {known}.")
    if region not in REGISTRY_ACCOUNTS:
        raise SpecError(
            f"The registry of built-in algorithms in {region!r} is not known. "
            "Name the image itself in the spec."
        )
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{REGISTRY_ACCOUNTS[region]}.dkr.ecr.{region}.{domain}/{algorithm}:1"


def is_builtin(image: str) -> bool:
    """Whether an image is one of `BUILTIN_ALGORITHMS`, of any region."""
    registry, _, name = image.partition("/")
    return registry[:12] in REGISTRY_ACCOUNTS.values() and name.split(":")[0] in BUILTIN_ALGORITHMS


def _taggable(text: str) -> str:
    return re.sub(r"[^\w .:/=+\-@]", "_", text)
