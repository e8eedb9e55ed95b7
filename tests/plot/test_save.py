import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import skimage.io

from everycell.errors import OutputError
from everycell.plot import plot_curves, save_png


def test_arrays_and_figures_become_png(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_png(pixels, tmp_path / "a.png")
    np.testing.assert_array_equal(skimage.io.imread(tmp_path / "a.png"), pixels)
    save_png(plot_curves([]), tmp_path / "b.png")
    with PIL.Image.open(tmp_path / "b.png") as image:
        assert image.size == (1650, 630)  # 11 x 4.2 inches at 150 dots per inch


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="create the folder first"):
        save_png(np.zeros((2, 2, 3), np.uint8), tmp_path / "missing" / "a.png")


def test_drawing_uses_no_global_matplotlib_state():
    code = "import sys, everycell.plot; everycell.plot.plot_curves([]); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
