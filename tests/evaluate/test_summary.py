import math
from dataclasses import replace

import numpy as np
import pytest

from everycell.evaluate import Evaluator
from everycell.evaluate.results import Length
from everycell.evaluate.summary import length_text, summarise
from everycell.structures import Instances


def evaluate(class_names, mpp=None):
    labels = np.zeros((20, 60), int)
    for k in range(6):
        labels[2:10, 10 * k + 1 : 10 * k + 9] = k + 1
    truth = replace(Instances.from_labels(labels), mpp=mpp)
    evaluator = Evaluator(class_names)
    for name in "abcde":
        evaluator.add(name, truth, truth.select(np.arange(3)))
    return evaluator.result()


@pytest.fixture(scope="module")
def result():
    return evaluate(["round", "long"])


def test_figures_are_those_of_the_result(result):
    measures = {measure.name: measure for measure in summarise(result)}
    for name in ("map", "ap50", "pq", "aji_plus", "dice", "f1_50"):
        assert measures[name].value == getattr(result, name)
        assert measures[name].interval == result.intervals.get(name)
    assert measures["mpq_plus"].value == result.panoptic.mpq_plus
    assert (measures["count.bias"].value, measures["count.bias"].unit) == (-3, "cells")
    assert (measures["count.absolute"].value, measures["boundary_f1"].value) == (3, 1)


def test_every_interval_has_its_figure(result):
    assert result.intervals.keys() <= {measure.name for measure in summarise(result)}
    for measure in summarise(result):
        assert measure.interval is None or measure.interval.value == pytest.approx(measure.value)


def test_average_precision_says_max_dets(result):
    for measure in summarise(result):
        assert ("maxDets 7" in measure.how) == measure.label.startswith(("AP", "AR"))


def test_one_class_has_no_figures_of_classes(result):
    names, several = ([m.name for m in summarise(each)] for each in (evaluate(["cell"]), result))
    assert set(several) - set(names) == {
        "class_agnostic.ap",
        "class_agnostic.ap50",
        "mpq",
        "mpq_monusac",
        "mpq_monusac_corrected",
        "mpq_plus",
    }
    assert [name for name in several if name in names] == names
    assert not any("classes" in m.how for m in summarise(evaluate(["cell"])) if m.name != "bpq")


def test_lengths_are_in_micrometres_where_known():
    [known] = [m for m in summarise(evaluate(["cell"], mpp=0.5)) if m.name == "f_d"]
    assert known.how == "centroids within 6 µm, all images together"
    [unknown] = [m for m in summarise(evaluate(["cell"])) if m.name == "hausdorff"]
    assert (unknown.value, unknown.unit) == (0, "px")
    assert length_text(Length(12, math.nan)) == "12 px"
