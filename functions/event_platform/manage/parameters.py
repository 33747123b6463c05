"""Names of query parameters: what a client means by them, and which ask for pages that a list has not."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..domain.errors import InvalidRequest, Problem

MAX_NAME = 64
"""Characters of a name that is looked at; a longer one is unknown."""
MAX_LISTED = 20
"""Problems, and unknown names, of one query string that are listed."""

_ALIASES = {
    "from": ("date_from", "from_date", "start_date", "start_time", "since", "created_after"),
    "to": ("date_to", "to_date", "end_date", "end_time", "until", "created_before"),
    "limit": ("page_size", "per_page", "size"),
    "order": ("sort_order", "direction"),
    "cursor": ("next_cursor",),
    "log_type": ("type",),
    "error_reason": ("reason",),
}
"""Names that other APIs give to the same thing."""
_PAGING = (
    *("page", "page_number", "page_index", "page_token", "offset", "skip", "start", "start_index"),
    *("search_after", "after", "starting_after"),
)
"""A client that pages by one of these, and gets the first page each time, never ends."""


def _bare(name: str) -> str:
    """Returns the name as it is compared: `dateFrom`, `date-from` and `date[from]` are one."""
    return "".join(filter(str.isalnum, name.lower()))


_BARE_PAGING = frozenset(map(_bare, _PAGING))


@dataclass(slots=True)
class Parameters:
    """A query string: of each known parameter the name and the value that were sent, and what is wrong."""

    values: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    problems: list[Problem] = field(default_factory=list[Problem])
    ignored: list[str] = field(default_factory=list[str])

    def add_problem(self, name: str, message: str) -> None:
        if len(self.problems) < MAX_LISTED:
            self.problems.append(Problem(name, message))

    def parse(self, parsers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
        """Returns the values that can be parsed; the others, and a `from` later than `to`, are problems."""
        parsed: dict[str, Any] = {}
        for name, (as_sent, text) in self.values.items():
            try:
                parsed[name] = parsers[name](text)
            except ValueError as error:
                self.add_problem(as_sent, str(error))
        if "from" in parsed and "to" in parsed and parsed["from"] > parsed["to"]:
            self.add_problem(self.values["from"][0], f"is later than {self.values['to'][0]}")
        return parsed

    def warnings(self, limit: int, most: int) -> Sequence[Problem]:
        """Returns what was not done as it was asked, with a `limit` above the `most` that a page holds.

        Raises InvalidRequest for the problems.
        """
        if self.problems:
            raise InvalidRequest(*self.problems)
        warnings = [Problem(name, "is unknown and was ignored") for name in self.ignored]
        if limit > most:
            lowered = f"was lowered to {most}, the most that one page holds"
            warnings.insert(0, Problem(self.values["limit"][0], lowered))
        return warnings

    def ignore(self, name: str) -> None:
        if name not in self.ignored and len(self.ignored) < MAX_LISTED:
            self.ignored.append(name)


def read_parameters(sent: Iterable[tuple[str, str]], known: Collection[str], *, paging: str) -> Parameters:
    """Reads a query string for the parameters `known`; `paging` is the advice for page numbers."""
    meanings = _meanings(known)
    found = Parameters()
    for name, value in sent:
        bare = _bare(name) if len(name) <= MAX_NAME else ""
        meaning = meanings.get(bare)
        if bare in _BARE_PAGING:
            found.add_problem(name, paging)
        elif meaning is None:
            found.ignore(name[:MAX_NAME])
        elif meaning in found.values:
            earlier, _ = found.values[meaning]
            found.add_problem(name, "is given twice" + (f", as {earlier} too" if earlier != name else ""))
        else:
            found.values[meaning] = name, value
    return found


def check_whole_list(sent: Iterable[tuple[str, str]]) -> None:
    """Raises InvalidRequest if the query string asks for a page of a list that is always given whole."""
    found = read_parameters(
        sent, (), paging="is not taken: the answer holds the whole list, there are no pages"
    )
    if found.problems:
        raise InvalidRequest(*found.problems)


def _meanings(known: Collection[str]) -> Mapping[str, str]:
    return {_bare(name): meaning for meaning in known for name in (meaning, *_ALIASES.get(meaning, ()))}
