"""The scopes by which an App reads (https://api.akeneo.com/apps/authentication-and-authorization.html).

A connection's rights have the same names here, as the PIM's own screens have many more of them.
"""

import re
from collections.abc import Iterable

READS = frozenset(
    {
        "read_products",
        "read_catalog_structure",
        "read_attribute_options",
        "read_categories",
        "read_channel_localization",
        "read_channel_settings",
        "read_association_types",
        "read_asset_families",
        "read_assets",
        "read_reference_entities",
        "read_reference_entity_records",
    }
)
_ENTERPRISE = frozenset(scope for scope in READS if "asset" in scope or "reference_entit" in scope)
COMMUNITY_READS = READS - _ENTERPRISE


def readable(requested: Iterable[str]) -> frozenset[str]:
    """Returns the reads that scopes include: whoever may write may also read."""
    return READS & {re.sub("^write_", "read_", scope) for scope in requested}
