"""A copy of what an endpoint serves: its configuration and models at the time of the request.

An endpoint goes on serving from this copy after its model or configuration is deleted.
"""

import secrets

from sagemaker_local import names
from sagemaker_local.aws_errors import not_found
from sagemaker_local.context import Context
from sagemaker_local.store import Document


def freeze(context: Context, config_name: str) -> Document:
    """Copies an endpoint configuration with the models of its variants.

    Returns:
        `id`, `config` (the whole document), and `variants` and `shadows`: a DescribeEndpoint
        summary each, with `_model` (what its containers need) beside it.

    Raises:
        AwsError: The configuration or a model of it does not exist.
    """
    config = stored(context, names.ENDPOINT_CONFIG, config_name)
    variants = [_variant(context, variant) for variant in config["ProductionVariants"]]
    shadows = [_variant(context, variant) for variant in config.get("ShadowProductionVariants", [])]
    return {"id": secrets.token_hex(8), "config": config, "variants": variants, "shadows": shadows}


def _variant(context: Context, variant: Document) -> Document:
    model = stored(context, names.MODEL, variant["ModelName"])
    weight = float(variant.get("InitialVariantWeight", 1.0))
    image = _container(model)["Image"]
    summary: Document = {
        "VariantName": variant["VariantName"],
        "DeployedImages": [
            {
                "SpecifiedImage": image,
                "ResolvedImage": image,
                "ResolutionTime": model["CreationTime"],
            }
        ],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "_model": serving_spec(model)
        | {"start_seconds": variant.get("ContainerStartupHealthCheckTimeoutInSeconds")},
    }
    if "ServerlessConfig" in variant:
        summary["CurrentServerlessConfig"] = variant["ServerlessConfig"]
        summary["DesiredServerlessConfig"] = variant["ServerlessConfig"]
    else:
        summary["CurrentInstanceCount"] = variant["InitialInstanceCount"]
        summary["DesiredInstanceCount"] = variant["InitialInstanceCount"]
    return summary


def serving_spec(model: Document) -> Document:
    """What the containers of a model are made of."""
    container = _container(model)
    return {
        "name": model["ModelName"],
        "url": model_data_url(container),
        "image": container["Image"],
        "environment": container.get("Environment", {}),
        "isolated": model["EnableNetworkIsolation"],
        "start_seconds": None,
    }


def _container(model: Document) -> Document:
    # A model stored by an earlier version, which knew no packages, has no `_container`.
    return model.get("_container") or model.get("PrimaryContainer") or model["Containers"][0]


def model_data_url(container: Document) -> str:
    """Where a container's artifact lies; empty if it has none."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return container.get("ModelDataUrl") or source.get("S3Uri", "")


def stored(context: Context, kind: str, name: str) -> Document:
    """A resource's document.

    Raises:
        AwsError: There is none.
    """
    document = context.store.get(kind, name)
    if document is None:
        raise not_found(kind, names.arn(context.config, kind, name))
    return document


def weights(snapshot: Document, which: str) -> dict[str, float]:
    """Variant to traffic weight, `Current` or `Desired`."""
    return {variant["VariantName"]: variant[f"{which}Weight"] for variant in snapshot["variants"]}


def instances(snapshot: Document) -> dict[str, int]:
    """Variant to number of instances; a serverless variant has one process."""
    return {
        variant["VariantName"]: variant.get("DesiredInstanceCount", 1)
        for variant in all_variants(snapshot)
    }


def all_variants(snapshot: Document) -> list[Document]:
    """Those that answer, and those that get copies of their requests."""
    return [*snapshot["variants"], *_shadows(snapshot)]


def shadow_shares(snapshot: Document) -> dict[str, float]:
    """Shadow variant to the share of the requests that it gets, from 0 to 1.

    Its weight stands beside that of the one variant that answers:
    https://docs.aws.amazon.com/sagemaker/latest/dg/shadow-tests-create.html
    """
    (answering, *_) = snapshot["variants"]
    weight = answering["CurrentWeight"] or 1.0
    return {
        shadow["VariantName"]: min(1.0, shadow["CurrentWeight"] / weight)
        for shadow in _shadows(snapshot)
    }


def _shadows(snapshot: Document) -> list[Document]:
    # A snapshot stored by an earlier version, which knew no shadow variants, has none.
    return snapshot.get("shadows", [])
