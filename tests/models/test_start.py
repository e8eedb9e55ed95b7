import pytest
import torch

from everycell.errors import ModelError
from everycell.models import CellMaskRCNN, init_network
from everycell.models.checkpoint import ModelCard, load_network, save_model


@pytest.fixture(scope="module")
def agnostic(small):
    return small.model_copy(update={"class_agnostic": True})


@pytest.fixture(scope="module")
def one_class(agnostic, build, tmp_path_factory):
    """File of a model of one class."""
    path = tmp_path_factory.mktemp("models") / "one.safetensors"
    network = build(agnostic, 1)
    save_model(path, network.state_dict(), ModelCard(name="one", settings=agnostic, class_names=("cell",)))
    return path


def test_a_one_class_model_lends_its_class_to_all(agnostic, one_class):
    network = CellMaskRCNN(agnostic, 3)
    report = init_network(network, one_class)
    assert (report.source, report.missing, report.unused) == ("one", (), ())
    features = torch.randn(5, agnostic.box_head_channels)
    before = load_network(one_class)[0].roi_heads.box_predictor(features)[0].softmax(1)
    after = network.roi_heads.box_predictor(features)[0].softmax(1)
    torch.testing.assert_close(after[:, :1], before[:, :1])
    torch.testing.assert_close(after[:, 1:], before[:, 1:].expand(-1, 3) / 3)


def test_a_model_finds_the_same_cells_before_it_learns_classes(agnostic, one_class):
    network = CellMaskRCNN(agnostic, 1)
    init_network(network, one_class)
    image = [torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0))]
    (expected,), _ = load_network(one_class)[0](image)
    (found,), _ = network.eval()(image)
    assert len(expected["boxes"])
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_between_other_numbers_every_class_starts_as_any_cell(agnostic, build, tmp_path):
    path = tmp_path / "two.safetensors"
    save_model(path, build(agnostic, 2).state_dict(), ModelCard(name="two", settings=agnostic, class_names=("a", "b")))
    network = CellMaskRCNN(agnostic, 3)
    report = init_network(network, path)
    assert (report.missing, report.unused) == ((), ())
    features = torch.randn(5, agnostic.box_head_channels)
    before = load_network(path)[0].roi_heads.box_predictor(features)[0]
    after = network.roi_heads.box_predictor(features)[0]
    torch.testing.assert_close(after[:, 0], before[:, 0])
    expected = before[:, 1:].mean(1, keepdim=True) + torch.log(torch.tensor(2 / 3))
    torch.testing.assert_close(after[:, 1:], expected.expand(-1, 3))


def test_a_model_on_another_backbone_is_refused(agnostic, one_class):
    other = CellMaskRCNN(agnostic.model_copy(update={"backbone": "resnet34"}), 1)
    with pytest.raises(ModelError, match="expected a model on resnet34, got one on resnet18"):
        init_network(other, one_class)


def test_agnostic_boxes_keep_one_class_and_suppress_across_classes(agnostic, build):
    heads = build(agnostic, 2).roi_heads
    proposals = [torch.tensor([[0.0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 60, 60]])]
    # background, class 1, class 2: the first two boxes overlap and differ in class, the third is background.
    probabilities = torch.tensor([[0.1, 0.6, 0.3], [0.05, 0.25, 0.7], [0.97, 0.01, 0.02]])
    (boxes,), (scores,), (labels,) = heads.postprocess_detections(
        probabilities.log(), torch.zeros(3, 12), proposals, [(64, 64)]
    )
    assert boxes.tolist() == [[1, 0, 21, 20]]
    assert labels.tolist() == [2]
    torch.testing.assert_close(scores, torch.tensor([0.95]))


def test_agnostic_heads_draw_one_shape_for_all_classes(agnostic, build, target):
    torch.manual_seed(3)
    network = build(agnostic, 2)
    assert network.roi_heads.box_predictor.bbox_pred.out_features == 8
    assert network.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 2
    losses = []
    for swap in ({1: 1, 2: 2}, {1: 2, 2: 1}):
        cells = [(5, 5, 30, 40, 1), (30, 30, 60, 60, 2)]
        truth = target((64, 64), *((*cell[:4], swap[cell[4]]) for cell in cells))
        torch.manual_seed(3)
        _, terms = network([torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0))], [truth])
        losses.append(terms)
    # Which class a cell has matters to its class alone.
    for key in ("loss_box_reg", "loss_mask"):
        torch.testing.assert_close(losses[0][key], losses[1][key])
    assert losses[0]["loss_classifier"] != losses[1]["loss_classifier"]
