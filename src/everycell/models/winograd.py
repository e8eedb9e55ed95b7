"""3×3 convolutions with a quarter of the multiplications, for processors that are fast in float32 alone.

Winograd's minimal filtering (Lavin & Gray 2016) in two dimensions: outputs of 5 × 5 px come from 49 products for each
pair of channels in place of 225. In float32 its rounding is some five times that of a plain convolution, far below that
of bfloat16.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_OUT, _TAPS = 5, 3
_IN = _OUT + _TAPS - 1  # side of the input tile of an output tile
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5)  # where polynomials are evaluated, besides at infinity
# With fewer channels or tiles, moving the tiles costs what is saved; torch's gradient of kernels is far from its best.
_LEAST_CHANNELS, _LEAST_TILES = 256, 128
_LEAST_CHANNELS_LEARNT, _LEAST_TILES_LEARNT = 64, 64
_TILES_AT_A_TIME = 288  # 32 RoIs of 14 × 14 px


def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of the input tile [49, 49], the kernel [49, 9] and the output tile [25, 49], of flattened squares.

    Toom and Cook's product of polynomials, transposed.
    """

    def evaluate(terms: int) -> np.ndarray:
        at_infinity = [0.0] * (terms - 1) + [1.0]
        return np.array([[point**power for power in range(terms)] for point in _POINTS] + [at_infinity])

    tile, kernel, out = np.linalg.inv(evaluate(_IN)).T, evaluate(_TAPS), evaluate(_OUT).T
    # The rows of both factors of a product alike in size: by powers of two, so nothing is rounded.
    scale = 2.0 ** np.round(np.log2(np.abs(kernel).sum(1) / np.abs(tile).sum(1)) / 2)[:, None]
    one_axis = (tile * scale, kernel / scale, out)
    of_tile, of_kernel, of_out = (torch.from_numpy(np.kron(matrix, matrix)).float() for matrix in one_axis)
    return of_tile, of_kernel, of_out


_TILE, _KERNEL, _RESULT = _transforms()


