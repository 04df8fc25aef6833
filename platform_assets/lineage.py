"""What every asset says of its place in the lineage: domain and tier by tags, and its code.

What an asset is, who owns it and how it is made stands with the asset itself.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal

import dagster as dg

Tier = Literal["source", "raw", "derived", "served"]


def place(domain: str, tier: Tier) -> dict[str, str]:
    """The tags by which the UI's lineage can be filtered.

    Args:
        domain: Which chain it belongs to: digits, listings, or the name of a pipeline.
        tier: `source`: somebody else fills it. `raw`: a copy of a source, as it
            was. `derived`: made of what is before it. `served`: what answers people and programs.
    """
    return {"domain": domain, "tier": tier}


def specs_of(assets: Iterable[Any]) -> list[dg.AssetSpec]:
    """The specs of all assets that some definitions make, or that are specs; each key once.

    Args:
        assets: As `dagster.Definitions` takes them, or as a repository has them.
    """
    specs: dict[dg.AssetKey, dg.AssetSpec] = {}
    for asset in assets:
        of_asset = asset.specs if isinstance(asset, dg.AssetsDefinition) else [asset]
        specs.update((spec.key, spec) for spec in of_asset)
    return list(specs.values())


def code_reference(function: Callable[..., Any]) -> dict[str, Any]:
    """Metadata that link an asset to a function, where Dagster would find none or another one."""
    function = inspect.unwrap(function)
    reference = dg.LocalFileCodeReference(
        file_path=inspect.getfile(function), line_number=inspect.getsourcelines(function)[1]
    )
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}
