"""What every store promises (``harness/stores/api.py``), held against each of them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.attempt import Attempt, MemoryBlobs, Role
from harness.errors import InputError, StoreError
from harness.plan import NO_PRODUCT, Cell, LeftOut
from harness.stores.api import RunState, StaleClaim, Store
from harness.stores.memory import MemoryStore
from harness.stores.run_names import mark_folder
from harness.stores.sqlite import SqliteStore
from harness.verdict import Outcome
from tests.builders import (
    NOON,
    at,
    attempt_for,
    make_build,
    make_cell,
    make_image,
    make_judgement,
    make_plan,
    make_product,
    make_run,
    make_scenario,
    make_suite,
    make_update_scenario,
    sha256_of,
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, new_store: Path) -> Iterator[Store]:
    made: Store = MemoryStore()
    if request.param == "sqlite":
        made = SqliteStore(shutil.copytree(new_store, tmp_path / "store"))
    yield made
    made.close()


@pytest.fixture
def cell() -> Cell:
    return make_cell()


def begin(store: Store, *cells: Cell, run_id: str = "run-1") -> None:
    store.start_run(make_run(run_id), make_plan(*cells))


def record(store: Store, cell: Cell, *, run_id: str = "run-1", role: Role = Role.FIRST, ordinal: int = 1) -> Attempt:
    claim = store.claim(run_id, cell, role=role, ordinal=ordinal)
    attempt = attempt_for(claim, cell)
    store.save(claim, attempt)
    return attempt


def finish(store: Store, *cells: Cell, run_id: str = "run-1") -> None:
    for cell in [*cells, *(c.control() for c in cells)]:
        store.add_judgement(run_id, cell, make_judgement())
    store.finish_run(run_id, at=at(60), state=RunState.COMPLETE)


# --- runs and plans -------------------------------------------------------------------------------------------------


def test_a_plan_comes_back_equal_with_its_cells_in_their_order(store: Store) -> None:
    suite = make_suite(
        builds=[make_build("1.1.0", host_path="/builds/b.exe"), make_build("1.0.0", host_path="/builds/a.exe")],
        products=[
            make_product("fapolicyd", "baseline"),
            make_product("clamav", "2026-11-04"),
            make_product("clamav", "2026-11-04", "2026-11-05"),
            NO_PRODUCT,
        ],
        scenarios=[make_update_scenario(), make_scenario()],
        leave_out=[LeftOut(product="fapolicyd", build="1.0.0", reason="never sold together")],
    )
    plan = make_plan(suite=suite)
    reversed_plan = plan.model_copy(update={"cells": plan.cells[::-1]})
    store.start_run(make_run("a"), plan)
    store.start_run(make_run("b"), reversed_plan)
    assert store.plan_of("a") == plan
    assert store.plan_of("b") == reversed_plan
    assert store.plan_of("a").cells[0].build.installer.host_path == plan.cells[0].build.installer.host_path != ""


def test_what_the_key_does_not_cover_is_kept_for_each_run(store: Store) -> None:
    here = make_cell(image=make_image(reference="hts/reference:1", recipe="r1"), build=make_build(host_path="/a"))
    there = make_cell(image=make_image(reference="hts/reference:2", recipe="r2"), build=make_build(host_path="/b"))
    assert here.execution_key() == there.execution_key()
    begin(store, here, run_id="a")
    begin(store, there, run_id="b")
    assert store.plan_of("a").cells == (here,)
    assert store.plan_of("b").cells == (there,)


def test_an_empty_plan_is_a_run_without_cells(store: Store) -> None:
    suite = make_suite(products=[make_product("clamav", "a", "b")])
    plan = make_plan(suite=suite)
    assert plan.cells == ()
    store.start_run(make_run(expected_cells=0), plan)
    assert store.plan_of("run-1") == plan
    assert store.judgements("run-1") == {}


def test_a_run_is_started_once(store: Store, cell: Cell) -> None:
    begin(store, cell)
    with pytest.raises(StoreError, match="run-1"):
        begin(store, cell)


def test_two_cells_of_one_name_are_refused_and_nothing_is_written(store: Store) -> None:
    twin = make_cell(build=make_build("1.0.0", name="OtherHTS"))
    assert twin.id == make_cell().id
    with pytest.raises(InputError, match="same name"):
        begin(store, make_cell(), twin)
    assert store.runs() == []


def test_runs_are_newest_first_and_latest_is_the_newest_complete_one_that_is_no_drill(store: Store, cell: Cell) -> None:
    plan = make_plan(cell)
    with pytest.raises(InputError, match="no complete run"):
        store.find_run("latest")
    for name, seconds, drill in (("old", 0, False), ("good", 10, False), ("drill", 20, True), ("going", 30, False)):
        store.start_run(make_run(name, started_at=at(seconds), drill=drill), plan)
        if name != "going":
            finish(store, cell, run_id=name)
    store.start_run(make_run("stopped", started_at=at(40)), plan)
    store.finish_run("stopped", at=at(50), state=RunState.INTERRUPTED)
    assert [run.id for run in store.runs()] == ["stopped", "going", "drill", "good", "old"]
    latest = store.find_run("latest")
    assert (latest.id, latest.state, latest.finished_at) == ("good", RunState.COMPLETE, at(60))


def test_of_runs_that_began_together_the_later_written_is_newer(store: Store, cell: Cell) -> None:
    for name in ("b", "a", "c"):
        begin(store, cell, run_id=name)
    assert [run.id for run in store.runs()] == ["c", "a", "b"]


def test_a_run_is_found_by_id_prefix_and_folder(store: Store, cell: Cell, tmp_path: Path) -> None:
    for name in ("20261105-1", "20261105-12", "20261106-%"):
        begin(store, cell, run_id=name)
    folder = tmp_path / "report"
    folder.mkdir()
    mark_folder(folder, "20261105-12")
    assert store.find_run("20261105-1").id == "20261105-1"
    assert store.find_run("20261106").id == "20261106-%"
    assert store.find_run(str(folder)).id == "20261105-12"


@pytest.mark.parametrize("name", ["", "%", "2026", "nothing", "/", "a\0b", "../store"])
def test_a_name_that_fits_no_run_or_several_is_the_users_trouble(store: Store, cell: Cell, name: str) -> None:
    for run_id in ("20261105-1", "20261105-2"):
        begin(store, cell, run_id=run_id)
    with pytest.raises(InputError) as caught:
        store.find_run(name)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": 1}', '{"run": "gone"}', "[" * 100_000, "\udcff"])
def test_a_folder_with_a_bad_marker_is_the_users_trouble(store: Store, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError):
        store.find_run(str(tmp_path))


def test_a_run_is_not_complete_while_an_expected_cell_has_no_judgement(store: Store, cell: Cell) -> None:
    begin(store, cell)
    store.add_judgement("run-1", cell, make_judgement())
    with pytest.raises(StoreError, match="not complete") as caught:
        store.finish_run("run-1", at=NOON, state=RunState.COMPLETE)
    assert cell.control().id in caught.value.detail
    assert store.find_run("run-1").state is RunState.RUNNING
    store.add_judgement("run-1", cell.control(), make_judgement())
    store.finish_run("run-1", at=NOON, state=RunState.COMPLETE)
    assert store.find_run("run-1").state is RunState.COMPLETE


def test_an_unsupported_cell_needs_its_judgement_and_no_control(store: Store) -> None:
    cell = make_cell(unsupported="never sold together")
    begin(store, cell)
    assert store.unfinished("run-1") == [cell]
    store.add_judgement("run-1", cell, make_judgement(Outcome.UNSUPPORTED))
    store.finish_run("run-1", at=NOON, state=RunState.COMPLETE)


def test_a_complete_run_stays_complete_and_running_is_no_end(store: Store, cell: Cell) -> None:
    begin(store, cell)
    with pytest.raises(ValueError, match="final"):
        store.finish_run("run-1", at=NOON, state=RunState.RUNNING)
    finish(store, cell)
    with pytest.raises(StoreError, match="complete already"):
        store.finish_run("run-1", at=NOON, state=RunState.INTERRUPTED)
    with pytest.raises(StoreError, match="complete already"):
        store.resume_run("run-1")


def test_a_run_that_is_not_there_is_said_by_every_method(store: Store, cell: Cell) -> None:
    calls = (
        lambda: store.plan_of("x"),
        lambda: store.judgements("x"),
        lambda: store.unfinished("x"),
        lambda: store.resume_run("x"),
        lambda: store.finish_run("x", at=NOON, state=RunState.INTERRUPTED),
        lambda: store.claim("x", cell, role=Role.FIRST, ordinal=1),
        lambda: store.attempts("x", cell),
        lambda: store.add_judgement("x", cell, make_judgement()),
    )
    for call in calls:
        with pytest.raises(StoreError, match="no run 'x'"):
            call()


# --- resume ---------------------------------------------------------------------------------------------------------


def test_unfinished_cells_come_in_the_plans_order_and_controls_last(store: Store) -> None:
    one, two, three = (make_cell(product=make_product("clamav", label)) for label in "cab")
    begin(store, one, two, three)
    store.add_judgement("run-1", two, make_judgement(Outcome.INCONCLUSIVE))
    assert store.unfinished("run-1") == [one, three, one.control()]


def test_resuming_takes_open_claims_away_and_keeps_finished_attempts(store: Store, cell: Cell) -> None:
    begin(store, cell)
    kept = record(store, cell, role=Role.CONTROL)
    dead = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    store.finish_run("run-1", at=NOON, state=RunState.INTERRUPTED)
    info = store.resume_run("run-1")
    assert (info.state, info.finished_at) == (RunState.RUNNING, None)
    assert store.find_run("run-1") == info
    with pytest.raises(StaleClaim):
        store.save(dead, attempt_for(dead, cell))
    again = record(store, cell)
    assert [a.meta.id for a in store.attempts("run-1", cell)] == [again.meta.id, kept.meta.id]


# --- attempts and fences --------------------------------------------------------------------------------------------


def test_an_attempt_comes_back_as_it_was_saved(store: Store, cell: Cell) -> None:
    begin(store, cell)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    raws = (b"", b"\x00\xff raw \r\n", "한글".encode("cp949"), b"x" * 100_000)
    attempt = attempt_for(claim, cell, raws=raws)
    store.save(claim, attempt)
    (found,) = store.attempts("run-1", cell)
    assert (found.meta, found.events) == (attempt.meta, attempt.events)
    assert [found.blobs.get(sha256_of(raw)) for raw in raws] == list(raws)
    assert [store.blobs().get(sha256_of(raw)) for raw in raws] == list(raws)


def test_a_claim_takes_the_attempt_from_whoever_had_it(store: Store, cell: Cell) -> None:
    begin(store, cell)
    late = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    current = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    assert current.fence > late.fence
    assert current.attempt_id != late.attempt_id
    with pytest.raises(StaleClaim):
        store.save(late, attempt_for(late, cell, raws=[b"late"]))
    assert store.attempts("run-1", cell) == []
    store.save(current, attempt_for(current, cell))
    with pytest.raises(StaleClaim):
        store.save(late, attempt_for(late, cell, raws=[b"late"]))
    assert [a.meta.id for a in store.attempts("run-1", cell)] == [current.attempt_id]


def test_a_doubled_worker_cannot_save_twice(store: Store, cell: Cell) -> None:
    begin(store, cell)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    store.save(claim, attempt_for(claim, cell, raws=[b"first"]))
    with pytest.raises(StaleClaim):
        store.save(claim, attempt_for(claim, cell, raws=[b"second"]))
    (found,) = store.attempts("run-1", cell)
    assert found.events[1].blob == sha256_of(b"first")


def test_a_finished_attempt_counts_until_a_newer_one_is_saved_and_stays_readable(store: Store, cell: Cell) -> None:
    begin(store, cell)
    old = record(store, cell)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    assert [a.meta.id for a in store.attempts("run-1", cell)] == [old.meta.id]
    store.save(claim, attempt_for(claim, cell))
    assert [a.meta.id for a in store.attempts("run-1", cell)] == [claim.attempt_id]
    assert [a.meta.id for a in store.attempts_by_id([old.meta.id])] == [old.meta.id]


def test_a_judgement_by_an_attempt_that_was_made_anew_is_refused(store: Store, cell: Cell) -> None:
    begin(store, cell)
    old, control = record(store, cell), record(store, cell, role=Role.CONTROL)
    new = record(store, cell)
    for stale in (
        make_judgement(attempts=(old.meta.id,), controls=(control.meta.id,)),
        make_judgement(attempts=(control.meta.id,), controls=(old.meta.id,)),
    ):
        with pytest.raises(StaleClaim, match=old.meta.id):
            store.add_judgement("run-1", cell, stale)
    assert store.judgements("run-1") == {}
    store.add_judgement("run-1", cell, make_judgement(attempts=(new.meta.id,), controls=(control.meta.id,)))
    assert store.judgements("run-1")[cell.id].attempts == (new.meta.id,)


def test_an_open_claim_makes_no_finished_attempt_stale(store: Store, cell: Cell) -> None:
    begin(store, cell)
    kept = record(store, cell)
    store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    store.add_judgement("run-1", cell, make_judgement(attempts=(kept.meta.id,)))
    assert list(store.judgements("run-1")) == [cell.id]


def test_roles_ordinals_cells_and_runs_have_fences_of_their_own(store: Store, cell: Cell) -> None:
    other = make_cell(product=make_product("clamav", "2026-11-05"))
    begin(store, cell, other)
    begin(store, cell, run_id="run-2")
    claims = [
        store.claim("run-1", cell, role=Role.FIRST, ordinal=1),
        store.claim("run-1", cell, role=Role.FIRST, ordinal=2),
        store.claim("run-1", cell, role=Role.CONFIRM, ordinal=1),
        store.claim("run-1", other, role=Role.FIRST, ordinal=1),
        store.claim("run-2", cell, role=Role.FIRST, ordinal=1),
    ]
    for claim in claims:
        store.save(claim, attempt_for(claim, other if claim is claims[3] else cell))
    assert len(store.attempts("run-1", cell)) == 3


def test_attempts_come_in_order_of_role_and_ordinal_whatever_the_order_of_saving(store: Store, cell: Cell) -> None:
    begin(store, cell)
    wanted = [(Role.FIRST, 1), (Role.CONFIRM, 1), (Role.CONFIRM, 2), (Role.CONFIRM, 10), (Role.RETRY, 1)]
    for role, ordinal in reversed(wanted):
        record(store, cell, role=role, ordinal=ordinal)
    assert [(a.meta.role, a.meta.ordinal) for a in store.attempts("run-1", cell)] == wanted


def test_attempts_by_id_come_from_any_run_in_the_order_asked(store: Store, cell: Cell) -> None:
    begin(store, cell, run_id="a")
    begin(store, cell, run_id="b")
    one, two = record(store, cell, run_id="a").meta.id, record(store, cell, run_id="b").meta.id
    assert [a.meta.id for a in store.attempts_by_id([two, one, two])] == [two, one, two]
    assert store.attempts_by_id([]) == []


def test_an_attempt_that_is_not_finished_is_not_found(store: Store, cell: Cell) -> None:
    begin(store, cell)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    for name in (claim.attempt_id, "never"):
        with pytest.raises(StoreError, match="no finished attempt"):
            store.attempts_by_id([name])


def test_an_attempt_without_its_end_can_be_kept(store: Store, cell: Cell) -> None:
    begin(store, cell)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    whole = attempt_for(claim, cell)
    store.save(claim, Attempt(meta=whole.meta, events=whole.events[:-1], blobs=whole.blobs))
    assert not store.attempts("run-1", cell)[0].complete


def test_an_attempt_of_another_claim_is_refused(store: Store, cell: Cell) -> None:
    other = make_cell(product=make_product("clamav", "2026-11-05"))
    begin(store, cell, other)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    with pytest.raises(ValueError, match="not the one claimed"):
        store.save(claim, attempt_for(claim, other))
    store.save(claim, attempt_for(claim, cell))


def test_an_attempt_that_lacks_a_blob_is_refused_and_the_claim_stays_good(store: Store, cell: Cell) -> None:
    begin(store, cell)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    whole = attempt_for(claim, cell, raws=[b"log"])
    for blobs in ({}, {sha256_of(b"log"): b"other bytes"}):
        with pytest.raises(ValueError, match="blob"):
            store.save(claim, Attempt(meta=whole.meta, events=whole.events, blobs=MemoryBlobs(blobs)))
        assert store.attempts("run-1", cell) == []
    store.save(claim, whole)


def test_a_cell_that_the_run_does_not_expect_is_refused(store: Store, cell: Cell) -> None:
    other = make_cell(product=make_product("clamav", "2026-11-05"))
    begin(store, cell)
    for call in (
        lambda: store.claim("run-1", other, role=Role.FIRST, ordinal=1),
        lambda: store.add_judgement("run-1", other, make_judgement()),
        lambda: store.attempts("run-1", other),
    ):
        with pytest.raises(StoreError, match="does not expect"):
            call()


@pytest.mark.parametrize("name", ["0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63 + "\n", "a/b"])
def test_a_blob_that_is_not_there_is_a_key_error_whatever_its_name(store: Store, name: str) -> None:
    with pytest.raises(KeyError):
        store.blobs().get(name)


def test_threads_share_a_store_and_exactly_one_of_many_claims_wins(store: Store, cell: Cell) -> None:
    begin(store, cell)
    stale: list[int] = []

    def work() -> None:
        claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
        barrier.wait()
        try:
            store.save(claim, attempt_for(claim, cell))
        except StaleClaim:
            stale.append(claim.fence)

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stale) == list(range(1, 8))
    assert len(store.attempts("run-1", cell)) == 1


# --- judgements -----------------------------------------------------------------------------------------------------


def test_the_newest_judgement_counts_and_comes_back_equal(store: Store, cell: Cell) -> None:
    begin(store, cell)
    attempt, control = record(store, cell), record(store, cell.control(), role=Role.CONTROL)
    older = make_judgement(Outcome.QUARANTINED, attempts=[attempt.meta.id], controls=[control.meta.id])
    newer = make_judgement(Outcome.BLOCKED, attempts=[attempt.meta.id], judged_at=at(-5), reason="제품이 막았다")
    for judgement in (older, newer):
        store.add_judgement("run-1", cell, judgement)
    assert store.judgements("run-1") == {cell.id: newer}


def test_controls_are_judged_under_their_own_id(store: Store, cell: Cell) -> None:
    begin(store, cell)
    store.add_judgement("run-1", cell.control(), make_judgement(Outcome.BUILD_FAULT))
    assert list(store.judgements("run-1")) == [cell.control().id]


def test_a_control_that_the_plan_lists_is_one_expected_cell(store: Store, cell: Cell) -> None:
    control = cell.control()
    begin(store, control, cell)
    assert store.unfinished("run-1") == [control, cell]
    for expected in (cell, control):
        store.add_judgement("run-1", expected, make_judgement())
    store.finish_run("run-1", at=NOON, state=RunState.COMPLETE)


def test_a_cell_that_the_plan_lists_twice_is_judged_once(store: Store, cell: Cell) -> None:
    twin = cell.model_copy(update={"image": make_image(reference="another:tag")})
    assert twin.execution_key() == cell.execution_key()
    begin(store, cell, twin, cell)
    assert store.plan_of("run-1").cells == (cell, twin, cell)
    assert store.unfinished("run-1") == [cell, cell.control()]
    store.add_judgement("run-1", twin, make_judgement())
    store.add_judgement("run-1", cell.control(), make_judgement())
    store.finish_run("run-1", at=NOON, state=RunState.COMPLETE)


def test_a_judgement_of_an_attempt_that_is_not_finished_is_refused(store: Store, cell: Cell) -> None:
    begin(store, cell)
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    for judgement in (make_judgement(attempts=[claim.attempt_id]), make_judgement(controls=["never"])):
        with pytest.raises(StoreError, match="no finished attempt"):
            store.add_judgement("run-1", cell, judgement)
    assert store.judgements("run-1") == {}


def test_the_latest_judgement_is_the_newest_seen_over_all_runs(store: Store, cell: Cell) -> None:
    key = cell.execution_key()
    assert store.latest_judgement(key) is None
    begin(store, cell, run_id="monday")
    begin(store, cell, run_id="tuesday")
    monday = make_judgement(attempted_at=at(0), judged_at=at(1))
    tuesday = make_judgement(Outcome.INCONCLUSIVE, attempted_at=at(100), judged_at=at(101))
    store.add_judgement("monday", cell, monday)
    store.add_judgement("tuesday", cell, tuesday)
    assert store.latest_judgement(key) == tuesday
    store.add_judgement("monday", cell, make_judgement(attempted_at=at(0), judged_at=at(200)))
    assert store.latest_judgement(key) == tuesday
    again = make_judgement(Outcome.COMPATIBLE, attempted_at=at(100), judged_at=at(300))
    store.add_judgement("tuesday", cell, again)
    assert store.latest_judgement(key) == again
    lost = make_judgement(Outcome.INCONCLUSIVE, judged_at=at(400))
    store.add_judgement("tuesday", cell, lost)
    assert store.latest_judgement(key) == lost


def test_a_drill_never_answers_a_cell(store: Store, cell: Cell) -> None:
    store.start_run(make_run("drill", drill=True), make_plan(cell))
    store.add_judgement("drill", cell, make_judgement())
    assert store.latest_judgement(cell.execution_key()) is None
