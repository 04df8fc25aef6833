"""What exists: one folder a domain, one file a noun, in the order in which data flows.

How the outside is reached stands in `resources`, when things happen in `jobs`, how bytes look
in `formats`. `definitions.py` is the one place where they meet.
"""

import gc
import warnings

import dagster as dg

# Dagster's modules stay until the process ends: frozen, they are not gone through again at each
# full collection of garbage, of which there are several before a run's first row.
gc.freeze()

# Features of Dagster that the platform uses although they may still change: pyproject.toml pins the
# minor version. Every command would print a warning for each use; other warnings stay.
for _category, _feature in (
    (dg.BetaWarning, r"Function `multi_observable_source_asset`"),
    (dg.BetaWarning, r"Parameter `backfill_policy` of function `(multi_)?asset`"),
    (dg.BetaWarning, r"Function `with_source_code_references`"),
    (dg.BetaWarning, r"Class `(LocalFileCodeReference|CodeReferencesMetadataValue)`"),
    (dg.PreviewWarning, r"Specifying a partitions_def on an AssetCheckSpec"),
    (dg.PreviewWarning, r"Function `load_definitions_from_(package_module|modules)`"),
):
    warnings.filterwarnings("ignore", message=_feature, category=_category)
