"""The form in which the REST API shows an entity, with values of our own."""

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from .catalogue import Entity
from .kinds import (
    ASSET,
    ASSET_FAMILY,
    ASSOCIATION_TYPE,
    ATTRIBUTE,
    ATTRIBUTE_GROUP,
    ATTRIBUTE_OPTION,
    CATEGORY,
    CHANNEL,
    CURRENCY,
    FAMILY,
    FAMILY_VARIANT,
    LOCALE,
    PRODUCT,
    PRODUCT_MODEL,
    RECORD,
    REFERENCE_ENTITY,
    Edition,
    Kind,
)

Item = dict[str, Any]


def item_of(
    entity: Entity, *, zone: tzinfo, edition: Edition, attributes: frozenset[str] | None = None
) -> Item:
    """Returns the entity as the API shows it, without links, with the values of `attributes` or with all."""
    item = {entity.kind.key: entity.key, **_SHAPES[entity.kind](entity)}
    for name in entity.kind.dates.shown(edition):
        item[name] = shown_date(getattr(entity, name), zone)
    if attributes is not None and "values" in item:
        item["values"] = {code: value for code, value in item["values"].items() if code in attributes}
    return item


def shown_date(moment: datetime, zone: tzinfo) -> str:
    """Returns a date with the offset that the zone has at that date."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


def _value(data: object, locale: str | None = None, channel: str | None = None, scope: str = "scope") -> Item:
    return {"locale": locale, scope: channel, "data": data}


def _labels(entity: Entity) -> dict[str, str]:
    """Returns labels that each change of the entity changes."""
    name = entity.key.replace("_", " ").capitalize()
    return {"en_US": f"{name}, revision {entity.revision}", "fr_FR": f"{name}, révision {entity.revision}"}


def _values(entity: Entity) -> Item:
    return {
        "name": [
            _value(f"Desk lamp {entity.number}, revision {entity.revision}", "en_US"),
            _value(f"Lampe de bureau {entity.number}, révision {entity.revision}", "fr_FR"),
        ],
        "description": [_value("A lamp for the desk, 40 W", "en_US", "ecommerce")],
        "weight": [_value({"amount": "1.2500", "unit": "KILOGRAM"})],
    }


def _product(entity: Entity) -> Item:
    identifier = [] if entity.identifier is None else [("sku", [_value(entity.identifier)])]
    return {
        "identifier": entity.identifier,
        "enabled": True,
        "family": "lamps",
        "categories": ["lighting_indoor"],
        "groups": [],
        "parent": entity.model,
        "values": dict(identifier) | _values(entity),
        "associations": {},
        "quantified_associations": {},
    }


def _product_model(entity: Entity) -> Item:
    return {
        "family": "lamps",
        "family_variant": "lamps_by_colour",
        "parent": entity.model,
        "categories": ["lighting_indoor"],
        "values": _values(entity),
        "associations": {},
        "quantified_associations": {},
    }


def _family(entity: Entity) -> Item:
    return {
        "attributes": ["description", "name", "sku", "weight"],
        "attribute_as_label": "name",
        "attribute_as_image": None,
        "attribute_requirements": {"ecommerce": ["sku", "name"], "print": ["sku"]},
        "labels": _labels(entity),
    }


def _family_variant(entity: Entity) -> Item:
    sets = [{"level": 1, "axes": ["color_finish"], "attributes": ["sku", "color_finish"]}]
    return {"variant_attribute_sets": sets, "labels": _labels(entity)}


def _attribute(entity: Entity) -> Item:
    types = {"sku": "pim_catalog_identifier", "name": "pim_catalog_text", "weight": "pim_catalog_metric"}
    return {
        "type": types.get(entity.key, "pim_catalog_simpleselect"),
        "group": "marketing_0",
        "unique": entity.key == "sku",
        "useable_as_grid_filter": True,
        "allowed_extensions": [],
        "metric_family": "Weight" if entity.key == "weight" else None,
        "default_metric_unit": "KILOGRAM" if entity.key == "weight" else None,
        "localizable": entity.key == "name",
        "scopable": False,
        "sort_order": entity.number,
        "labels": _labels(entity),
    }


def _attribute_option(entity: Entity) -> Item:
    return {"attribute": entity.path[0], "sort_order": entity.number, "labels": _labels(entity)}


def _attribute_group(entity: Entity) -> Item:
    return {"sort_order": entity.number, "attributes": ["sku", "name"], "labels": _labels(entity)}


def _category(entity: Entity) -> Item:
    return {"parent": None if entity.key == "master" else "master", "labels": _labels(entity)}


def _channel(entity: Entity) -> Item:
    return {
        "currencies": ["EUR", "USD"],
        "locales": ["en_US", "fr_FR"],
        "category_tree": "master",
        "conversion_units": {},
        "labels": _labels(entity),
    }


def _enabled(_: Entity) -> Item:
    return {"enabled": True}


def _association_type(entity: Entity) -> Item:
    return {"labels": _labels(entity), "is_quantified": entity.key == "PACK", "is_two_way": False}


def _asset_family(entity: Entity) -> Item:
    return {
        "labels": _labels(entity),
        "attribute_as_main_media": "media",
        "naming_convention": {},
        "product_link_rules": [],
        "transformations": [],
    }


def _asset(entity: Entity) -> Item:
    file = f"1/2/3/4/{entity.number:04}_{entity.key}_{entity.revision}.png"
    return {"values": {"media": [_value(file, scope="channel")], "label": _record_label(entity)}}


def _reference_entity(entity: Entity) -> Item:
    return {"labels": _labels(entity), "image": None}


def _record(entity: Entity) -> Item:
    return {"values": {"label": _record_label(entity)}}


def _record_label(entity: Entity) -> list[Item]:
    return [_value(label, locale, scope="channel") for locale, label in _labels(entity).items()]


_SHAPES: Mapping[Kind, Callable[[Entity], Item]] = {
    PRODUCT: _product,
    PRODUCT_MODEL: _product_model,
    FAMILY: _family,
    FAMILY_VARIANT: _family_variant,
    ATTRIBUTE: _attribute,
    ATTRIBUTE_OPTION: _attribute_option,
    ATTRIBUTE_GROUP: _attribute_group,
    CATEGORY: _category,
    CHANNEL: _channel,
    LOCALE: _enabled,
    CURRENCY: _enabled,
    ASSOCIATION_TYPE: _association_type,
    ASSET_FAMILY: _asset_family,
    ASSET: _asset,
    REFERENCE_ENTITY: _reference_entity,
    RECORD: _record,
}
