import pytest
import torch

from everycell.errors import ConfigError
from everycell.models import CellMaskRCNN, init_network
from everycell.models.checkpoint import ModelCard, save_model

IMAGE = torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def wide(small):
    return small.model_copy(update={"class_agnostic": True, "class_context": 2.0})


def test_the_head_sees_the_box_and_the_widened_box(wide, build):
    head = build(wide, 3).roi_heads.class_head
    seen = []
    head.pool.forward = lambda features, boxes, shapes: seen.append(boxes) or torch.zeros(2, wide.fpn_channels, 7, 7)
    pooled = head.see({}, [torch.tensor([[10.0, 20, 30, 40]]), torch.tensor([[0.0, 0, 4, 2]])], [(64, 64), (64, 64)])
    assert pooled.shape == (2, 2 * wide.fpn_channels, 7, 7)
    assert head(pooled).shape == (2, 3)
    assert [boxes.tolist() for boxes in seen[0]] == [[[10, 20, 30, 40]], [[0, 0, 4, 2]]]
    assert [boxes.tolist() for boxes in seen[1]] == [[[0, 10, 40, 50]], [[-2, -1, 6, 3]]]


def test_it_names_cells_and_changes_nothing_else(wide, build):
    network = build(wide, 3)
    (before,), _ = network([IMAGE])
    assert len(before["labels"])
    predictor = network.roi_heads.class_head.predictor
    for class_id in (1, 3):
        with torch.no_grad():
            predictor.weight.zero_()
            predictor.bias.copy_(torch.eye(3)[class_id - 1])
        (found,), _ = network([IMAGE])
        assert (found["labels"] == class_id).all()
        for key in ("boxes", "scores", "masks"):
            assert torch.equal(found[key], before[key])


def test_the_class_of_a_cell_matters_to_the_head_alone(wide, build, target):
    network = build(wide, 2)

    def gradients(class_id):
        network.zero_grad()
        torch.manual_seed(0)
        _, losses = network([IMAGE], [target((64, 64), (5, 5, 30, 40, class_id))])
        losses["loss_classifier"].backward()
        heads = network.roi_heads
        return heads.class_head.predictor.bias.grad.clone(), heads.box_predictor.cls_score.bias.grad.clone()

    (first, cell), (second, same) = gradients(1), gradients(2)
    assert first[0] < 0 < first[1]
    assert second[1] < 0 < second[0]
    assert torch.equal(cell, same)


def test_images_without_cells_train_too(wide, build, target):
    network = build(wide, 2)
    _, losses = network([IMAGE], [target((64, 64))])
    sum(losses.values()).backward()
    assert not network.roi_heads.class_head.predictor.bias.grad.any()


def test_one_class_needs_no_head_and_lends_its_scores(wide, build, tmp_path):
    one = build(wide.model_copy(update={"class_context": None}), 1)
    save_model(tmp_path / "one.safetensors", one.state_dict(), ModelCard(name="one", settings=wide, class_names=("a",)))
    assert build(wide, 1).roi_heads.class_head is None
    network = CellMaskRCNN(wide, 4)
    report = init_network(network, tmp_path / "one.safetensors")
    assert all("class_head" in name for name in report.missing)
    (found,), _ = network.eval()([IMAGE])
    (expected,), _ = one([IMAGE])
    for key in ("boxes", "scores", "masks"):
        torch.testing.assert_close(found[key], expected[key])


def test_it_needs_shapes_that_are_the_same_for_all_classes(small):
    with pytest.raises(ConfigError, match="class_context needs class_agnostic = true"):
        CellMaskRCNN(small.model_copy(update={"class_context": 2.0}), 2)
