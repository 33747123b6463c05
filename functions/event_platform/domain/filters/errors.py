"""The error of a filter: what is wrong, and at which character."""

WIDTH = 76
"""Characters of the expression that are shown around the place, so that a terminal keeps them on one line."""


class FilterError(ValueError):
    """Raised for an expression that is no filter.

    Its text is a line that says what is wrong, the line of the expression, and one with a caret under the
    place. `reason` is the first of them, `position` the place: characters from the expression's start.
    """

    def __init__(self, expression: str, position: int, problem: str) -> None:
        self.reason = f"at character {position + 1}: {problem}"
        self.position = position
        super().__init__("\n".join([self.reason, *_pointed_at(expression, position)]))


def _pointed_at(expression: str, position: int) -> tuple[str, str]:
    """The line that has the position, cut to a window around it, and the caret below."""
    start = expression.rfind("\n", 0, position) + 1
    line = expression[start:].partition("\n")[0]
    column = position - start
    first = max(0, min(column - WIDTH // 2, len(line) - WIDTH))
    before, after = "…" * (first > 0), "…" * (first + WIDTH < len(line))
    shown = "".join(_printable(character) for character in line[first : first + WIDTH])
    return before + shown + after, " " * (len(before) + column - first) + "^"


def _printable(character: str) -> str:
    """Returns the text with one place for each character, so that the caret stands under the right one."""
    return character if character.isprintable() else " " if character.isspace() else "�"
