"""Throttling of failed client authentication, with a clock of our own."""

from __future__ import annotations

from stockade.identity.client_auth import throttle as module
from stockade.identity.client_auth.throttle import Attempt, Throttle
from stockade.identity.config import Throttling

LIMITS = Throttling(client_burst=3, client_seconds_each=10, address_burst=6, address_seconds_each=1)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def fail(throttle: Throttle, address: str, client: str, times: int) -> Attempt:
    for _ in range(times):
        attempt = throttle.attempt(address, client)
        attempt.failed()
    return throttle.attempt(address, client)


def test_a_burst_is_allowed_then_one_at_a_time() -> None:
    clock = Clock()
    throttle = Throttle(LIMITS, clock)
    assert fail(throttle, "192.0.2.1", "a", 2).refused_for() is None
    assert fail(throttle, "192.0.2.1", "a", 1).refused_for() == 10
    clock.now += 10
    assert throttle.attempt("192.0.2.1", "a").refused_for() is None
    assert fail(throttle, "192.0.2.1", "a", 1).refused_for() == 10


def test_other_addresses_and_other_clients_are_left_alone() -> None:
    throttle = Throttle(LIMITS, Clock())
    fail(throttle, "192.0.2.1", "a", 3)
    assert throttle.attempt("192.0.2.2", "a").refused_for() is None
    assert throttle.attempt("192.0.2.1", "b").refused_for() is None


def test_an_address_that_tries_many_clients_is_throttled_as_a_whole() -> None:
    throttle = Throttle(LIMITS, Clock())
    for n in range(6):
        fail(throttle, "192.0.2.1", f"c{n}", 1)
    assert throttle.attempt("192.0.2.1", "new").refused_for() == 1


def test_a_client_that_succeeded_is_not_held_back_by_its_neighbours() -> None:
    clock = Clock()
    throttle = Throttle(LIMITS, clock)
    throttle.attempt("192.0.2.1", "good").succeeded()
    for n in range(60):
        fail(throttle, "192.0.2.1", f"c{n}", 1)
    assert throttle.attempt("192.0.2.1", "good").refused_for() is None
    clock.now += 3_601
    fail(throttle, "192.0.2.1", "x", 9)
    assert throttle.attempt("192.0.2.1", "good").refused_for() is not None


def test_success_forgives_failures() -> None:
    throttle = Throttle(LIMITS, Clock())
    fail(throttle, "192.0.2.1", "a", 2).succeeded()
    assert fail(throttle, "192.0.2.1", "a", 2).refused_for() is None


def test_an_ipv6_subscriber_is_one_address() -> None:
    throttle = Throttle(LIMITS, Clock())
    fail(throttle, "2001:db8::1", "a", 3)
    assert throttle.attempt("2001:db8::ffff", "a").refused_for() == 10
    assert throttle.attempt("2001:db8:0:1::1", "a").refused_for() is None


def test_memory_is_bounded() -> None:
    throttle = Throttle(LIMITS, Clock())
    for n in range(module.MAX_TRACKED + 500):
        fail(throttle, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "\udcff" * 1_000, 1)
    assert len(throttle._pairs) <= module.MAX_TRACKED
    assert len(throttle._addresses) <= module.MAX_TRACKED
