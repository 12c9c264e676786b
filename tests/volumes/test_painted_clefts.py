import numpy as np
import pytest

from synapseclr.volumes.painted_clefts import paint_cleft

UNIT = (8.0, 8.0, 40.0)


def touching(gap=0):
    """Two slabs that touch in the plane x = 20, or a gap of voxels between them."""
    is_pre, is_post = np.zeros((2, 48, 48, 20), bool)
    is_pre[8:20], is_post[20 + gap : 34] = True, True
    return is_pre, is_post


def test_a_disc_is_painted_where_the_line_crosses_the_contact():
    is_pre, is_post = touching()
    cleft = paint_cleft(is_pre, is_post, np.array([12.0, 30, 8]), np.array([28.0, 30, 8]), UNIT, 32, 120)
    x, y, z = np.nonzero(cleft)
    assert (x.min(), x.max()) == (18, 21)  # 2 voxels of 8 nm on either side
    assert (y.mean(), z.mean()) == pytest.approx((30, 8))
    assert np.hypot((y - 30) * 8, (z - 8) * 40).max() <= 120
    area_nm2 = cleft[20].sum() * 8 * 40
    assert area_nm2 == pytest.approx(np.pi * 120**2, rel=0.1)


def test_a_gap_between_the_segments_is_filled():
    is_pre, is_post = touching(gap=2)
    cleft = paint_cleft(is_pre, is_post, np.array([12.0, 30, 8]), np.array([28.0, 30, 8]), UNIT, 32, 120)
    assert cleft[20:22, 30, 8].all()
    assert (np.nonzero(cleft)[0].min(), np.nonzero(cleft)[0].max()) == (19, 22)


def test_of_two_contacts_the_one_at_the_points_is_taken():
    is_pre, is_post = touching()
    is_pre[:, 20:28], is_post[:, 20:28] = False, False
    for y in (10.0, 40.0):
        cleft = paint_cleft(is_pre, is_post, np.array([12.0, y, 8]), np.array([28.0, y, 8]), UNIT, 32, 400)
        assert cleft.any()
        assert (np.nonzero(cleft)[1] < 24).all() == (y < 24)


def test_one_point_does_as_well_and_points_may_lie_outside():
    is_pre, is_post = touching()
    one = paint_cleft(is_pre, is_post, np.array([20.0, 30, 8]), np.array([20.0, 30, 8]), UNIT, 32, 120)
    assert one.any()
    paint_cleft(is_pre, is_post, np.array([-200.0, 30, 8]), np.array([-100.0, 30, 8]), UNIT, 32, 120)


def test_nothing_is_painted_where_the_segments_do_not_come_near():
    is_pre, is_post = touching(gap=10)
    points = np.array([12.0, 30, 8]), np.array([32.0, 30, 8])
    assert not paint_cleft(is_pre, is_post, *points, UNIT, 32, 120).any()
    assert not paint_cleft(is_pre, np.zeros_like(is_post), *points, UNIT, 32, 120).any()