def _grid(x: Tensor) -> tuple[int, int]:
    """Rows and columns of tiles that cover an image of x [N, C, H, W]."""
    height, width = x.shape[2:]
    return -(-height // _OUT), -(-width // _OUT)


def _tiles(x: Tensor, part: tuple[slice, slice], size: int) -> Tensor:
    """Tiles [images, rows, columns, size, size, C] of a part of x [N, C, H, W], views of this thread's memory.

    They lie 5 px apart, and those of 7 px begin one px outside the image.
    """
    images, lines = part
    shown = x[images].permute(0, 2, 3, 1)
    n, height, width, channels = shown.shape
    rows, columns, border = lines.stop - lines.start, _grid(x)[1], (size - _OUT) // 2
    padded = _memory("padded", n, *(_OUT * (count - 1) + size for count in (rows, columns)), channels)
    top = _OUT * lines.start - border
    bottom = min(height, top + padded.shape[1])
    padded.zero_()[:, max(0, -top) : bottom - top, border : border + width] = shown[:, max(0, top) : bottom]
    image, row, column, _ = padded.stride()
    shape, stride = (n, rows, columns, size, size, channels), (image, _OUT * row, _OUT * column, row, column, 1)
    return padded.as_strided(shape, stride)


def _parts(x: Tensor) -> list[tuple[slice, slice]]:
    """Images and rows of tiles of x [N, C, H, W] to take together."""
    n, (rows, columns) = len(x), _grid(x)
    images, lines = max(1, _TILES_AT_A_TIME // (rows * columns)), max(1, _TILES_AT_A_TIME // columns)
    return [
        (slice(i, min(i + images, n)), slice(row, min(row + lines, rows)))
        for i in range(0, n, images)
        for row in range(0, rows, lines)
    ]


_kept = threading.local()


def _memory(use: str, *shape: int) -> Tensor:
    """Float32 memory of this thread, the same for all parts and layers: it stays in the cache and is asked for once."""
    size = math.prod(shape)
    flat: Tensor | None = getattr(_kept, use, None)
    if flat is None or len(flat) < size:
        with torch.inference_mode(False):  # training may need it after prediction
            flat = torch.empty(size)
        setattr(_kept, use, flat)
    return flat[:size].view(shape)


def _transformed(matrix: Tensor, x: Tensor, part: tuple[slice, slice]) -> Tensor:
    """[P, M, C]: the matrix [M, size²] times each of the P tiles of a part of x [N, C, H, W]."""
    size = math.isqrt(matrix.shape[1])
    tiles = _tiles(x, part, size)
    squares = _memory("squares", math.prod(tiles.shape[:3]), size * size, x.shape[1])
    squares.view(tiles.shape).copy_(tiles)
    out = _memory(f"transformed {size}", len(squares), len(matrix), x.shape[1])
    return torch.bmm(matrix.expand(len(squares), -1, -1), squares, out=out)


def transform_kernel(weight: Tensor) -> Tensor:
    """[49, C, O] of a kernel [O, C, 3, 3]."""
    outputs, channels = weight.shape[:2]
    return (_KERNEL @ weight.permute(2, 3, 1, 0).reshape(_TAPS**2, -1)).view(-1, channels, outputs)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """`conv2d(x, weight, bias, padding=1)` in float32.

    Args:
        x: float32 [N, C, H, W].
        kernel: float32 [49, C, O], what `transform_kernel` makes of a weight [O, C, 3, 3].
        bias: float32 [O].

    Returns:
        float32 [N, O, H, W], channels last in memory.
    """
    (n, _, height, width), outputs, columns = x.shape, kernel.shape[2], _grid(x)[1]
    found = torch.empty((n, outputs, height, width), memory_format=torch.channels_last)
    for part in _parts(x):
        images, lines = part
        of_tiles = _transformed(_TILE, x, part)
        count = len(of_tiles)
        products = _memory("products", count, _IN**2, outputs)
        torch.bmm(of_tiles.transpose(0, 1), kernel, out=products.transpose(0, 1))
        squares = _memory("results", count, _OUT**2, outputs)
        torch.bmm(_RESULT.expand(count, -1, -1), products, out=squares)
        place = found[images, :, _OUT * lines.start : _OUT * lines.stop].permute(0, 2, 3, 1)
        by_row = squares.view(len(place), -1, columns, _OUT, _OUT, outputs).transpose(2, 3)
        whole = _memory("image", *by_row.shape).copy_(by_row).view(len(place), -1, columns * _OUT, outputs)
        torch.add(whole[:, : place.shape[1], :width], 0.0 if bias is None else bias, out=place)
    return found


def _kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient [O, C, 3, 3] of the kernel, of inputs [N, C, H, W] and the gradient [N, O, H, W] of the outputs."""
    channels, outputs = x.shape[1], grad.shape[1]
    total = x.new_zeros((_IN**2, channels, outputs))
    for part in _parts(x):
        of_tiles, of_grads = _transformed(_TILE, x, part), _transformed(_RESULT.T, grad, part)
        total.baddbmm_(of_tiles.permute(1, 2, 0), of_grads.transpose(0, 1))
    return (_KERNEL.T @ total.view(_IN**2, -1)).view(_TAPS, _TAPS, channels, outputs).permute(3, 2, 0, 1)


def _count_tiles(x: Tensor) -> int:
    rows, columns = _grid(x)
    return len(x) * rows * columns


def _is_faster(x: Tensor, weight: Tensor) -> bool:
    return min(weight.shape[:2]) >= _LEAST_CHANNELS and _count_tiles(x) >= _LEAST_TILES


def _convolve_faster(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `convolve` gives, by torch where that is faster."""
    if _is_faster(x, weight):
        return convolve(x, transform_kernel(weight), bias)
    return F.conv2d(x, weight, bias, padding=1)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve_faster(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            _convolve_faster(grad, weight.flip(2, 3).transpose(0, 1), None) if wanted[0] else None,
            _kernel_gradient(x, grad) if wanted[1] else None,
            grad.sum((0, 2, 3)) if wanted[2] else None,
        )


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution that takes the faster way: Winograd's for float32 on a CPU with many tiles, else torch's.

    Attributes:
        frozen: the weight never changes, so that its transformed kernel is kept once it was needed.
    """

    frozen = False
    _kernel: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """float32 [N, O, H, W] of features [N, C, H, W]."""
        if input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        if not torch.is_grad_enabled():
            if _is_faster(input, self.weight):
                return convolve(input, self._transformed_kernel(), self.bias)
            return super().forward(input)
        if _count_tiles(input) < _LEAST_TILES_LEARNT:
            return super().forward(input)
        found: Tensor = _Convolution.apply(input, self.weight, self.bias)
        return found

    def _transformed_kernel(self) -> Tensor:
        kernel = transform_kernel(self.weight) if self._kernel is None else self._kernel
        if self.frozen:
            self._kernel = kernel
        return kernel


def speed_up(network: nn.Module, *, frozen: bool = False) -> None:
    """Let the 3×3 convolutions of a network take the faster way, in place; parameters stay as they are.

    Args:
        network: its 3×3 convolutions become `WinogradConv2d`.
        frozen: their weights never change from now on.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module) and min(module.weight.shape[:2]) >= _LEAST_CHANNELS_LEARNT:
            module.__class__ = WinogradConv2d
            assert isinstance(module, WinogradConv2d)
            module.frozen = frozen


def _is_plain(conv: nn.Conv2d) -> bool:
    own = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    return own == ((_TAPS, _TAPS), (1, 1), (1, 1), (1, 1), 1, "zeros")
