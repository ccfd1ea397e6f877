"""Learning rates: where they are highest, how they fall, and that an optimiser has them."""

import numpy as np
import pytest
import torch

from edgetalk.train.rates import cosine, linear, risen, set_rate


def test_a_rate_rises_over_the_first_steps():
    assert [risen(number, 4) for number in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert risen(0, 0) == risen(0, 1) == 1


@pytest.mark.parametrize("floor", [0.0, 0.02])
def test_rates_fall_from_all_to_their_floor(floor):
    progress = np.linspace(0, 1, 101)
    for fall, half in ((linear, 1.0), (cosine, floor + (1 - floor) / 2)):
        shares = [fall(float(p), floor) for p in progress]
        assert shares[0] == 1 and shares[50] == pytest.approx(half) and shares[-1] == pytest.approx(floor)
        assert (np.diff(shares) <= 1e-12).all()
    assert linear(0.75, floor) == pytest.approx((1 + floor) / 2)
    assert cosine(0.25, 0) == pytest.approx(np.cos(np.pi / 8) ** 2)


def test_all_groups_of_an_optimiser_have_the_rate():
    one, two = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    adam = torch.optim.Adam([{"params": [one]}, {"params": [two], "lr": 9.0}])
    set_rate(adam, 0.5)
    assert [group["lr"] for group in adam.param_groups] == [0.5, 0.5]
