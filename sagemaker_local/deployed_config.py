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
        `id`, `config` (the whole document) and `variants`: a DescribeEndpoint summary each, with
        `_model` (what its containers need) beside it.

    Raises:
        AwsError: The configuration or a model of it does not exist.
    """
    config = stored(context, names.ENDPOINT_CONFIG, config_name)
    variants = [_variant(context, variant) for variant in config["ProductionVariants"]]
    return {"id": secrets.token_hex(8), "config": config, "variants": variants}


def _variant(context: Context, variant: Document) -> Document:
    model = stored(context, names.MODEL, variant["ModelName"])
    container = model.get("PrimaryContainer") or model["Containers"][0]
    weight = float(variant.get("InitialVariantWeight", 1.0))
    image = container["Image"]
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
        "_model": {
            "name": variant["ModelName"],
            "url": model_data_url(container),
            "image": image,
            "environment": container.get("Environment", {}),
            "isolated": model["EnableNetworkIsolation"],
            "start_seconds": variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        },
    }
    if "ServerlessConfig" in variant:
        summary["CurrentServerlessConfig"] = variant["ServerlessConfig"]
        summary["DesiredServerlessConfig"] = variant["ServerlessConfig"]
    else:
        summary["CurrentInstanceCount"] = variant["InitialInstanceCount"]
        summary["DesiredInstanceCount"] = variant["InitialInstanceCount"]
    return summary


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
