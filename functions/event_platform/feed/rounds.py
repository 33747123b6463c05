"""Rounds: what a feed asks for next, and what a page makes of how far it has come. Pure."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ..domain.feeds import Feed, ResourceState, Round, Shape
from .errors import ResourceError
from .pages import Item, Page
from .resources import PAGE_LIMIT, Resource
from .zones import iso_value, local_value

MAX_PAGES = 100_000
MAX_RESTARTS = 5
_LIMIT = "limit="


def begin(state: ResourceState, feed: Feed) -> Round:
    """The next round of a resource."""
    if state.stage == "learning" or state.cursor is None:
        return Round(lower=None, emits=False, limit=PAGE_LIMIT)
    if state.stage == "backfill":
        return Round(lower=state.cursor, is_backfill=True, limit=PAGE_LIMIT)
    lower = state.cursor - timedelta(seconds=feed.overlap)
    if state.begun is not None:
        lower = max(lower, state.begun)
    return Round(lower=lower, limit=PAGE_LIMIT)


def path_of(asked: Round, state: ResourceState, resource: Resource, feed: Feed, attribute: str | None) -> str:
    """Path and query of the page that a round asks for, below the API's path."""
    if asked.next is not None:
        return asked.next
    return resource.first_page(
        state.route or resource.routes[0],
        asked.parent,
        limit=asked.limit,
        updated_after=None if asked.lower is None else _filter_value(asked.lower, state, resource, feed),
        attribute=attribute,
    )


def _filter_value(lower: datetime, state: ResourceState, resource: Resource, feed: Feed) -> str:
    if not resource.takes_local_time:
        return iso_value(lower)
    zone = None if feed.timezone is None else ZoneInfo(feed.timezone)
    minutes = state.offset_minutes
    return local_value(lower, zone, None if minutes is None else timedelta(minutes=minutes))


def after_page(asked: Round, path: str, page: Page, resource: Resource) -> Round | None:
    """The round after a page of `path`; None if it was the last one. Raises ResourceError."""
    pages, of_list = asked.pages + 1, asked.of_list + 1
    if pages > MAX_PAGES:
        raise ResourceError(f"the list does not end after {MAX_PAGES} pages", "endless")
    counted = asked.items_count if asked.items_count is not None else page.items_count
    if not resource.has_cursor and page.items_count != counted:
        return _begin_list_again(asked)
    if page.next is not None and page.items:
        if page.next in (path, asked.mark):
            raise ResourceError("the pages lead in a circle", "endless")
        # An earlier page is kept at 1, 2, 4, 8 …, so that a circle of any length is noticed (Brent).
        mark = path if of_list & (of_list - 1) == 0 else asked.mark
        return asked.model_copy(
            update={
                "next": page.next,
                "pages": pages,
                "of_list": of_list,
                "mark": mark,
                "items_count": counted,
            }
        )
    return next_parent(asked.model_copy(update={"pages": pages}))


def next_parent(asked: Round) -> Round | None:
    """The round with the list of its next parent; None if there is no other."""
    if not asked.parents:
        return None
    first, *rest = asked.parents
    return asked.model_copy(
        update={"parent": first, "parents": tuple(rest), "next": None, "of_list": 0, "mark": ""}
    )


def with_smaller_pages(asked: Round, resource: Resource) -> Round:
    """The round with half as many items a page. Raises ResourceError if a page has one only."""
    if asked.limit <= 1:
        raise ResourceError("one item alone is larger than 32 MiB", "too_large")
    smaller = asked.model_copy(update={"limit": asked.limit // 2})
    if asked.next is None:
        return smaller
    if not resource.has_cursor:  # the number of a page counts for its size only
        return _begin_list_again(smaller)
    path, _, query = asked.next.partition("?")
    parts = [f"{_LIMIT}{smaller.limit}" if part.startswith(_LIMIT) else part for part in query.split("&")]
    return smaller.model_copy(update={"next": f"{path}?{'&'.join(parts)}"})


def _begin_list_again(asked: Round) -> Round:
    """The round from its first page, after the list has shifted."""
    if asked.restarts >= MAX_RESTARTS:
        raise ResourceError("the list changed each time while it was read", "shifting")
    return asked.model_copy(
        update={
            "next": None,
            "of_list": 0,
            "mark": "",
            "items_count": None,
            "restarts": asked.restarts + 1,
        }
    )


def shape_of(item: Item) -> Shape:
    """Returns which dates an item has."""
    if item.created is not None:
        return Shape.DATED
    return Shape.UNDATED if item.updated is None else Shape.UPDATED_ONLY


def with_offset(state: ResourceState, item: Item) -> ResourceState:
    """The state with the offset of the newest date that items have shown."""
    newest = item.updated or item.created
    if newest is None or (state.offset_of is not None and newest <= state.offset_of):
        return state
    offset = newest.utcoffset() or timedelta()
    return state.model_copy(update={"offset_of": newest, "offset_minutes": int(offset.total_seconds() // 60)})


def completed(state: ResourceState, asked: Round, feed: Feed) -> ResourceState:
    """The state after the last page of a round."""
    update: dict[str, object] = {"round": None}
    if state.stage == "learning":
        begun = feed.since or asked.upper
        is_dated = state.shape is Shape.DATED
        needs_backfill = feed.since is not None and not is_dated
        update |= {
            "begun": begun if is_dated or needs_backfill else asked.upper,
            "cursor": begun,
            "stage": "backfill" if needs_backfill else "changes",
        }
    else:
        update |= {"cursor": asked.upper, "stage": "changes"}
    return state.model_copy(update=update)
