import re
from dataclasses import replace

import pytest

from everycell.report import Examination, read_run, render

NAN = float("nan")


@pytest.fixture
def findings(run_folder, stub_model):
    examination = Examination(read_run(run_folder), limit=24, device="cpu")
    for name in examination.names:
        examination.add(name)
    return examination.findings()


def test_what_the_run_says_is_on_the_page(run_folder, findings, data, parse):
    page = parse(render(read_run(run_folder), findings))
    for fact in (
        "my run",
        "Mask R-CNN on resnet50 with FPN · 1 class · trained on squares · 43,938,541 parameters",
        "finished, 3 of 3 epochs",
        "2.000 → 0.750",
        "+0.250 in the best epoch (2), +0.625 in the last (3).",
        "43,716,141 trained, of 43,938,541",
        "filled 300 of 318 tensors",
        "1:02:05 h",
        "3.00 GiB, allocated on the GPU",
        "sha256:0123abcd",
        "Folders " + "/".join(data.parts[-2:]),
        "1 training, 3 validation",
        "2 training, 12 validation",
        "TestOS-1.0",
        "9.8.7",
        "weight_decay 0.0001",
    ):
        assert fact in page.text, fact
    assert ("title", str(data)) in page.attributes
    assert str(data) not in page.text


def test_what_was_found_is_on_the_page(run_folder, findings, parse):
    page = parse(render(read_run(run_folder), findings))
    assert "On 3 of 3 validation images with 12 cells." in page.text
    assert "25.0 % of true cells are not found right: missed 25.0 %." in page.text
    assert "Of the predicted cells 0.0 % are wrong." in page.text
    assert re.search(r"cell [\d.]+ [\d.]+ [\d.]+ 12 12 All", page.text)
    assert page.text.count("truth: ") == 3
    assert "Worst images" in page.text


def test_the_page_needs_nothing_else(run_folder, findings, parse):
    html = render(read_run(run_folder), findings)
    page = parse(html)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data", "poster")]
    assert len(sources) == 7
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "url(" not in html
    assert "@import" not in html


def test_names_are_text_and_never_markup(run_folder, write_model, stub_model, parse):
    evil = '<script>alert("1")</script>&'
    write_model(run_folder, (evil,))
    renamed = run_folder.with_name('<b id="x">')
    run_folder.rename(renamed)
    history = (
        (renamed / "history.csv").read_text().replace("val_ap50_cell", '"val_ap50_' + evil.replace('"', '""') + '"')
    )
    (renamed / "history.csv").write_text(history)
    run = read_run(renamed)
    examination = Examination(run, limit=1, device="cpu")
    examination.add(examination.names[0])
    page = parse(render(run, examination.findings(), note="<u>note</u>"))
    assert not page.tags & {"script", "u"}
    assert evil in page.text
    assert '<b id="x">' in page.text
    assert "<u>note</u>" in page.text


def test_classes_each_have_a_curve_and_a_row(run_folder, write_model, findings, parse):
    names = tuple(f"class{i}" for i in range(1, 13))
    write_model(run_folder, names)
    columns = ",".join(f"val_ap50_{name}" for name in names)
    rows = [",".join("" if i == 5 else f"{0.01 * epoch * i:.2f}" for i in range(12)) for epoch in (1, 2)]
    text = f"epoch,train_loss,val_loss,val_map,{columns}\n1,2,3,0.1,{rows[0]}\n2,1,2,0.2,{rows[1]}\n"
    (run_folder / "history.csv").write_text(text)
    row = findings.result.per_class["cell"]
    per_class = {name: replace(row, ap50=NAN if i == 5 else 0.5 + i / 100) for i, name in enumerate(names)}
    result = replace(findings.result, per_class=per_class)
    page = parse(render(read_run(run_folder), replace(findings, result=result)))
    assert "class12 0.220" in page.text
    assert "class6 –" in page.text
    assert "Weakest class by AP50: class1, 0.500." in page.text
    values = [name for name, _ in page.attributes].count("points")
    assert values == 12 + 3 + 3  # classes; losses and AP; their legends


def test_without_findings_the_history_speaks(run_folder, parse):
    page = parse(render(read_run(run_folder), note="The data is gone; give --data"))
    assert "Pictures and error analysis are left out. The data is gone; give --data" in page.text
    assert "0.700 AP50" in page.text
    assert "img" not in page.tags


def test_what_was_not_recorded_is_said(tmp_path, parse):
    (tmp_path / "settings.toml").write_text("[train]\nepochs = 7\n")
    page = parse(render(read_run(tmp_path)))
    assert "0 of 7 epochs" in page.text
    assert "No epoch was finished." in page.text
    for label in ("Time", "Parameters", "Started from", "Fingerprint", "Peak memory", "Device", "Platform"):
        assert f"{label} not recorded" in page.text


@pytest.mark.parametrize("text", ["1,2.5,3\n", "1,2.5,\n", "1,2.5,3\n2,,\n"], ids=["one", "no validation", "nan"])
def test_short_and_gappy_histories(run_folder, text, parse):
    (run_folder / "history.csv").write_text("epoch,train_loss,val_loss\n" + text)
    page = parse(render(read_run(run_folder)))
    assert "no epoch was validated" in page.text
    assert "nan" not in page.text
