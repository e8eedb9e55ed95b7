import csv

from skimage.data import immunohistochemistry

from everycell.cli.outputs import output_paths
from everycell.cli.settings import FORMATS
from everycell.io import read_image

_STEM = "immunohistochemistry"


def test_demo_writes_everything_and_says_what_to_open(everycell, model, tmp_path):
    code, out, err = everycell("demo", "-o", tmp_path / "demo")
    assert (code, err) == (0, "")
    assert (read_image(tmp_path / "demo" / f"{_STEM}.png").pixels == immunohistochemistry()).all()
    assert all(path.exists() for path in output_paths(tmp_path / "demo", _STEM, FORMATS))
    with (tmp_path / "demo" / "summary.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert out.startswith(f"{int(row['n_cells']):,} cells found in ")
    named = [word for word in out.split() if word.startswith(_STEM)]
    assert all((tmp_path / "demo" / word.rstrip(",")).exists() for word in named)


def test_demo_runs_again_in_the_same_folder(everycell, model, tmp_path):
    for _ in range(2):
        assert everycell("demo", "-o", tmp_path / "demo")[0] == 0
    assert len(model.seen) == 2


def test_demo_where_nothing_can_be_written(everycell, model, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = everycell("demo", "-o", tmp_path / "file" / "demo")
    assert code == 1
    assert err.startswith(f"everycell: error: cannot make the folder {tmp_path / 'file' / 'demo'}: ")
