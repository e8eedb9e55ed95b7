import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import MultiScaleRoIAlign, roi_align

from everycell.models.roi_align import PyramidRoIAlign, gather_roi_align


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_boxes(count: int, limit: float, generator: torch.Generator) -> torch.Tensor:
    """Boxes xyxy inside [0, limit]², of any size from a fraction of a pixel."""
    corners = torch.rand((count, 2, 2), generator=generator) * limit
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def pyramid(height: int, width: int, levels: int = 4) -> dict[str, torch.Tensor]:
    generator = seeded(0)
    return {
        str(i): torch.rand((2, 5, height >> (2 + i), width >> (2 + i)), generator=generator) for i in range(levels)
    } | {"pool": torch.zeros(2, 5, 1, 1)}


@given(st.integers(0, 2**31))
def test_pooling_off_by_half_a_pixel_is_torchvisions(seed):
    features = pyramid(256, 192)
    boxes = [random_boxes(9, 192, seeded(seed)), random_boxes(4, 100, seeded(seed + 1))]
    shapes = [(256, 192), (250, 130)]
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2, canonical_scale=100)
    torch.testing.assert_close(
        PyramidRoIAlign(4, 7, 100, aligned=False)(features, boxes, shapes), theirs(features, boxes, shapes)
    )


@given(st.integers(0, 2**31))
def test_aligned_pooling_is_roi_align_on_the_assigned_level(seed):
    features = pyramid(256, 192)
    boxes = [random_boxes(9, 192, seeded(seed)), random_boxes(4, 100, seeded(seed + 1))]
    pooled = PyramidRoIAlign(4, 7, 100, aligned=True)(features, boxes, [(256, 192), (250, 130)])
    place = 0
    for image, own in enumerate(boxes):
        for box in own:
            # Level 4 (stride 16) reads boxes of 100 px, each level below boxes of half that side.
            side = float(((box[2] - box[0]) * (box[3] - box[1])).sqrt())
            level = 3 if side >= 200 else 2 if side >= 100 else 1 if side >= 50 else 0
            feature = features[str(level)][image : image + 1]
            expected = roi_align(feature, [box[None]], 7, 1 / (4 << level), 2, aligned=True)
            torch.testing.assert_close(pooled[place : place + 1], expected)
            place += 1
    assert place == len(pooled)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (20, 31), (40, 40)])
def test_a_small_first_image_does_not_change_the_scales(aligned, size):
    # Padded to a multiple of 32, so the features' size over the image's says little about the stride.
    height, width = (-(-side // 32) * 32 for side in size)
    boxes = [random_boxes(3, min(size), seeded(0)), random_boxes(3, min(size), seeded(1))]
    pool = PyramidRoIAlign(4, 7, 100, aligned=aligned)
    first = pool(pyramid(height, width), boxes, [size, size])
    assert pool.strides == [4, 8, 16, 32]
    expected = roi_align(pyramid(height, width)["0"], boxes, 7, 1 / 4, 2, aligned=aligned)
    torch.testing.assert_close(first, expected)


@pytest.mark.parametrize("aligned", [False, True])
def test_pooling_nothing_and_bfloat16(aligned):
    pool = PyramidRoIAlign(3, 7, 100, aligned=aligned)
    features = {name: feature.bfloat16() for name, feature in pyramid(128, 128, 3).items()}
    none = [torch.zeros(0, 4), torch.zeros(0, 4)]
    assert pool(features, none, [(128, 128)] * 2).shape == (0, 5, 7, 7)
    assert pool(features, [random_boxes(2, 128, seeded(0)), none[0]], [(128, 128)] * 2).dtype == torch.float32


@pytest.mark.parametrize("aligned", [True, False])
def test_gathering_equals_torchvision(aligned):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand((40, 2), generator=generator) * 110 - 12  # some begin and end outside
    boxes = torch.cat([corner, corner + torch.rand((40, 2), generator=generator) * 60], dim=1)
    rois = torch.cat([(torch.arange(40) % 2)[:, None].float(), boxes], dim=1)
    levels, scales = torch.randint(2, (40,), generator=generator), [0.25, 0.125]
    maps = [torch.rand((2, 5, 20, 27), generator=generator), torch.rand((2, 5, 10, 14), generator=generator)]
    for size in (7, 14):
        theirs, own = ([m.clone().requires_grad_() for m in maps] for _ in range(2))
        found = gather_roi_align(own, rois, levels, size, scales, aligned=aligned)
        assert found.is_contiguous(memory_format=torch.channels_last)
        weights = torch.rand(found.shape, generator=generator)
        (found * weights).sum().backward()
        for level, scale in enumerate(scales):
            here = levels == level
            expected = roi_align(theirs[level], rois[here], size, scale, 2, aligned)
            torch.testing.assert_close(found[here], expected, rtol=0, atol=1e-5)
            (expected * weights[here]).sum().backward()
            torch.testing.assert_close(own[level].grad, theirs[level].grad, rtol=0, atol=1e-4)
            assert (theirs[level].grad == 0).any()  # pixels that no box reads
    assert gather_roi_align(maps, rois[:0], levels[:0], 7, scales, aligned=aligned).shape == (0, 5, 7, 7)
