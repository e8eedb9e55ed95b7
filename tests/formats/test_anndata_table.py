import numpy as np
import pytest

from everycell.errors import ConfigError
from everycell.formats import AnnDataWriter, add_neighbors, measure
from everycell.structures import Instances

anndata = pytest.importorskip("anndata")
LABELS = np.kron(np.arange(1, 7).reshape(2, 3), np.ones((4, 5), int))
PIXELS = np.random.default_rng(0).integers(0, 256, (*LABELS.shape, 3), dtype=np.uint8)


def write(path, mpp, sizes):
    cells = Instances.from_labels(LABELS, mpp=mpp)
    start = 0
    with AnnDataWriter(path, LABELS.shape, mpp) as writer:
        for size in sizes:
            batch = cells.select(np.arange(start, start + size))
            writer.write(batch, measure(batch, PIXELS, image="slide", first_cell=start + 1))
            start += size
    return anndata.read_h5ad(path)


@pytest.mark.parametrize("mpp", [None, 0.25])
def test_anndata_reads_the_table_with_its_positions(tmp_path, mpp):
    data = write(tmp_path / "a.h5ad", mpp, [2, 4])
    table = add_neighbors(measure(Instances.from_labels(LABELS, mpp=mpp), PIXELS, image="slide"), LABELS.shape, mpp)
    assert data.shape == (6, 0)
    assert data.obs_names.tolist() == ["1", "2", "3", "4", "5", "6"]
    assert list(data.obs.columns) == [*table.columns, "region"]
    for name in table.columns:
        assert data.obs[name].tolist() == pytest.approx(table[name].tolist()) or name in ("image", "class")
    assert data.obs["class"].tolist() == ["class1"] * 6
    # The middle of the first cell, 5 × 4 px, from the image's corner.
    assert data.obsm["spatial"][0].tolist() == [2.5, 2]
    assert data.uns["everycell"] == ({} if mpp is None else {"mpp": mpp})
    attrs = data.uns["spatialdata_attrs"]
    assert set(data.obs[attrs["region_key"]]) == {attrs["region"]}
    assert data.obs[attrs["instance_key"]].tolist() == [1, 2, 3, 4, 5, 6]


def test_the_same_cells_give_the_same_bytes(tmp_path):
    write(tmp_path / "a.h5ad", 0.5, [6])
    write(tmp_path / "b.h5ad", 0.5, [1, 0, 5])
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


def test_no_cells(tmp_path):
    assert write(tmp_path / "a.h5ad", 0.5, []).shape == (0, 0)


def test_without_anndata_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    with pytest.raises(ConfigError, match=r"pip install 'everycell\[spatial\]'"):
        AnnDataWriter(tmp_path / "a.h5ad", (4, 4))
