"""JSONPath (RFC 9535) over a parsed document, in bounded time.

The library evaluates lazily, but a target such as `$..*..*` can visit a document many times over before it yields. So
every node that it visits, in filters too, is charged to a budget. `match` and `search` are left out: Python has no
regular expressions that run in linear time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError, JSONPathMatch
from jsonpath.filter import BaseExpression, RelativeFilterQuery, RootFilterQuery
from jsonpath.parse import Parser
from jsonpath.token import TOKEN_SELF

from stockade.spec.limits import MAX_DEPTH, MAX_TARGET_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jsonpath.stream import TokenStream

_BUDGET = "budget"


class QueryError(Exception):
    """A target that cannot be parsed or evaluated."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class QueryBudget:
    """What all queries of one load may visit together."""

    MESSAGE = "the overlays take too many steps"

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """Raises QueryError when nothing is left."""
        self._left -= steps
        if self._left < 0:
            raise QueryError(self.MESSAGE, "name the targets more precisely")


def query(target: str, value: Any, budget: QueryBudget) -> Iterator[tuple[str | int, ...]]:
    """The places, as keys and indices from the root, that `target` selects. Raises QueryError."""
    if len(target) > MAX_TARGET_CHARS:
        raise QueryError(f"a target longer than {MAX_TARGET_CHARS} characters", "shorten it")
    try:
        path = _ENVIRONMENT.compile(target)
        if not isinstance(path, JSONPath) or path.pseudo_root:
            raise QueryError(f"the target `{target}` is no JSONPath", "write it as RFC 9535 has it")
        for match in _select(path, value, {_BUDGET: budget}):
            yield match.parts
    except JSONPathError as error:
        reason = str(error.args[0] if error.args else error)
        hint = "write it as RFC 9535 has it, without `match` and `search`"
        raise QueryError(f"the target `{target}` is no JSONPath: {reason}", hint) from None
    except RecursionError:
        raise QueryError("a target nested too deeply", "simplify it") from None


def _select(path: JSONPath, value: Any, context: Mapping[str, Any]) -> Iterable[JSONPathMatch]:
    context[_BUDGET].spend()
    matches: Iterable[JSONPathMatch] = [
        _CountedMatch(filter_context=context, obj=value, parent=None, path="$", parts=(), root=value)
    ]
    for segment in path.segments:
        matches = segment.resolve(matches)
    return matches


class _CountedMatch(JSONPathMatch):
    """A visited node. Children are made by their parent, so all of them are counted."""

    def new_child(self, obj: object, key: int | str) -> JSONPathMatch:
        """As the library's, but without the path as text, which nobody reads here."""
        context = self._filter_context
        context[_BUDGET].spend()
        return _CountedMatch(
            filter_context=context, obj=obj, parent=self, path="", parts=(*self.parts, key), root=self.root
        )

    def add_child(self, *children: JSONPathMatch) -> None:
        """Nobody asks for the children of a match here; keeping them would keep every visited node."""


class _CountedPath(JSONPath):
    """A query inside a filter."""

    def finditer(self, data: Any, *, filter_context: Mapping[str, Any] | None = None) -> Iterable[JSONPathMatch]:
        return _select(self, data, filter_context or {})


class _Parser(Parser):
    def parse_absolute_query(self, stream: TokenStream) -> BaseExpression:
        stream.next()
        return RootFilterQuery(_CountedPath(env=self.env, segments=self.parse_query(stream)))

    def parse_relative_query(self, stream: TokenStream) -> BaseExpression:
        stream.eat(TOKEN_SELF)
        return RelativeFilterQuery(_CountedPath(env=self.env, segments=self.parse_query(stream)))


class _Environment(JSONPathEnvironment):
    parser_class = _Parser
    match_class = _CountedMatch
    max_recursion_depth = MAX_DEPTH + 1

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        del self.function_extensions["match"]
        del self.function_extensions["search"]


_ENVIRONMENT = _Environment(strict=True)
