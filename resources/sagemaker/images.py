"""Where the images of SageMaker's built-in algorithms are, region by region."""

from resources.sagemaker.errors import SpecError

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
