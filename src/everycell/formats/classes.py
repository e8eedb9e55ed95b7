"""How the classes of a file become classes 1 … K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from everycell.errors import DataError

ToldBy = Literal["name", "id", "nothing"]
"""How the files of a set say a cell's class."""


@dataclass(frozen=True)
class Classes:
    """Classes 1 … K, and what files call them.

    Attributes:
        names: of the classes; empty when unknown.
        ids: whole numbers that files use for the classes, 1 … K when empty.
        blind: every cell counts as class 1, whatever its file says.
    """

    names: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    blind: bool = False

    def by_id(self, given: Any, what: str = "the class") -> int:
        """Class of the number `given`; `what` begins the message.

        Raises:
            DataError: it is no class, or no whole number.
        """
        if self.blind:
            return 1
        if type(given) is int:
            if self.ids and given in self.ids:
                return self.ids.index(given) + 1
            if not self.ids and given >= 1 and (given <= len(self.names) or not self.names):
                return given
        known = ", ".join(map(str, self.ids)) if self.ids else f"1 … {len(self.names) or 'K'}"
        raise DataError(f"{what} must be {known}, got {given!r}")

    def by_name(self, given: str) -> int:
        """Class called `given`; an empty name is class 1 where there is but one.

        Raises:
            DataError: no class has this name.
        """
        if self.blind or (not given and len(self.names) <= 1):
            return 1
        if given in self.names:
            return self.names.index(given) + 1
        raise DataError(f"the class must be one of {', '.join(self.names)}, got {given or 'none'}")


UNNAMED = Classes()
"""Classes 1 … K, whatever K is."""
