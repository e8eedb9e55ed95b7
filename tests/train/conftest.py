import multiprocessing

import pytest


@pytest.fixture(scope="session")
def other_processes():
    """Real processes, forked from one that has everything imported, so that starting them is fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["everycell.cli.train", "torch.utils.tensorboard", "accelerate"])
    return context
