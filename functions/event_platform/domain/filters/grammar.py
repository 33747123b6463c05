"""The grammar of contract/wire.md 7, on lark, and the words for what does not fit it."""

# lark's hints leave these open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from .errors import FilterError
from .syntax import FIELDS, And, Comparison, Node, Not, Or

_GRAMMAR = r"""
start: expression
expression: conjunction (OR conjunction)*
conjunction: term (AND term)*
?term: NOT term                                  -> negation
     | LPAR expression RPAR                      -> group
     | NAME EQUAL STRING                         -> comparison
     | NAME IN LSQB STRING (COMMA STRING)* RSQB  -> comparison

AND: "and"
OR: "or"
NOT: "not"
IN: "in"
EQUAL: "="
LPAR: "("
RPAR: ")"
LSQB: "["
RSQB: "]"
COMMA: ","
NAME: /[A-Za-z_][A-Za-z0-9_.-]*/
STRING: /"(?:[^"\\]|\\["\\])*"/
%ignore /[ \t\r\n]+/
"""

_WORDS = {
    "NAME": f"a field ({', '.join(FIELDS)})",
    "NOT": "'not'",
    "LPAR": "'('",
    "EQUAL": "'='",
    "IN": "'in'",
    "LSQB": "'['",
    "STRING": "a string in double quotes",
    "COMMA": "','",
    "RSQB": "']'",
    "AND": "'and'",
    "OR": "'or'",
    "RPAR": "')'",
    "$END": "the end",
}
"""The name of each terminal, in the order in which a message lists them."""
_STRING_SO_FAR = re.compile(r'"(?:[^"\\]|\\["\\])*')
_ESCAPE = re.compile(r'\\(["\\])')
_LONGEST_QUOTE = 40

Check = Callable[[str, Token, Sequence[Token]], None]


def tree(expression: str, *, check: Check) -> Node:
    """The tree; `check` sees each token, with those before it, ahead of the grammar. Raises FilterError."""
    parsing = _parser().parse_interactive(expression)
    read: list[Token] = []
    try:
        for token in parsing.iter_parse():
            check(expression, token, read)
            read.append(token)
        return cast("Node", parsing.feed_eof())
    except UnexpectedCharacters as error:
        raise _unreadable(expression, error.pos_in_stream, parsing) from None
    except UnexpectedToken as error:
        raise _misplaced(expression, error.token, read) from None


class _Nodes(Transformer[Token, Node]):
    """Builds the tree while the parser goes, so that depth costs no recursion."""

    def start(self, children: list[Node]) -> Node:
        return children[0]

    def expression(self, children: list[Node]) -> Node:
        parts = tuple(children[::2])
        return parts[0] if len(parts) == 1 else Or(parts, parts[0].start, parts[-1].end)

    def conjunction(self, children: list[Node]) -> Node:
        parts = tuple(children[::2])
        return parts[0] if len(parts) == 1 else And(parts, parts[0].start, parts[-1].end)

    def negation(self, children: tuple[Token, Node]) -> Node:
        word, part = children
        return Not(part, _start(word), part.end)

    def group(self, children: tuple[Token, Node, Token]) -> Node:
        opening, inner, closing = children
        return replace(inner, start=_start(opening), end=_start(closing) + 1)

    def comparison(self, children: list[Token]) -> Node:
        strings = tuple(_ESCAPE.sub(r"\1", each[1:-1]) for each in children if each.type == "STRING")
        last = children[-1]
        return Comparison(str(children[0]), strings, _start(children[0]), _start(last) + len(last))


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="basic", transformer=_Nodes())


def _start(token: Token) -> int:
    return cast("int", token.start_pos)  # always there on what the lexer made


def _unreadable(expression: str, position: int, parsing: InteractiveParser) -> FilterError:
    """Returns the error for text that is no token, at the place where the parser waits."""
    begun = _STRING_SO_FAR.match(expression, position)
    if begun is None:
        return _expected(expression, position, f"found {_quoted(expression[position])}", parsing)
    end = begun.end()
    if expression[end : end + 1] == "\\" and end + 1 < len(expression):
        return FilterError(expression, end, r"in a string, only \" and \\ can begin with a backslash")
    return FilterError(expression, position, "this string has no closing double quote")


def _misplaced(expression: str, token: Token, read: list[Token]) -> FilterError:
    """Returns the error for a token that does not fit. The parser may be further, so another one is asked."""
    at_end = token.type == "$END"
    parsing = _parser().parse_interactive(expression)
    for each in read if at_end else read[:-1]:
        parsing.feed_token(each)
    if at_end:
        return _expected(expression, len(expression.rstrip()), "it ends here", parsing)
    return _expected(expression, _start(token), f"found {_quoted(token)}", parsing)


def _expected(expression: str, position: int, found: str, parsing: InteractiveParser) -> FilterError:
    accepted = parsing.accepts()
    *others, last = [word for terminal, word in _WORDS.items() if terminal in accepted]
    expected = f"{', '.join(others)} or {last}" if others else last
    return FilterError(expression, position, f"expected {expected}, but {found}")


def _quoted(text: str) -> str:
    return repr(str(text) if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…")
