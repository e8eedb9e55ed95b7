"""Decide about cells group by group while tiles come in, row after row, and let finished ones go.

Whatever decides about a cell lies in its own group: cells linked to each other, directly or by others. A group whose
cells all end above everything still to come is complete, so deciding about it alone gives exactly what deciding about
the whole image at once would give, and only the cells near the edge of what has been read stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from everycell.predict.found import Found

Rows = Iterable[tuple[Found, float]]
"""(cells, y) pairs, from top to bottom: no cell that comes later has a pixel above y."""


def sweep(
    rows: Rows,
    link: Callable[[Found, float], NDArray[np.int64]],
    settle: Callable[[Found, NDArray[np.int64]], Found],
) -> Iterator[tuple[Found, float]]:
    """Settle cells as soon as nothing that is still to come can change the outcome.

    Args:
        rows: what was found.
        link: pairs of cells that may decide about each other, int64 [P, 2]; told the y above which nothing comes.
        settle: what stays of whole groups, given with their pairs.

    Yields:
        Settled cells and the y above which no more come.
    """
    waiting: Found | None = None
    for cells, horizon in rows:
        waiting = cells if waiting is None else Found.join([waiting, cells])
        pairs = link(waiting, horizon)
        done = _complete(waiting, pairs, horizon)
        place = np.cumsum(done) - 1
        settled = settle(waiting.select(done), place[pairs[done[pairs[:, 0]]]])
        waiting = waiting.select(~done)
        yield settled, min([horizon, *waiting.cells.masks.boxes[:, 1].tolist()])


def _complete(cells: Found, pairs: NDArray[np.int64], horizon: float) -> NDArray[np.bool_]:
    """Which cells belong to a group of which no cell reaches below `horizon`, bool [N]."""
    n = len(cells)
    if not n:
        return np.zeros(0, np.bool_)
    links = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), (n, n))
    _, group = connected_components(links, directed=False)
    is_open = np.zeros(n, np.bool_)
    is_open[group[cells.cells.masks.boxes[:, 3] > horizon]] = True
    complete: NDArray[np.bool_] = ~is_open[group]
    return complete
