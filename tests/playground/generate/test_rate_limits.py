"""Rate limits of visitors."""

import pytest
from starlette.requests import Request

from playground.generate.rate_limits import (
    BURST,
    FORGET_SECONDS,
    SHARING,
    STARTS_PER_MINUTE,
    RateLimiter,
    TooManyRequests,
    Visitor,
    page_visitor,
    program_visitor,
)


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
        limiter.admit(Visitor(address))


def test_a_visitor_has_a_burst_and_then_waits(limiter, clock):
    use_up(limiter, "a")
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit(Visitor("a"))
    assert 0 < refused.value.seconds <= 60
    assert str(refused.value.seconds) in str(refused.value)
    clock.now += refused.value.seconds
    limiter.admit(Visitor("a"))  # the reported delay is enough
    with pytest.raises(TooManyRequests):
        limiter.admit(Visitor("a"))


def test_several_starts_are_admitted_together_or_not_at_all(limiter, clock):
    for _ in range(BURST - 1):
        limiter.admit(Visitor("a"))
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit(Visitor("a"), starts=2)
    clock.now += refused.value.seconds
    limiter.admit(Visitor("a"), starts=2)  # the reported delay is enough for both


def test_without_a_limit_nobody_waits(clock):
    limiter = RateLimiter(clock, per_minute=0)
    for _ in range(10 * BURST):
        limiter.admit(Visitor("a"))
    assert len(limiter) == 0


def test_visitors_are_counted_separately(limiter):
    use_up(limiter, "a")
    limiter.admit(Visitor("b"))


def test_the_rate_holds_in_the_long_run(limiter, clock):
    started = 0
    for _ in range(600):  # ten minutes, with an attempt every second
        clock.now += 1
        try:
            limiter.admit(Visitor("a"))
            started += 1
        except TooManyRequests:
            pass
    assert started == pytest.approx(10 * STARTS_PER_MINUTE + BURST, abs=1)


def test_unused_capacity_is_capped_at_the_burst(limiter, clock):
    limiter.admit(Visitor("a"))
    clock.now += 10**6
    use_up(limiter, "a")
    with pytest.raises(TooManyRequests):
        limiter.admit(Visitor("a"))


def test_full_buckets_are_discarded_and_others_kept(limiter, clock):
    for number in range(1500):
        limiter.admit(Visitor(f"early {number}"))
    clock.now += FORGET_SECONDS
    use_up(limiter, "hasty")
    assert len(limiter) < 1000
    with pytest.raises(TooManyRequests):
        limiter.admit(Visitor("hasty"))


def test_a_class_behind_one_address_is_counted_by_browser(limiter):
    for pupil in range(32):
        for _ in range(BURST):
            limiter.admit(Visitor("school", own=f"session {pupil}"))
        with pytest.raises(TooManyRequests):
            limiter.admit(Visitor("school", own=f"session {pupil}"))


def test_new_sessions_do_not_lift_the_limit_of_an_address(limiter, clock):
    for number in range(BURST * SHARING):
        limiter.admit(Visitor("a", own=f"session {number}"))
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit(Visitor("a", own="one more"))
    clock.now += refused.value.seconds
    limiter.admit(Visitor("a", own="one more"))


def test_the_operator_sets_the_limit(clock):
    limiter = RateLimiter(clock, per_minute=6)
    use_up(limiter, "a")
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit(Visitor("a"))
    assert refused.value.seconds == 10


def request(address: str, session: str = "", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    made = Request({"type": "http", "client": (address, 1), "headers": raw})
    made.session_hash = session  # as Gradio's request has it
    return made


def test_a_visitor_is_a_session_of_the_page_a_key_or_an_address():
    one, other = (page_visitor(request("192.0.2.1", session)) for session in ("x", "y"))
    assert one.own != other.own and one.address == other.address == "192.0.2.1"
    keys = [program_visitor(request("192.0.2.1", authorization=f"Bearer {key}")).own for key in "ab"]
    assert len(set(keys)) == 2 and "Bearer" not in keys[0]
    assert program_visitor(request("192.0.2.1", "x")) == Visitor("192.0.2.1")


@pytest.mark.parametrize(
    ("visitor", "limited"),
    [
        (request("127.0.0.1"), False),
        (request("::1"), False),
        (request("127.0.0.1", x_forwarded_for="unknown"), True),  # a proxy that names no client
        (request("192.0.2.1"), True),
    ],
)
def test_requests_from_this_machine_are_not_limited(clock, visitor, limited):
    limiter = RateLimiter(clock, open_here=True)
    limiter.admit(program_visitor(visitor), BURST)
    if limited:
        with pytest.raises(TooManyRequests):
            limiter.admit(program_visitor(visitor))
    else:
        limiter.admit(program_visitor(visitor), BURST)
