import torch

from everycell.train.memory import PeakMemory


def test_the_peak_is_that_since_the_reset():
    memory = PeakMemory(torch.device("cpu"))
    memory.reset()
    before = memory.read()
    big = torch.ones(64 << 20)  # 256 MiB, touched
    peak = memory.read()
    assert peak - before > 0.9 * big.nbytes
    size = big.nbytes
    del big
    memory.reset()
    assert memory.read() < peak - 0.9 * size
