"""The kinds of entities that the simulated PIM has, and how its REST API lists each.

The facts are those of https://api.akeneo.com/api-reference-index.html and of the PIM's code.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class Edition(StrEnum):
    """The editions of Akeneo's PIM, by what their APIs show."""

    COMMUNITY = "ce"
    ENTERPRISE = "ee"
    SAAS = "saas"


class Dates(Enum):
    """The dates that an item of a kind has."""

    NONE = auto()
    UPDATED = auto()
    BOTH = auto()
    BOTH_ON_SAAS = auto()

    def shown(self, edition: Edition) -> tuple[str, ...]:
        """Returns the names of the dates in an item."""
        if self is Dates.BOTH or (self is Dates.BOTH_ON_SAAS and edition is Edition.SAAS):
            return ("created", "updated")
        return ("updated",) if self is Dates.UPDATED else ()


class Paging(Enum):
    """The ways in which a list can be read. Only `EITHER` has to be told which."""

    PAGES = auto()
    EITHER = auto()
    CURSOR = auto()  # no limit may be given, each page has 100


class Clock(Enum):
    """The form of a date in a filter."""

    SERVER = auto()  # `YYYY-MM-DD hh:mm:ss`, in the time zone of the PIM's server
    ISO_8601 = auto()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entity. `parent` is the kind that its list belongs to."""

    name: str
    """The name in an event type, such as `product-model`."""
    plural: str
    scope: str
    key: str = "code"
    parent: "Kind | None" = None
    dates: Dates = Dates.NONE
    paging: Paging = Paging.PAGES
    clock: Clock = Clock.ISO_8601
    is_enterprise: bool = False

    @property
    def noun(self) -> str:
        """The name of the entity in an event's data."""
        return self.name.replace("-", "_")

    @property
    def words(self) -> str:
        """The name in a message, such as `Product model`."""
        return self.name.replace("-", " ").capitalize()


PRODUCT = Kind("product", "products", "read_products", "uuid", None, Dates.BOTH, Paging.EITHER, Clock.SERVER)
PRODUCT_MODEL = Kind(
    "product-model",
    "product models",
    "read_products",
    dates=Dates.BOTH,
    paging=Paging.EITHER,
    clock=Clock.SERVER,
)
FAMILY = Kind("family", "families", "read_catalog_structure")
FAMILY_VARIANT = Kind("family-variant", "family variants", "read_catalog_structure", parent=FAMILY)
ATTRIBUTE = Kind("attribute", "attributes", "read_catalog_structure")
ATTRIBUTE_OPTION = Kind("attribute-option", "attribute options", "read_attribute_options", parent=ATTRIBUTE)
ATTRIBUTE_GROUP = Kind("attribute-group", "attribute groups", "read_catalog_structure")
CATEGORY = Kind("category", "categories", "read_categories", dates=Dates.UPDATED)
CHANNEL = Kind("channel", "channels", "read_channel_settings")
LOCALE = Kind("locale", "locales", "read_channel_localization")
CURRENCY = Kind("currency", "currencies", "read_channel_localization")
ASSOCIATION_TYPE = Kind("association-type", "association types", "read_association_types")
ASSET_FAMILY = Kind(
    "asset-family", "asset families", "read_asset_families", paging=Paging.CURSOR, is_enterprise=True
)
ASSET = Kind(
    "asset",
    "assets",
    "read_assets",
    parent=ASSET_FAMILY,
    dates=Dates.BOTH,
    paging=Paging.CURSOR,
    is_enterprise=True,
)
REFERENCE_ENTITY = Kind(
    "reference-entity",
    "reference entities",
    "read_reference_entities",
    paging=Paging.CURSOR,
    is_enterprise=True,
)
RECORD = Kind(
    "reference-entity-record",
    "reference entity records",
    "read_reference_entity_records",
    parent=REFERENCE_ENTITY,
    dates=Dates.BOTH_ON_SAAS,
    paging=Paging.CURSOR,
    is_enterprise=True,
)

KINDS = (
    PRODUCT,
    PRODUCT_MODEL,
    FAMILY,
    FAMILY_VARIANT,
    ATTRIBUTE,
    ATTRIBUTE_OPTION,
    ATTRIBUTE_GROUP,
    CATEGORY,
    CHANNEL,
    LOCALE,
    CURRENCY,
    ASSOCIATION_TYPE,
    ASSET_FAMILY,
    ASSET,
    REFERENCE_ENTITY,
    RECORD,
)
BY_NAME = {kind.name: kind for kind in KINDS}
