"""What asks the endpoint, deployed apart from the platform: the HTTP API and its page.

They stand at the end of the lineage, so that whoever looks at an asset sees who depends on it.
Their code is in `api/`.
"""

import dagster as dg

from platform_assets.lineage import code_reference, place
from platform_assets.mnist.endpoint import mnist_endpoint


def describe_online(api_url: str) -> list[dg.AssetSpec]:
    """The API and the page as external assets.

    Args:
        api_url: Where both answer; empty where nobody has said so, and they have no link then.
    """
    base = api_url.rstrip("/")
    api = dg.AssetSpec(
        ["mnist", "api"],
        deps=[mnist_endpoint],
        group_name="mnist",
        kinds={"lambda", "openapi"},
        owners=["team:machine-learning"],
        tags=place("digits", "served"),
        description=(
            "The HTTP API: takes a picture of handwriting, asks the endpoint and answers with the "
            "digits in it. Its code is in the folder `api`."
        ),
        metadata={
            **code_reference(describe_online),
            **_link("url", base),
            **_link("openapi", base and f"{base}/openapi.json"),
        },
    )
    page = dg.AssetSpec(
        ["mnist", "page"],
        deps=[api],
        group_name="mnist",
        kinds={"html"},
        owners=["team:machine-learning"],
        tags=place("digits", "served"),
        description="The page on which people draw a digit, or drop a picture, and see the answer.",
        metadata={**code_reference(describe_online), **_link("url", base and f"{base}/")},
    )
    return [api, page]


def _link(label: str, url: str) -> dict[str, dg.MetadataValue]:
    return {label: dg.MetadataValue.url(url)} if url else {}
