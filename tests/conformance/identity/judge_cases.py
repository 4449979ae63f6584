"""A test plan of the OpenID Foundation as our own tests: one case a module of the plan, under its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Case:
    """`asks` says in our words what is asked of the server; `differs` why it answers otherwise here, on purpose."""

    id: str
    asks: str
    run: Callable[[Any], None]
    standards: tuple[str, ...] = ()
    differs: str = ""


class Plan:
    """The cases of one plan by id, in the plan's order. `prefix` is what all ids begin with."""

    def __init__(self, name: str, prefix: str = "") -> None:
        self.name, self.prefix = name, prefix
        self.cases: dict[str, Case] = {}

    def case(
        self, name: str, asks: str, *, standards: tuple[str, ...] = (), differs: str = ""
    ) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        """Enter a function as the case `prefix + name`."""

        def enter(run: Callable[[Any], None]) -> Callable[[Any], None]:
            found = Case(self.prefix + name, asks, run, standards, differs)
            assert found.id not in self.cases, found.id
            self.cases[found.id] = found
            return run

        return enter
