"""Rate limits of visitors."""

import pytest

from playground.generate.rate_limits import BURST, FORGET_SECONDS, STARTS_PER_MINUTE, RateLimiter, TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return RateLimiter(clock)


def use_up(limiter, address):
    for _ in range(BURST):
        limiter.admit(address)


def test_a_visitor_has_a_burst_and_then_waits(limiter, clock):
    use_up(limiter, "a")
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit("a")
    assert 0 < refused.value.seconds <= 60
    assert str(refused.value.seconds) in str(refused.value)
    clock.now += refused.value.seconds
    limiter.admit("a")  # the reported delay is enough
    with pytest.raises(TooManyRequests):
        limiter.admit("a")


def test_several_starts_are_admitted_together_or_not_at_all(limiter, clock):
    for _ in range(BURST - 1):
        limiter.admit("a")
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit("a", starts=2)
    clock.now += refused.value.seconds
    limiter.admit("a", starts=2)  # the reported delay is enough for both


def test_without_a_limit_nobody_waits(clock):
    limiter = RateLimiter(clock, limited=False)
    for _ in range(10 * BURST):
        limiter.admit("a")
    assert len(limiter) == 0


def test_visitors_are_counted_separately(limiter):
    use_up(limiter, "a")
    limiter.admit("b")


def test_the_rate_holds_in_the_long_run(limiter, clock):
    started = 0
    for _ in range(600):  # ten minutes, with an attempt every second
        clock.now += 1
        try:
            limiter.admit("a")
            started += 1
        except TooManyRequests:
            pass
    assert started == pytest.approx(10 * STARTS_PER_MINUTE + BURST, abs=1)


def test_unused_capacity_is_capped_at_the_burst(limiter, clock):
    limiter.admit("a")
    clock.now += 10**6
    use_up(limiter, "a")
    with pytest.raises(TooManyRequests):
        limiter.admit("a")


def test_full_buckets_are_discarded_and_others_kept(limiter, clock):
    for number in range(1500):
        limiter.admit(f"early {number}")
    clock.now += FORGET_SECONDS
    use_up(limiter, "hasty")
    assert len(limiter) < 1000
    with pytest.raises(TooManyRequests):
        limiter.admit("hasty")
