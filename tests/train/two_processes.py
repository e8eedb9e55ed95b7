"""Trains tiny networks into a folder; test_processes.py runs this file in one process and in two."""

import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from everycell.config import ModelSettings, RunSettings, TrainSettings
from everycell.datasets import synthetic_sample
from everycell.errors import TrainingError
from everycell.models.backbones import build_backbone
from everycell.structures import Image, Sample
from everycell.train import Listener, Trainer, TrainJob
from everycell.train.validation import validation_loss

MODEL = ModelSettings(
    backbone="resnet18",
    backbone_layers=3,
    fpn_channels=16,
    anchor_sizes=(8, 16, 32, 64),
    box_head_channels=32,
    mask_channels=16,
    proposals_train=50,
    proposals_test=50,
    box_batch_per_image=4096,
)
TRAIN = {"crop_px": 64, "recipe": "none", "clip_norm": 1e9, "bf16": False, "epochs": 1}


class Quiet(Listener):
    pass


class SameCells:
    """Pictures whose pixels differ and whose cells lie alike, so that every image has equally many positives."""

    class_names = ("cell",)

    def __init__(self, count):
        self.names = tuple(f"image{i}" for i in range(count))
        drawn = synthetic_sample(np.random.default_rng(0), (64, 64), 6)
        noise = np.random.default_rng(1)
        self.samples = [
            Sample(
                name,
                Image((drawn.image.pixels * noise.uniform(0.3, 1.0)).astype(np.uint8)),
                drawn.layers,
                drawn.class_ids,
            )
            for name in self.names
        ]

    def __len__(self):
        return len(self.samples)

    def load(self, i):
        return self.samples[i]

    def image_path(self, i):
        return Path(self.names[i])


def make_trainer(out, count, init_weights, **train):
    settings = RunSettings(model=MODEL, train=TrainSettings(**TRAIN | train, init_weights=str(init_weights)))
    job = TrainJob(SameCells(count), settings, out, device="cpu", held_out=[count - 1])
    return Trainer(job, Quiet())


def take_every_sample(network):
    """No random choice of anchors and RoIs, and the same proposals for every image."""
    network.rpn.fg_bg_sampler.batch_size_per_image = 10**6
    with torch.no_grad():
        for layer in (network.rpn.head.cls_logits, network.rpn.head.bbox_pred):
            layer.weight.zero_()


def gradients(out, *, images=4, batch_size=4, accumulate=1):
    """One step on some images with frozen norms; the gradients as a file for each process."""
    weights = out / f"weights{os.environ.get('RANK', '0')}.safetensors"
    torch.manual_seed(0)
    save_file(build_backbone(MODEL).body.state_dict(), weights)
    trainer = make_trainer(out / "run", images + 1, weights, batch_size=batch_size, accumulate=accumulate)
    take_every_sample(trainer.network)
    trainer.run()
    named = {name: p.grad.contiguous() for name, p in trainer.network.named_parameters() if p.requires_grad}
    save_file(named, out / f"gradients{trainer.processes.rank}.safetensors")


def three_accumulated(out):
    """Of two batches of two, the last one holds one image only, so that the second process is left without."""
    gradients(out, images=3, batch_size=2, accumulate=2)


def trained_norms(out):
    """Two epochs of two batches, the last one smaller, with trainable batch norm; the state of each process."""
    trainer = make_trainer(out / "run", 4, "random", batch_size=2, epochs=2, ema_decay=0.9)
    trainer.run()
    rank = trainer.processes.rank
    state = {name: p.detach().contiguous() for name, p in trainer.network.named_parameters()}
    save_file(state, out / f"parameters{rank}.safetensors")
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    random = torch.get_rng_state()
    validation_loss(trainer.network, trainer.val_source, trainer.device, bf16=False, limit=None)
    unchanged = torch.equal(random, torch.get_rng_state()) and all(
        torch.equal(value, before[key]) for key, value in trainer.network.state_dict().items()
    )
    (out / f"unchanged{rank}").write_text(str(unchanged))


def one_fails(out):
    """A loss that is not finite in the last process only; the error of each process."""
    trainer = make_trainer(out / "run", 5, "random", batch_size=4)
    rank, count = trainer.processes.rank, trainer.processes.count
    if rank == count - 1:
        with torch.no_grad():
            trainer.network.roi_heads.box_predictor.cls_score.bias.fill_(float("nan"))
    try:
        trainer.run()
    except TrainingError as error:
        (out / f"error{rank}").write_text(str(error))


def main(out):
    for scenario in (gradients, three_accumulated, trained_norms, one_fails):
        folder = out / scenario.__name__
        folder.mkdir(parents=True, exist_ok=True)
        scenario(folder)


if __name__ == "one_of_two":
    os.environ |= ENVIRONMENT  # noqa: F821 - given by test_processes.py
    torch.set_num_threads(1)
    main(OUT)  # noqa: F821
    torch.distributed.destroy_process_group()
