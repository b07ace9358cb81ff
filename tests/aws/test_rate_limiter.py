"""The pace, against a simulated account that grants so many calls a second."""

import heapq

import pytest

from sparekey.aws.rate_limiter import RateLimiter


class Limiter:
    """A token bucket, as AWS keeps one per account and action."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.tokens, self.at = rate, burst, burst, 0.0

    def grants(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def run(calls: int, limiter: Limiter, latency: float = 0.03) -> tuple[float, int]:
    """Seconds until all calls were granted, and the requests that took; each worker holds one call."""
    pace, waiting, now, requests = RateLimiter(), calls, 0.0, 0
    events: list[tuple[float, int, str, float]] = []
    busy = number = 0

    def later(at: float, what: str, sent: float = 0.0) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (at, number, what, sent))

    while waiting or events:
        while waiting and busy < pace.max_in_flight:
            waiting, busy = waiting - 1, busy + 1
            later(now, "turn")
        now, _, what, sent = heapq.heappop(events)
        if what == "turn":
            if pause := pace.reserve(now):
                later(now + pause, "turn")
            else:
                requests += 1
                later(now + latency, "good" if limiter.grants(now) else "throttled", now)
        elif what == "good":
            busy -= 1
            pace.granted(now, latency)
        else:
            pace.throttled(now, sent)
            later(now, "turn")
    return now, requests


@pytest.mark.parametrize(("rate", "burst"), [(20, 1), (20, 5), (20, 20), (5, 5), (100, 20)])
def test_a_limited_account_is_read_nearly_as_fast_as_its_limit_allows(rate: int, burst: int) -> None:
    calls = 50 * rate
    seconds, requests = run(calls, Limiter(rate, burst))
    assert seconds <= 1.15 * max(calls - burst, 1) / rate
    assert requests <= 1.2 * calls


def test_an_account_that_never_objects_is_held_back_by_nothing() -> None:
    seconds, requests = run(2000, Limiter(1e9, 1e9))
    assert seconds == pytest.approx(2000 * 0.03 / 64, rel=0.15)
    assert requests == 2000


def test_a_throttle_halves_the_width_once_for_all_calls_of_the_same_round() -> None:
    pace = RateLimiter(width=32)
    for _ in range(4):
        pace.granted(1.0, 0.03)
    pace.throttled(1.1, sent=1.09)
    assert pace.max_in_flight == 18
    pace.throttled(1.11, sent=1.095)
    assert pace.max_in_flight == 18
    pace.throttled(1.2, sent=1.15)
    assert pace.max_in_flight == 9


def test_the_pace_recovers_when_the_account_stops_objecting() -> None:
    pace = RateLimiter()
    pace.throttled(1.0, sent=0.9)
    slow, later = pace.rate(1.0), pace.rate(11.0)
    assert slow is not None
    assert later is not None
    assert later > 10 * slow


@pytest.mark.parametrize("throttles", [1, 2])
@pytest.mark.parametrize("days", [0.1, 3, 300])
def test_a_throttle_of_long_ago_is_forgotten(throttles: int, days: float) -> None:
    pace = RateLimiter()
    for number in range(throttles):
        pace.throttled(1.0 + number, sent=0.9 + number)
    assert pace.reserve(1.0 + days * 86400) == 0
    assert pace.reserve(1.001 + days * 86400) < 0.01


@pytest.mark.parametrize("throttles", [1, 2])
def test_a_clock_that_is_set_back_holds_nothing_up(throttles: int) -> None:
    pace = RateLimiter()
    for number in range(throttles):
        pace.granted(7200.0 + number, 0.03)
        pace.throttled(7200.1 + number, sent=7200.0 + number)
    now, waited = 3600.0, 0.0
    for _ in range(5):
        while pause := pace.reserve(now):
            now, waited = now + pause, waited + pause
    assert waited < 10
    pace.granted(now, -3600.0)
    assert pace.max_in_flight >= 2
