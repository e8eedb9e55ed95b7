import math

import pytest
import torch
from torch import nn

from everycell.config import TrainSettings
from everycell.train.schedule import Schedule


def take_step(network, schedule):
    schedule.optimizer.zero_grad()
    network(torch.ones(1, 3)).sum().backward()
    schedule.step()


def test_cosine_warms_up_and_ends_at_zero():
    network = nn.Linear(3, 1)
    schedule = Schedule(network, TrainSettings(schedule="cosine", learning_rate=0.1, warmup_steps=4), total_steps=20)
    rates = []
    for _ in range(20):
        take_step(network, schedule)
        rates.append(schedule.learning_rate)
    expected = [0.1 * min(1, (i + 1) / 4) * 0.5 * (1 + math.cos(math.pi * i / 20)) for i in range(20)]
    assert rates == pytest.approx(expected)
    assert rates[-1] < 0.001


def test_plateau_halves_after_patience():
    schedule = Schedule(nn.Linear(3, 1), TrainSettings(learning_rate=5e-4), total_steps=100)
    for _ in range(4):
        schedule.end_epoch(1.0)
    assert schedule.learning_rate == 5e-4
    schedule.end_epoch(1.0)  # the fourth epoch without a lower loss
    assert schedule.learning_rate == 2.5e-4


def test_the_report_s_optimizer():
    schedule = Schedule(nn.Linear(3, 1), TrainSettings(), total_steps=100)
    group = schedule.optimizer.param_groups[0]
    assert type(schedule.optimizer) is torch.optim.Adam
    assert (group["lr"], group["betas"], group["weight_decay"]) == (5e-4, (0.9, 0.999), 1e-4)


@pytest.mark.parametrize("kind", ["cosine", "plateau"])
def test_state_goes_on_bit_for_bit(kind):
    def start():
        torch.manual_seed(0)
        network = nn.Linear(3, 1)
        return network, Schedule(network, TrainSettings(schedule=kind, optimizer="adamw"), total_steps=10)

    straight, schedule = start()
    for _ in range(3):
        take_step(straight, schedule)
        schedule.end_epoch(2.0)
    tensors, values = schedule.state()
    weights = {key: value.clone() for key, value in straight.state_dict().items()}
    tensors = {key: value.clone() for key, value in tensors.items()}
    resumed, other = start()
    resumed.load_state_dict(weights)
    other.load(tensors, values)
    for network, chosen in ((straight, schedule), (resumed, other)):
        for _ in range(3):
            take_step(network, chosen)
            chosen.end_epoch(2.0)
    assert torch.equal(straight.weight, resumed.weight)
    assert schedule.learning_rate == other.learning_rate


def test_state_that_lost_its_memory_layout_goes_on_bit_for_bit():
    def start():
        torch.manual_seed(0)
        network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return network, Schedule(network, TrainSettings(), total_steps=10)

    def step(network, schedule):
        schedule.optimizer.zero_grad()
        network(torch.linspace(0, 1, 192).view(1, 3, 8, 8)).square().sum().backward()
        schedule.step()

    straight, schedule = start()
    step(straight, schedule)
    tensors, values = schedule.state()
    resumed, other = start()
    resumed.load_state_dict(straight.state_dict())
    other.load({key: value.contiguous().clone() for key, value in tensors.items()}, values)
    step(straight, schedule)
    step(resumed, other)
    assert torch.equal(straight.weight, resumed.weight)
