"""Means, deviations, gains and closed gaps, computed by hand."""

import pytest

from ibkd_mm.report.comparison import MeanStd, closed_ratio, final_metric, gain, mean_curve, mean_std
from ibkd_mm.report.groups import group_runs
from ibkd_mm.report.model_results import ModelResult, ModelResults
from ibkd_mm.report.plot_style import NoDataError
from ibkd_mm.report.tables import ap_table
from ibkd_mm.report.training_run import read_runs

AP = "coco/segm_mAP"


@pytest.fixture
def groups(made, tmp_path):
    def groups(baseline=((0, 0.20), (1, 0.24), (2, 0.22)), distilled=((0, 0.27), (1, 0.29), (2, 0.28))):
        runs = []
        for name, config, figures in (
            ("base", made.CONFIG, baseline),
            ("ibkd", made.changed(model=made.distillation()), distilled),
        ):
            for seed, figure in figures:
                folder = tmp_path / f"{name}{seed}"
                runs.append(made.write_run(folder, made.finished(figure), config, seed=seed, name=name))
        return group_runs(read_runs(runs))

    return groups


def _near(value, mean, std):
    assert value.mean == pytest.approx(mean)
    assert value.std == (None if std is None else pytest.approx(std))


def test_mean_and_standard_deviation_over_seeds(groups):
    baseline, distilled = groups()
    _near(final_metric(baseline, AP), 0.22, 0.02)  # ((-.02)² + .02² + 0²) / 2 = .02²
    _near(final_metric(distilled, AP), 0.28, 0.01)


def test_a_gain_is_computed_seed_by_seed(groups):
    baseline, distilled = groups()
    _near(gain(distilled, baseline, AP), 0.06, 0.01)  # .07, .05, .06


def test_without_the_same_seeds_a_gain_has_no_deviation(groups):
    baseline, distilled = groups(distilled=((0, 0.27), (7, 0.29)))
    _near(gain(distilled, baseline, AP), 0.06, None)


def test_one_seed_has_no_deviation():
    assert mean_std([0.3]) == MeanStd(0.3, None)


@pytest.mark.parametrize(
    ("distilled", "baseline", "teacher", "ratio"),
    [
        (0.28, 0.22, 0.34, 0.5),
        (0.20, 0.22, 0.32, -0.2),
        (0.40, 0.22, 0.34, 1.5),
        (0.28, 0.22, 0.22, None),
        (0.28, 0.22, 0.10, None),
        (0.28, 0.22, None, None),
    ],
)
def test_the_closed_gap_is_known_if_the_teacher_is_above_the_baseline(distilled, baseline, teacher, ratio):
    found = closed_ratio(distilled, baseline, teacher)
    assert found == (None if ratio is None else pytest.approx(ratio))


def test_a_mean_curve_has_the_steps_that_all_seeds_have():
    points = mean_curve([{50: 1.0, 100: 2.0, 150: 9.0}, {100: 4.0, 50: 3.0}])
    assert list(points) == [50, 100]
    _near(points[50], 2.0, 2**0.5)
    _near(points[100], 3.0, 2**0.5)


def test_the_table_has_gains_and_closed_gaps(groups):
    both = groups()
    teacher = ModelResult({AP: 0.34}, {}, [])
    results = ModelResults(models={"teacher": teacher}, teacher_of={"distilled": "teacher"})
    table = ap_table(both, both[0], results, "mask")
    assert table.header[:2] == ["mask, %", "AP"]
    assert {row[0]: row[1] for row in table.rows} == {
        "baseline": "22.0 ± 2.0",
        "distilled": "28.0 ± 1.0",
        "distilled - baseline": "+6.0 ± 1.0",
        "distilled: gap to the teacher closed": "50 %",
        "teacher": "34.0",
    }
    assert [row[2] for row in table.rows] == ["-"] * 5  # AP50 was not measured
    assert str(table).splitlines()[1].split() == ["baseline", "22.0", "±", "2.0", *"-----"]


def test_a_negative_gain_has_a_minus_sign(groups):
    both = groups(distilled=((0, 0.15), (1, 0.20), (2, 0.19)))
    rows = ap_table(both, both[0], ModelResults(), "mask").rows
    assert rows[2][:2] == ["distilled - baseline", "-4.0 ± 1.0"]


def test_a_metric_that_was_not_measured_has_no_table(made, tmp_path):
    run = made.write_run(tmp_path / "a", [made.training(50)])
    groups = group_runs(read_runs([run]))
    with pytest.raises(NoDataError, match="no validation measured mask AP"):
        ap_table(groups, groups[0], ModelResults(), "mask")
