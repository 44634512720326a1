"""The sum of what went out of a guest, and what makes an attempt with a way out uncertain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.egress_seen import MAX_REFUSED, MAX_TARGET, Connection, Fate, How, doubts, plain, summed

HOST = "quotes.example.kr:443"


def tried(fate: Fate = Fate.OPENED, *, target: str = HOST, **more: object) -> Connection:
    return Connection.model_validate({"at_s": 1.0, "how": How.TUNNEL, "target": target, "fate": fate, **more})


def test_uses_are_summed_by_pair_and_refusals_by_reason() -> None:
    seen = summed(
        [
            tried(sent_bytes=10, received_bytes=100),
            tried(sent_bytes=1, received_bytes=2),
            tried(Fate.UNREACHABLE, why="Connection refused"),
            tried(target="cloud.example.com:443", cloud="a-cloud", sent_bytes=5),
            tried(Fate.REFUSED, target="evil.example:443", why="it is not open"),
            tried(Fate.REFUSED, target="evil.example:443", why="it is not open"),
            tried(Fate.REFUSED, target="nonce.invalid:443", planted=True),
        ],
        uncounted=3,
        proven=True,
    )
    assert [(u.pair, u.cloud, u.connections, u.failed, u.sent_bytes, u.received_bytes) for u in seen.used] == [
        (HOST, None, 3, 1, 11, 102),
        ("cloud.example.com:443", "a-cloud", 1, 0, 5, 0),
    ]
    assert seen.used[0].why == "Connection refused"
    assert [(r.target, r.times) for r in seen.refused] == [("evil.example:443", 2)]
    assert (seen.refused_more, seen.uncounted, seen.proven) == (0, 3, True)


def test_a_flood_of_names_is_cut_and_counted_the_most_tried_first() -> None:
    names = [f"h{n}.example:443" for n in range(MAX_REFUSED + 10)]
    seen = summed([tried(Fate.REFUSED, target=name) for name in [*names, names[-1]]])
    assert len(seen.refused) == MAX_REFUSED
    assert (seen.refused[0].target, seen.refused[0].times) == (names[-1], 2)
    assert seen.refused_more == 10


def test_an_open_host_that_was_away_makes_a_failed_step_uncertain_and_a_passed_one_not() -> None:
    away = [tried(Fate.UNREACHABLE, why="Connection refused")]
    assert doubts(away, uncounted=0, failed=False) == ()
    (why,) = doubts(away * 3, uncounted=0, failed=True)
    assert why == f"the host {HOST} could not be reached from this machine: Connection refused"


def test_a_vendor_s_cloud_that_was_away_makes_any_attempt_uncertain() -> None:
    away = [tried(Fate.UNREACHABLE, cloud="a-cloud", why="timed out")]
    assert doubts(away, uncounted=0, failed=False)


def test_a_limit_makes_an_attempt_uncertain_and_a_refusal_does_not() -> None:
    assert doubts([tried(Fate.LIMIT, why="too many bytes")], uncounted=0, failed=False)
    assert doubts([], uncounted=1, failed=False)
    assert doubts([tried(Fate.REFUSED, why="it is not open"), tried()], uncounted=0, failed=True) == ()


@given(st.text(max_size=1000))
def test_what_a_guest_wrote_is_plain_and_bounded(text: str) -> None:
    shown = plain(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= MAX_TARGET + 3
