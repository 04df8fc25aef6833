"""What exists: all assets and their checks. From the top, each layer imports those below it only:

- `definitions.py`: where assets, jobs and resources meet; `settings.py`: the environment.
- `pipelines.py`, `components/`: assets that are YAML.
- `mnist/`, `airbnb/`: the two domains, one file a noun; they do not know each other.
- `models/`, `tables/`, `module_runs.py`, `object_copies.py`, `repairs.py`: what assets of a kind
  have in common, in whichever domain.
- `chain.py`, `reports.py`, `pictures.py`, `checks.py`, `retries.py`: how dates are made, reported,
  drawn, judged and tried again.
- `alert_settings.py`, `errors.py`, `lineage.py`, `partitions.py`: what all of them may use.

How the outside is reached stands in `resources`, when things happen in `jobs`, how bytes look in
`formats`. pyproject.toml has the layers as a contract.
"""

import warnings

import dagster as dg

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
