import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from everycell.cli import main
from everycell.evaluate import Evaluator, compare_predictions
from everycell.report import render_evaluation
from everycell.structures import Instances

SIZE = (40, 100)


def cells(n, shift=0, score=0.9, class_id=1):
    """`n` squares of 8 by 8 px in a row, moved down by `shift` px."""
    labels = np.zeros(SIZE, int)
    for k in range(n):
        labels[4 + shift : 12 + shift, 10 * k + 1 : 10 * k + 9] = k + 1
    found = Instances.from_labels(labels)
    return replace(
        found,
        scores=np.full(len(found), score, np.float32),
        class_ids=np.full(len(found), class_id, np.int64),
    )


def evaluate(images, class_names=("cell",), **options):
    evaluator = Evaluator(class_names, **options)
    for name, truth, pred in images:
        evaluator.add(name, truth, pred)
    return evaluator


def black(name):
    return np.zeros((*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def evaluator():
    """Six images, 26 true cells: `a` misses four of five, `b` finds two of class 2 as class 1, the others are right."""
    unsure = cells(4, score=0.4)
    images = [("a", cells(5), cells(1)), ("b", cells(2, class_id=2), cells(2)), ("f", unsure, unsure)]
    return evaluate([*images, *((name, cells(5), cells(5)) for name in "cde")], ("round", "long"))


def render(evaluator, *, read_pixels=black, **changes):
    result = replace(evaluator.result(), **changes)
    return render_evaluation(result, evaluator.images, read_pixels, title="new against old")


@pytest.fixture(scope="module")
def html(evaluator):
    return render(evaluator)


@pytest.fixture
def page(html, parse):
    return parse(html)


def test_the_verdict(evaluator, page):
    result = evaluator.result()
    assert "6 images · 26 true cells · 22 predicted cells · 2 classes" in page.text
    assert "84.6 % of true cells Of the predicted cells 100.0 % are true ones" in page.text  # 22 of 26 are matched
    assert "\N{MINUS SIGN}4 in all; 13.3 % off in an average image." in page.text  # 4 of 5 in one of 6 images
    assert "23.1 % of true cells are not found right: missed 15.4 %, wrong class 7.7 %." in page.text
    interval = result.intervals["pq"]
    assert f"{result.pq:.3f} PQ [{interval.low:.2f}, {interval.high:.2f}]" in page.text
    assert "from redrawing 6 images with cells" in page.text


def test_every_average_precision_says_max_dets(page):
    for label in ("AP IoU 0.50 … 0.95, maxDets 6", "AP50 IoU 0.50, maxDets 6", "AP75 IoU 0.75, maxDets 6"):
        assert label in page.text, label
    assert page.text.count("maxDets 6") == 2 + 6 + 1 + 1  # verdict, figures, classes, settings
    assert "AP and AR: maxDets 6" in page.text


def test_worst_images_come_first_and_are_drawn_as_pairs(page):
    names = re.findall(r"(\w): PQ [\d.]+, F1", page.text)
    assert names[0] == "a"
    assert len(names) == 6
    images = [value for name, value in page.attributes if name == "src"]
    assert len(images) == 2 * 6 + 1
    assert all(image.startswith("data:image/jpeg;base64,") for image in images)
    rows = re.findall(r"(?<= )([a-f]) (\d\.\d{3}) (?:[\d.]+ ){6}\d \d(?= )", page.text)
    assert [name for name, _ in rows] == ["a", "b", "c", "d", "e", "f"]


def test_the_page_needs_nothing_else(html, page):
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert "url(" not in html
    assert not [value for name, value in page.attributes if name == "href"]


def test_names_are_text_and_never_markup(parse):
    evil = '<script>alert("1")</script>&'
    found = evaluate([(evil, cells(3), cells(2))], (evil, evil + "2"))
    result = replace(found.result(), notes=(f"note {evil}",))
    html = render_evaluation(result, found.images, black, title=evil, inputs={"Truth": Path("/x") / '"><b>' / "y"})
    page = parse(html)
    assert not page.tags & {"script"}
    assert page.text.count(evil) >= 6  # title, heading, picture, class tables, image, note
    assert '"><b>/y' in page.text
    assert ("title", '/x/"><b>/y') in page.attributes


def test_truth_without_images_stands_on_black(evaluator, html, parse):
    page = parse(render(evaluator, read_pixels=None))
    assert "The truth has no images, so outlines stand on black." in page.text
    assert "stand on black" not in html
    assert len([name for name, _ in page.attributes if name == "src"]) == 13


def test_scores(page):
    # 18 cells score 0.9, 16 of them are right; 4 score 0.4 and are right.
    assert f"calibration error (ECE) {(18 * abs(16 / 18 - 0.9) + 4 * 0.6) / 22:.3f} predictions 22" in page.text
    assert "Classes ignored 0.400 0.917" in page.text  # F1 is 2 * 22 / (22 + 26)
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert labels == ["Precision over score", "Detection rates over IoU thresholds"]


def test_predictions_of_one_score_have_no_calibration(parse):
    found = evaluate([(name, cells(3), cells(2)) for name in "ab"])
    page = parse(render(found))
    assert "All predictions score the same" in page.text
    assert "Precision over score" not in [value for _, value in page.attributes]


def test_a_comparison(evaluator, parse):
    worse = evaluate([(image.name, image.truth, cells(1)) for image in evaluator.images], ("round", "long"))
    paired = compare_predictions(worse.images, evaluator.images, ("/runs/one/old", "/runs/two/new"))
    page = parse(render(evaluator, comparison=paired))
    assert "two/new against one/old" in page.text
    gain = paired.measures["f1_50"]
    assert f"F1 {gain.first:.3f} {gain.second:.3f} +{gain.difference.value:.3f}" in page.text
    assert "/runs/one/old" not in page.text


@pytest.mark.parametrize(
    "images",
    [[], [("none", cells(0), cells(0))], [("one", cells(3), cells(0))], [("one", cells(0), cells(3))]],
    ids=["no image", "no cell", "nothing found", "nothing true"],
)
def test_little_to_show_still_makes_a_page(images, parse):
    page = parse(render(evaluate(images)))
    assert "nan" not in page.text.replace("everycell", "")
    assert f"{len(images)} image{'s' * (len(images) != 1)} ·" in page.text
    n_cells = sum(len(truth) + len(pred) for _, truth, pred in images)
    assert ("img" in page.tags) == bool(n_cells)


def test_a_perfect_prediction_has_no_worst_cells(parse):
    page = parse(render(evaluate([(name, cells(3), cells(3)) for name in "ab"])))
    assert "Worst cells" not in page.text
    assert "0.0 % of true cells are not found right: none." in page.text


def test_a_long_table_of_images_is_folded(parse):
    def details(n):
        html = render(evaluate([(f"image {i}", cells(0), cells(0)) for i in range(n)]))
        return re.findall(r"<details( open)?>\s*<summary>(\d+) images", html)

    assert details(12) == [(" open", "12")]
    assert details(13) == [("", "13")]


def test_many_notes_are_folded(evaluator, parse):
    page = parse(render(evaluator, notes=tuple(f"note {i}" for i in range(8))))
    assert all(f"note {i}" in page.text for i in range(8))
    assert "3 more" in page.text


@pytest.mark.parametrize(("truth", "ground"), [("data", "images"), ("data/labels", "black")])
def test_the_command_writes_the_page(data, tmp_path, parse, truth, ground):
    folders = ["--truth", str(tmp_path / truth), "--pred", str(data / "labels")]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *folders, "--html", str(tmp_path / "page.html"), "--workers", "1"])
    assert not stop.value.code
    page = parse((tmp_path / "page.html").read_text())
    assert "4 images · 14 true cells · 14 predicted cells" in page.text
    assert ("outlines stand on black" in page.text) == (ground == "black")
    assert str(tmp_path) not in page.text
    assert ("title", str(tmp_path / truth)) in page.attributes
