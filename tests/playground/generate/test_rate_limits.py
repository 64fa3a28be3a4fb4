"""How much one visitor may ask for."""

import pytest

from playground.generate.rate_limits import BURST, FORGET_SECONDS, STARTS_PER_MINUTE, TooManyRequests, Visitors


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def visitors(clock):
    return Visitors(clock)


def use_up(visitors, address):
    for _ in range(BURST):
        visitors.admit(address)


def test_a_visitor_may_start_so_many_and_then_waits(visitors, clock):
    use_up(visitors, "a")
    with pytest.raises(TooManyRequests) as refused:
        visitors.admit("a")
    assert 0 < refused.value.seconds <= 60
    assert str(refused.value.seconds) in str(refused.value)
    clock.now += refused.value.seconds
    visitors.admit("a")  # what it was told is true
    with pytest.raises(TooManyRequests):
        visitors.admit("a")


def test_several_starts_are_counted_together_or_not_at_all(visitors, clock):
    for _ in range(BURST - 1):
        visitors.admit("a")
    with pytest.raises(TooManyRequests) as refused:
        visitors.admit("a", starts=2)
    clock.now += refused.value.seconds
    visitors.admit("a", starts=2)  # what it was told is true of both


def test_one_visitor_s_haste_is_nobody_else_s(visitors):
    use_up(visitors, "a")
    visitors.admit("b")


def test_the_long_run_is_held_to_the_rate(visitors, clock):
    started = 0
    for _ in range(600):  # ten minutes, a try every second
        clock.now += 1
        try:
            visitors.admit("a")
            started += 1
        except TooManyRequests:
            pass
    assert started == pytest.approx(10 * STARTS_PER_MINUTE + BURST, abs=1)


def test_nothing_is_saved_up_beyond_the_burst(visitors, clock):
    visitors.admit("a")
    clock.now += 10**6
    use_up(visitors, "a")
    with pytest.raises(TooManyRequests):
        visitors.admit("a")


def test_who_was_away_is_forgotten_and_nobody_who_must_wait(visitors, clock):
    for number in range(5000):
        visitors.admit(f"early {number}")
    clock.now += FORGET_SECONDS
    use_up(visitors, "hasty")
    assert len(visitors) < 1000
    with pytest.raises(TooManyRequests):
        visitors.admit("hasty")
