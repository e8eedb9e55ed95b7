"""3×3 convolutions with a quarter of the multiplications, for processors that are fast in float32 alone.

Winograd's minimal filtering (Lavin & Gray 2016) in two dimensions: outputs of 5 × 5 px come from 49 products for each
pair of channels in place of 225. In float32 its rounding is some five times that of a plain convolution, far below that
of bfloat16.
"""

from __future__ import annotations

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
_TILES_AT_A_TIME = 288  # tiles and products of so many stay in the cache


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


def _tiles(x: Tensor, size: int, border: int) -> Tensor:
    """Views [N, rows, columns, size, size, C] of tiles of x [N, C, H, W], 5 px apart, the first `border` px outside."""
    n, channels, height, width = x.shape
    rows, columns = _grid(x)
    right, bottom = (_OUT * (count - 1) + size - border - side for count, side in ((columns, width), (rows, height)))
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, border, right, border, bottom)).contiguous()
    image, row, column, _ = padded.stride()
    shape, stride = (n, rows, columns, size, size, channels), (image, _OUT * row, _OUT * column, row, column, 1)
    return padded.as_strided(shape, stride)


def _parts(tiles: Tensor) -> list[tuple[slice, slice]]:
    """Images and rows of tiles to take together."""
    n, rows, columns = tiles.shape[:3]
    images, lines = max(1, _TILES_AT_A_TIME // (rows * columns)), max(1, _TILES_AT_A_TIME // columns)
    return [
        (slice(i, i + images), slice(row, row + lines)) for i in range(0, n, images) for row in range(0, rows, lines)
    ]


def _transformed(matrix: Tensor, squares: Tensor) -> Tensor:
    """[P, M, C]: the matrix [M, size²] times each of P squares […, size, size, C] or [P, size², C].

    Square by square, which stay in the cache on their way.
    """
    flat = squares.reshape(-1, matrix.shape[1], squares.shape[-1])
    return torch.bmm(matrix.expand(len(flat), -1, -1), flat)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv2d(x, weight, bias, padding=1)` in float32.

    Args:
        x: float32 [N, C, H, W].
        weight: float32 [O, C, 3, 3].
        bias: float32 [O].

    Returns:
        float32 [N, O, H, W], channels last in memory.
    """
    (n, channels, height, width), outputs = x.shape, len(weight)
    kernel = (_KERNEL @ weight.permute(2, 3, 1, 0).reshape(_TAPS**2, -1)).view(-1, channels, outputs)
    tiles = _tiles(x, _IN, 1)
    rows, columns = tiles.shape[1:3]
    y = x.new_empty((n, rows, _OUT, columns, _OUT, outputs))
    for images, lines in _parts(tiles):
        of_tiles = _transformed(_TILE, tiles[images, lines])
        products = x.new_empty((len(of_tiles), _IN**2, outputs))
        torch.bmm(of_tiles.transpose(0, 1), kernel, out=products.transpose(0, 1))
        part = y[images, lines]
        squares = _transformed(_RESULT, products).view(*part.shape[:2], columns, _OUT, _OUT, outputs)
        part.copy_(squares.transpose(2, 3))
    found = torch.empty((n, outputs, height, width), memory_format=torch.channels_last)
    inside = y.view(n, rows * _OUT, columns * _OUT, outputs)[:, :height, :width]
    torch.add(inside, 0.0 if bias is None else bias, out=found.permute(0, 2, 3, 1))
    return found


def _kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient [O, C, 3, 3] of the kernel, of inputs [N, C, H, W] and the gradient [N, O, H, W] of the outputs."""
    tiles, grads = _tiles(x, _IN, 1), _tiles(grad, _OUT, 0)
    channels, outputs = x.shape[1], grad.shape[1]
    total = x.new_zeros((_IN**2, channels, outputs))
    for images, lines in _parts(tiles):
        of_tiles = _transformed(_TILE, tiles[images, lines])
        of_grads = _transformed(_RESULT.T, grads[images, lines])
        total.baddbmm_(of_tiles.permute(1, 2, 0), of_grads.transpose(0, 1))
    return (_KERNEL.T @ total.view(_IN**2, -1)).view(_TAPS, _TAPS, channels, outputs).permute(3, 2, 0, 1)


def _count_tiles(x: Tensor) -> int:
    rows, columns = _grid(x)
    return len(x) * rows * columns


def _convolve_faster(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `convolve` gives, by torch where that is faster."""
    if min(weight.shape[:2]) >= _LEAST_CHANNELS and _count_tiles(x) >= _LEAST_TILES:
        return convolve(x, weight, bias)
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
    """A 3×3 convolution that takes the faster way: Winograd's for float32 on a CPU with many tiles, else torch's."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """float32 [N, O, H, W] of features [N, C, H, W]."""
        if input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        if not torch.is_grad_enabled():
            return _convolve_faster(input, self.weight, self.bias)
        if _count_tiles(input) < _LEAST_TILES_LEARNT:
            return super().forward(input)
        found: Tensor = _Convolution.apply(input, self.weight, self.bias)
        return found


def speed_up(network: nn.Module) -> None:
    """Let the 3×3 convolutions of a network take the faster way, in place; parameters stay as they are."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module) and min(module.weight.shape[:2]) >= _LEAST_CHANNELS_LEARNT:
            module.__class__ = WinogradConv2d


def _is_plain(conv: nn.Conv2d) -> bool:
    own = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    return own == ((_TAPS, _TAPS), (1, 1), (1, 1), (1, 1), 1, "zeros")
