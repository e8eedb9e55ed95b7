"""A training run, or an evaluation, as one HTML page."""

from everycell.report.evaluation import render_evaluation as render_evaluation
from everycell.report.examination import Examination as Examination
from everycell.report.examination import Findings as Findings
from everycell.report.html import render as render
from everycell.report.run import Run as Run
from everycell.report.run import read_run as read_run

__all__ = ["Examination", "Findings", "Run", "read_run", "render", "render_evaluation"]
