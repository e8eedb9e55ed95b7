import subprocess
import sys

import pytest

from everycell import __version__
from everycell.cli import main


def test_help_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.process_time()\n"
        "from everycell.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(time.process_time() - start)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, seconds, modules = run.stdout.splitlines()
    assert not {"torch", "numpy", "pydantic", "pandas", "skimage", "matplotlib", "PIL"} & set(modules.split())
    assert float(seconds) < 2  # of the processor, 0.2 s here; other programs do not count


def test_python_m_everycell_prints_the_version():
    run = subprocess.run([sys.executable, "-m", "everycell", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == __version__


def test_help_names_every_command(everycell):
    code, out, _ = everycell("--help")
    assert code == 0
    commands = (
        *("demo", "predict", "figure", "evaluate", "train", "ablate", "report", "anchors"),
        *("convert", "validate", "models", "doctor"),
    )
    assert all(f" {command} " in out for command in commands)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pridict"], "pridict"),
        (["predict", "a.png"], "--output"),
        (["predict", "-o", "out"], "INPUT"),
        (["predict", "a.png", "-o", "out", "--speed", "9"], "--speed"),
        (["predict", "a.png", "-o", "out", "--mpp", "0.5", "--diameter", "20"], "--mpp, --diameter"),
        (["predict", "a.png", "-o", "out", "--mpp", "nan"], "--mpp"),
        (["predict", "a.png", "-o", "out", "--diameter", "-3"], "--diameter"),
        (["predict", "a.png", "-o", "out", "--score-thresh", "1.5"], "--score-thresh"),
        (["predict", "a.png", "-o", "out", "--formats", "labels,xml"], "labels, zarr, coco, geojson"),
        (["predict", "a.png", "-o", "out", "--channels", "red"], "1,2"),
        (["predict", "a.png", "-o", "out", "--device", "gpu"], "--device"),
    ],
)
def test_wrong_usage_ends_with_2(everycell, arguments, message):
    code, _, err = everycell(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_an_interrupt_ends_with_130(everycell, monkeypatch, model, folder, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "tiled", interrupt)
    code, _, err = everycell("predict", folder, "-o", tmp_path / "out")
    assert (code, err) == (130, "everycell: interrupted\n")


def test_a_bug_is_not_hidden(monkeypatch, model, folder, tmp_path):
    def bug(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(model, "tiled", bug)
    with pytest.raises(ZeroDivisionError):
        main(["predict", str(folder), "-o", str(tmp_path / "out")])
