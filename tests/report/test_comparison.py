"""Figures by hand: means, spreads, gains, shares of the gap."""

import pytest

from ibkd_mm.report import Evaluated, Evaluation, ap_table, as_text, group, read_runs
from ibkd_mm.report.comparison import Figure, band, gain, over_seeds, reached, share_closed
from ibkd_mm.report.style import LeftOutError

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
        return group(read_runs(runs))

    return groups


def _near(figure, mean, spread):
    assert figure.mean == pytest.approx(mean)
    assert figure.spread == (None if spread is None else pytest.approx(spread))


def test_mean_and_standard_deviation_over_seeds(groups):
    baseline, distilled = groups()
    _near(reached(baseline, AP), 0.22, 0.02)  # ((-.02)² + .02² + 0²) / 2 = .02²
    _near(reached(distilled, AP), 0.28, 0.01)


def test_a_gain_is_taken_seed_by_seed(groups):
    baseline, distilled = groups()
    _near(gain(distilled, baseline, AP), 0.06, 0.01)  # .07, .05, .06


def test_without_the_same_seeds_a_gain_has_no_spread(groups):
    baseline, distilled = groups(distilled=((0, 0.27), (7, 0.29)))
    _near(gain(distilled, baseline, AP), 0.06, None)


def test_one_seed_has_no_spread():
    assert over_seeds([0.3]) == Figure(0.3, None)


@pytest.mark.parametrize(
    ("distilled", "baseline", "teacher", "share"),
    [
        (0.28, 0.22, 0.34, 0.5),
        (0.20, 0.22, 0.32, -0.2),
        (0.40, 0.22, 0.34, 1.5),
        (0.28, 0.22, 0.22, None),
        (0.28, 0.22, 0.10, None),
        (0.28, 0.22, None, None),
    ],
)
def test_the_share_of_the_gap_is_known_where_the_teacher_is_above(distilled, baseline, teacher, share):
    found = share_closed(distilled, baseline, teacher)
    assert found == (None if share is None else pytest.approx(share))


def test_a_band_has_the_steps_that_all_seeds_have():
    points = band([{50: 1.0, 100: 2.0, 150: 9.0}, {100: 4.0, 50: 3.0}])
    assert list(points) == [50, 100]
    _near(points[50], 2.0, 2**0.5)
    _near(points[100], 3.0, 2**0.5)


def test_the_table_has_gains_and_shares_beside_the_figures(groups):
    both = groups()
    teacher = Evaluated({AP: 0.34}, {}, [])
    evaluation = Evaluation(models={"teacher": teacher}, teacher_of={"distilled": "teacher"})
    table = ap_table(both, both[0], evaluation, "mask")
    assert table.header[:2] == ["mask, %", "AP"]
    assert {row[0]: row[1] for row in table.rows} == {
        "baseline": "22.0 ± 2.0",
        "distilled": "28.0 ± 1.0",
        "distilled - baseline": "+6.0 ± 1.0",
        "distilled: share of the teacher's gap": "50 %",
        "teacher": "34.0",
    }
    assert [row[2] for row in table.rows] == ["-"] * 5  # AP50 was not measured
    assert as_text(table).splitlines()[1].split() == ["baseline", "22.0", "±", "2.0", *"-----"]


def test_a_loss_is_shown_as_one(groups):
    both = groups(distilled=((0, 0.15), (1, 0.20), (2, 0.19)))
    rows = ap_table(both, both[0], Evaluation(), "mask").rows
    assert rows[2][:2] == ["distilled - baseline", "-4.0 ± 1.0"]


def test_what_nobody_measured_has_no_table(made, tmp_path):
    run = made.write_run(tmp_path / "a", [made.training(50)])
    groups = group(read_runs([run]))
    with pytest.raises(LeftOutError, match="no validation measured mask AP"):
        ap_table(groups, groups[0], Evaluation(), "mask")
