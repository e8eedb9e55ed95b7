import numpy as np
import pytest


@pytest.fixture
def true_grid():
    return np.array(
        [
            [1, 1, 0, 0, 0],
            [1, 1, 0, 2, 2],
            [0, 0, 0, 2, 2],
            [0, 0, 0, 0, 0],
            [3, 3, 3, 3, 0],
        ]
    )


@pytest.fixture
def pred_grid():
    return np.array(
        [
            [1, 1, 1, 0, 0],  # 1 covers all four pixels of true 1 and two more: 4 / 6
            [1, 1, 1, 0, 2],  # 2 covers two of the four pixels of true 2: 2 / 4
            [0, 0, 0, 0, 2],
            [4, 0, 0, 0, 0],
            [4, 4, 3, 3, 0],  # 3 and 4 cut true 3 in halves: 2 / 4 and 2 / 5
        ]
    )
