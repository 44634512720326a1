"""An attempt whose guest has a way out: what is recorded, what makes it uncertain, and that it is never left open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from harness.attempt import CONNECTIONS, Attempt, Kind
from harness.egress import Egress, VendorCloud
from harness.egress_seen import EgressSeen
from harness.errors import InputError
from harness.fake_guest import Mischief
from harness.judge import egress_seen, judge
from harness.plan import Cell
from harness.run_cell import run_cell
from harness.verdict import Outcome
from harness.way_out.open_way import PROGRAM, loopback, program
from tests.fake_lab import FakeLab, cell, in_every_guest, parsers
from tests.test_run_cell import REBOOTED, ComingUp, attempt_of, attempt_with_reboot, meta_of
from tests.way_out.fake_way import Ask, FakeWay
from tests.way_out.guest_end import server

NOBODY_LISTENS = "localhost:1"


@pytest.fixture
def ways() -> Iterator[Callable[..., FakeWay]]:
    made: list[FakeWay] = []

    def make(during: Callable[[Ask], object] = lambda _ask: None, said: dict[str, object] | None = None) -> FakeWay:
        made.append(FakeWay(during, said))
        return made[-1]

    yield make
    for way in made:
        way.end()


def asking(target: str, ask: Ask) -> bytes:
    return ask(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode(), 0)


def opening(egress: Egress, asked: Cell | None = None) -> Cell:
    return (asked or cell()).model_copy(update={"egress": egress})


def seen_of(attempt: Attempt) -> EgressSeen:
    seen = egress_seen(attempt)
    assert seen is not None
    return seen


def troubles(attempt: Attempt) -> list[str]:
    return [e.subject for e in attempt.of(Kind.TROUBLE)]


def test_what_was_used_and_what_was_refused_is_recorded_before_the_end(ways: Callable[..., FakeWay]) -> None:
    with server(lambda connected: connected.sendall(b"price")) as port:
        target = f"localhost:{port}"

        def during(ask: Ask) -> None:
            assert asking(target, ask).endswith(b"price")
            assert asking("evil.example:443", ask).startswith(b"HTTP/1.1 403 ")

        attempt = attempt_of(opening(Egress(private_hosts=(target,))), rig=ways(during).rig())
    assert attempt.complete
    assert troubles(attempt) == []
    seen = seen_of(attempt)
    assert [(u.pair, u.connections, u.received_bytes) for u in seen.used] == [(target, 1, 5)]
    assert [(r.target, r.times) for r in seen.refused] == [("evil.example:443", 1)]
    assert seen.proven
    (event,) = attempt.of(Kind.EGRESS, subject=CONNECTIONS)
    lines = [json.loads(line) for line in attempt.blobs.get(event.blob or "").splitlines()]
    assert [line["planted"] for line in lines] == [True, False, False, True]
    assert judge([attempt], [], parsers=parsers).facts[0].complete


def test_a_way_out_of_which_nothing_is_recorded_or_proven_is_no_green(ways: Callable[..., FakeWay]) -> None:
    asked = opening(Egress(hosts=("a.kr:443",))).control()
    attempt = attempt_of(asked, rig=ways().rig())
    (event,) = attempt.of(Kind.EGRESS, subject=CONNECTIONS)
    unproven = event.model_copy(update={"data": event.data | {"proven": False}})
    unreadable = event.model_copy(update={"data": {"used": 5}})
    assert judge([attempt], [], parsers=parsers).findings[0].outcome is Outcome.COMPATIBLE
    for instead, why in (((), "not recorded"), ((unreadable,), "not recorded"), ((unproven,), "not proven")):
        at = attempt.events.index(event)
        events = (*attempt.events[:at], *instead, *attempt.events[at + 1 :])
        found = judge([replace(attempt, events=events)], [], parsers=parsers).findings[0]
        assert (found.outcome, found.rule) == (Outcome.INCONCLUSIVE, "control.trouble"), why
        assert why in found.reason


def test_a_cell_without_egress_has_no_way_out_and_no_record_of_one(ways: Callable[..., FakeWay]) -> None:
    way = ways()
    attempt = attempt_of(cell(), rig=way.rig())
    assert (way.argvs, attempt.of(Kind.EGRESS)) == ([], [])


def test_the_guest_s_part_listens_for_the_proxy_and_for_each_pair_that_has_a_name(
    ways: Callable[..., FakeWay],
) -> None:
    way = ways()
    cloud = VendorCloud(name="c", product="fake", hosts=("cloud.example.com:443",))
    egress = Egress(
        hosts=("a.kr:443", "a.kr:80", "b.kr:443", "93.184.216.34:443"),
        private_hosts=("localhost:443",),
        vendor_clouds=(cloud,),
    )
    attempt_of(opening(egress), rig=way.rig())
    first, other, third = loopback(1), loopback(3), loopback(4)
    wanted = ["127.0.0.1:3128", f"{first}:443", f"{first}:80", f"{other}:443", f"{third}:443"]
    assert [list(argv[3:]) for argv in way.argvs] == [wanted]
    (machine,) = way.lab.provider.machines.values()
    assert machine.files[PROGRAM] == program()


def test_an_open_host_that_is_away_makes_a_failed_step_uncertain(ways: Callable[..., FakeWay]) -> None:
    egress = Egress(private_hosts=(NOBODY_LISTENS,))
    way = ways(partial(asking, NOBODY_LISTENS))
    way.lab._script = in_every_guest(Mischief(dies_at="connect"))
    attempt = attempt_of(opening(egress), rig=way.rig())
    assert not attempt.complete
    assert troubles(attempt)[0].startswith(f"the host {NOBODY_LISTENS} could not be reached from this machine")


def test_an_open_host_that_is_away_costs_an_attempt_nothing_that_passed(ways: Callable[..., FakeWay]) -> None:
    egress = Egress(private_hosts=(NOBODY_LISTENS,))
    attempt = attempt_of(opening(egress), rig=ways(partial(asking, NOBODY_LISTENS)).rig())
    assert attempt.complete
    assert seen_of(attempt).used[0].failed == 1


def test_a_passed_attempt_whose_vendor_s_cloud_was_away_is_no_good_news(ways: Callable[..., FakeWay]) -> None:
    cloud = VendorCloud(name="c", product="fake", hosts=("no-such-host.invalid:443",))
    attempt = attempt_of(
        opening(Egress(vendor_clouds=(cloud,))), rig=ways(partial(asking, "no-such-host.invalid:443")).rig()
    )
    assert not attempt.complete
    assert judge([attempt], [], parsers=parsers).verdict.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    "said", [{"links": ["eth0", "lo"]}, {"routes": ["eth0"]}, {"answer": "HTTP/1.1 200 Connection established"}]
)
def test_a_guest_that_could_reach_more_is_no_evidence(said: dict[str, object], ways: Callable[..., FakeWay]) -> None:
    attempt = attempt_of(opening(Egress(private_hosts=(NOBODY_LISTENS,))), rig=ways(said=said).rig())
    assert not attempt.complete
    assert troubles(attempt) == ["The guest's way out was not proven: it did not refuse what is not open."]
    assert attempt.of(Kind.STEP_BEGIN) == []


def test_a_guest_that_only_says_that_it_was_refused_is_not_believed(ways: Callable[..., FakeWay]) -> None:
    way = ways(said={"answer": "HTTP/1.1 403 Forbidden"})
    way._ask = lambda data, listener=0: b""  # type: ignore[method-assign]
    attempt = attempt_of(opening(Egress(private_hosts=(NOBODY_LISTENS,))), rig=way.rig())
    assert troubles(attempt) == ["The guest's way out was not proven: it did not refuse what is not open."]


def test_a_way_out_that_is_cut_in_the_middle_convicts_nobody_and_is_no_good_news(ways: Callable[..., FakeWay]) -> None:
    way = ways()
    way.during = lambda _ask: way.cut()
    attempt = attempt_of(opening(Egress(private_hosts=(NOBODY_LISTENS,))), rig=way.rig())
    assert not attempt.complete
    assert any("way out was not proven" in text for text in troubles(attempt))
    assert not seen_of(attempt).proven


def test_what_went_out_is_recorded_whatever_befell_the_guest(ways: Callable[..., FakeWay]) -> None:
    way = ways()
    way.lab._script = in_every_guest(Mischief(lost_at="connect"))
    attempt = attempt_of(opening(Egress(private_hosts=(NOBODY_LISTENS,))), rig=way.rig())
    assert not attempt.complete
    assert not seen_of(attempt).proven


def test_a_provider_that_carries_none_is_bad_input() -> None:
    with pytest.raises(InputError, match="'fake' can give its guests no way out"):
        run_cell(meta_of(opening(Egress(hosts=("a.kr:1",)))), FakeLab().rig(), run_id="run-1")


def test_a_machine_that_reboots_has_its_way_out_closed_and_opened_anew(ways: Callable[..., FakeWay]) -> None:
    way = ways()
    asked = opening(Egress(private_hosts=(NOBODY_LISTENS,)), cell(of=REBOOTED))
    attempt, transports, _ = attempt_with_reboot(ComingUp, asked=asked, carry=way.rig().carry, factory=way.machine)
    assert (len(way.argvs), len(transports)) == (2, 2)
    assert troubles(attempt) == []
    assert attempt.complete
    assert seen_of(attempt).proven
