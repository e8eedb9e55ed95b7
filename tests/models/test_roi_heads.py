import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from everycell.models import roi_heads
from everycell.models.roi_heads import mask_loss, mask_targets


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_boxes(count: int, limit: float, generator: torch.Generator, reach: float) -> torch.Tensor:
    """Boxes xyxy inside [-reach, limit + reach]², of any size from a fraction of a pixel."""
    corners = torch.rand((count, 2, 2), generator=generator) * (limit + 2 * reach) - reach
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


# The same examples every time: RoIAlign jumps to 0 beyond the border, and once in some thousand boxes a sample falls so
# close to it that the rounding of the last bit decides.
@settings(derandomize=True, deadline=None)
@pytest.mark.parametrize("aligned", [False, True])
@given(seed=st.integers(0, 2**31), size=st.sampled_from([7, 14, 28]), tiny=st.booleans())
def test_mask_targets_equal_roi_align_of_each_full_mask(aligned, seed, size, tiny):
    generator = seeded(seed)
    layers = torch.randint(4, (2, 21, 30), generator=generator, dtype=torch.int32)
    boxes = random_boxes(6, 3 if tiny else 30, generator, 8)
    layer_of = torch.randint(2, (6,), generator=generator)
    values = torch.randint(1, 4, (6,), generator=generator, dtype=torch.int32)
    full = (layers[layer_of] == values[:, None, None]).float()[:, None]
    rois = torch.cat([torch.arange(6.0)[:, None], boxes], dim=1)
    expected = roi_align(full, rois, size, aligned=aligned)[:, 0]
    found = mask_targets(layers, layer_of, values, boxes, size, aligned=aligned)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_mask_targets_by_hand():
    layers = torch.tensor([[[0, 3, 3, 3], [0, 3, 0, 3]]], dtype=torch.int32)
    box = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    found = mask_targets(layers, torch.tensor([0]), torch.tensor([3], dtype=torch.int32), box, 2, aligned=True)
    # Each of the four quarters is 2 by 1 px; its two samples sit on the centres of its pixels.
    assert found.tolist() == [[[0.5, 1.0], [0.5, 0.5]]]


def test_mask_targets_stay_exact_under_autocast():
    layers = torch.randint(2, (1, 40, 40), generator=seeded(0), dtype=torch.int32)
    box, one = torch.tensor([[0.3, 1.7, 38.1, 37.9]]), torch.tensor([1], dtype=torch.int32)
    expected = mask_targets(layers, torch.tensor([0]), one, box, 28, aligned=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = mask_targets(layers, torch.tensor([0]), one, box, 28, aligned=True)
    assert torch.equal(found, expected)


def test_mask_targets_of_no_boxes():
    none = torch.zeros(0, dtype=torch.int64)
    layers = torch.zeros((1, 4, 4), dtype=torch.int32)
    assert mask_targets(layers, none, none.int(), torch.zeros(0, 4), 28, aligned=True).shape == (0, 28, 28)


def test_mask_loss_by_hand():
    logits = torch.zeros(2, 3, 1, 2)
    logits[0, 1] = torch.tensor([0.0, 2.0])
    logits[1, 2] = torch.tensor([-1.0, 0.5])
    logits[:, 0] = 9.0  # another class counts nothing
    targets = torch.tensor([[[1.0, 0.25]], [[0.0, 1.0]]])
    p = torch.tensor([0.5, 0.880797, 0.268941, 0.622459])
    expected = -(p[0].log() + 0.25 * p[1].log() + 0.75 * (1 - p[1]).log() + (1 - p[2]).log() + p[3].log()) / 4
    torch.testing.assert_close(mask_loss(logits, torch.tensor([1, 2]), targets), expected)


def test_mask_loss_of_no_cell_is_zero_with_a_gradient():
    logits = torch.zeros((0, 3, 14, 14), requires_grad=True)
    loss = mask_loss(logits, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 14, 14))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == logits.shape


CELLS = ((5, 5, 30, 40, 1), (30, 20, 60, 60, 2), (2, 40, 20, 60, 1))


def drawn_boxes(network, target, monkeypatch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of a training step on an image with `CELLS`: the boxes that masks are drawn in, and those of their targets."""
    pooled, sampled = [], []
    pool, sample = network.roi_heads.mask_roi_pool.forward, roi_heads.mask_targets
    monkeypatch.setattr(
        network.roi_heads.mask_roi_pool, "forward", lambda x, boxes, s: pooled.extend(boxes) or pool(x, boxes, s)
    )
    monkeypatch.setattr(roi_heads, "mask_targets", lambda *a, **k: sampled.append(a[3]) or sample(*a, **k))
    torch.manual_seed(0)
    image = torch.rand((3, 64, 64), generator=seeded(0))
    network.train()([image], [target((64, 64), *CELLS)])
    return pooled, sampled


def test_the_mask_loss_samples_some_of_the_cells_boxes(small, build, target, monkeypatch):
    [all_boxes], _ = drawn_boxes(build(small), target, monkeypatch)
    [some], [sampled] = drawn_boxes(build(small.model_copy(update={"mask_batch_per_image": 2})), target, monkeypatch)
    assert len(all_boxes) > 2 == len(some)
    assert torch.equal(sampled, some)
    assert all((all_boxes == box).all(1).any() for box in some)


def test_no_cell_and_no_proposal_lose_nothing(small, build, target):
    network = build(small)
    with torch.no_grad():
        network.rpn.head.cls_logits.weight.zero_()
        network.rpn.head.cls_logits.bias.fill_(-9)  # objectness below the least score everywhere
    _, losses = network.train()([torch.rand(3, 64, 64)], [target((64, 64))])
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert {name: losses[name].item() for name in ("loss_classifier", "loss_box_reg", "loss_mask")} == {
        "loss_classifier": 0,
        "loss_box_reg": 0,
        "loss_mask": 0,
    }
    assert losses["loss_objectness"] > 0


def test_the_heads_see_few_numbers_of_rois_in_prediction(small, build, monkeypatch):
    network = build(small)
    image = [torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0))]
    seen = []
    for head in (network.roi_heads.box_head, network.roi_heads.mask_head):
        head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    (found,), _ = network(image)
    assert seen == [64, 32]
    monkeypatch.setattr("everycell.models.roi_heads._ROIS_STEP", 1)
    (expected,), _ = network(image)
    assert 0 < seen[3] == len(expected["boxes"]) < 32
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)
