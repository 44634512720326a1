"""Blows at real guests: six of those that ``make chaos`` deals, and what the drill makes of what it sees."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.image import Image
from harness.plan import Cell
from harness.providers.qemu.clone import OWNER, runs_folder
from harness.providers.qemu.layer import layers_folder
from harness.providers.qemu.template import ABOUT, digest_of
from harness.transports.api import CommandResult, Transport
from harness.transports.socket_stream import connected_to
from harness.verdict import Outcome
from tests.builders import make_cell
from tests.faults.blows import Blow, blows
from tests.faults.chaos_guests import FRESH, TRUE, UPDATED, Lab, StruckTransport, cases, struck_all
from tests.faults.journal import Journal
from tests.faults.machine_blows import FROM_OUTSIDE, machine_blows
from tests.faults.machine_remains import remains, sockets_to
from tests.faults.report import unmet
from tests.faults.spoiled_layers import SPOILT, spoiled
from tests.faults.struck import Case, Struck, by_blow, summary
from tests.providers.qemu.small_templates import write_files

CLEAN = ("1.0.0", "clamav", "2026-11-04", FRESH)
INCIDENT = ("1.0.0", "clamav", "2026-11-04+2026-11-05", UPDATED)
STRICT = ("1.0.0", "fapolicyd", "strict-1", FRESH)


@pytest.fixture(scope="module")
def lab(reference_image: Image) -> Lab:
    del reference_image  # its fixture says why there are no guests
    return Lab()


@pytest.mark.guest
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("key", "name", "at"),
    [
        (CLEAN, "kill clamd", 14),
        (CLEAN, "swap signatures", 14),
        (CLEAN, "an exclusion behind our back", 8),
        (INCIDENT, "a reload that silently fails", 5),
        (STRICT, "pause fapolicyd, and back", 10),
        (CLEAN, "drop the network, and back", 16),
        # Behind the program's start: a guest without one, as a known cell's, would not be struck at all.
        (CLEAN, "kill the program", 1),
    ],
)
def test_a_cell_that_is_struck_is_judged_right_or_not_at_all(
    lab: Lab, key: tuple[str, str, str, str], name: str, at: int
) -> None:
    cell = lab.cells[key]
    blow = next(b for b in blows(cell.product) if b.name == name)
    struck = lab.strike(Case(number=0, cell=cell, true=TRUE[key], blow=blow, at=at, guest=1))
    assert struck.fell_at is not None, struck.blow_said
    assert struck.verdict in {"right", "inconclusive"}, struck.reason + struck.false_proof
    assert struck.leaks == ()


@pytest.mark.guest
@pytest.mark.timeout(300)
def test_a_set_that_is_swapped_just_before_the_last_look_convicts_nobody(lab: Lab) -> None:
    """It was a wrong red: the module was taken at our own look, under a set that nobody had asked for."""
    key = ("1.2.0", "clamav", "2026-11-04", FRESH)
    cell = lab.cells[key]
    swap = next(b for b in blows(cell.product) if b.name == "swap signatures")
    late = replace(swap, behind="inspect_files.py")
    seen = lab.strike(Case(number=0, cell=cell, true=TRUE[key], blow=late, at=0, guest=1))
    assert seen.fell_at is not None, seen.blow_said
    assert seen.verdict in {"right", "inconclusive"}, seen.reason


# --- the drill itself -------------------------------------------------------------------------------------------------

HARMLESS = Blow(name="harmless")


def struck(outcome: Outcome | None, *, true: Outcome = Outcome.COMPATIBLE, false_proof: str = "") -> Struck:
    case = Case(number=0, cell=make_cell(), true=true, blow=HARMLESS, at=1, guest=1)
    return Struck(case=case, outcome=outcome, false_proof=false_proof)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (struck(Outcome.COMPATIBLE), "right"),
        (struck(Outcome.INCONCLUSIVE), "inconclusive"),
        (struck(Outcome.BROKEN), "wrong red"),
        (struck(Outcome.COMPATIBLE, true=Outcome.QUARANTINED), "wrong green"),
        (struck(Outcome.BLOCKED, true=Outcome.QUARANTINED), "wrong red"),
        (struck(Outcome.INCONCLUSIVE, false_proof="COMPATIBLE 3 s before the last canary"), "wrong green"),
        (struck(None), "lost"),
    ],
)
def test_what_came_of_a_struck_cell_is_named(seen: Struck, verdict: str) -> None:
    assert seen.verdict == verdict


def test_a_wrong_verdict_a_loss_and_a_leak_miss_their_goals() -> None:
    hit = struck(Outcome.COMPATIBLE)
    hit.fell_at = 1.0
    assert unmet(summary([hit], seed=0, took_s=1)) == []
    leaky = struck(Outcome.COMPATIBLE)
    leaky.leaks = ("1 guests",)
    done = [struck(Outcome.BROKEN), struck(Outcome.COMPATIBLE, true=Outcome.BROKEN), struck(None), leaky]
    missed = unmet(summary(done, seed=0, took_s=1))
    assert missed == ["blows_that_fell", "wrong_greens", "wrong_reds", "verdicts_lost", "leaks"]
    assert "harmless" in by_blow(done)


def cells_of_the_drill() -> dict[tuple[str, str, str, str], Cell]:
    """Give a cell for each that is struck, with two known sets."""
    cell = make_cell()
    two = cell.product.model_copy(update={"schedule": (*cell.product.schedule, *cell.product.schedule)})
    other = cell.product.schedule[0].model_copy(update={"label": "2026-11-05", "marker": "2026-11-05"})
    known = (*cell.product.schedule, other)
    return {
        key: cell.model_copy(update={"product": two.model_copy(update={"name": key[1], "known": known})})
        for key in TRUE
    }


def test_every_blow_comes_up_before_any_comes_up_again_and_the_same_seed_draws_the_same() -> None:
    cells = cells_of_the_drill()
    names = {blow.name for one in cells.values() for blow in blows(one.product)}
    drawn = cases(cells, many=len(names) + 1, seed=3)
    assert {case.blow.name for case in drawn} == names
    assert sum(case.third for case in drawn) == 1
    assert [str(case) for case in drawn] == [str(case) for case in cases(cells, many=len(names) + 1, seed=3)]


def test_a_blow_falls_so_many_calls_behind_its_moment_and_once() -> None:
    fallen: list[int | None] = []

    class Inner:
        def run(self, argv: Sequence[str], **_more: object) -> CommandResult:
            return CommandResult(exit_code=0, stdout=json.dumps([*argv]).encode())

        def push(self, content: bytes, path: str, **_more: object) -> None:
            del content, path

        def pull(self, path: str, **_more: object) -> tuple[bytes, bool]:
            return path.encode(), False

        def close(self) -> None:
            return None

    inner: Transport = Inner()
    way_in = StruckTransport(inner, lambda: fallen.append(way_in.calls), behind="launch")
    way_in.falls_at = 2
    way_in.push(b"", "/a")
    assert way_in.run(["/desktop.py"], stdin=b"{launch}").ok
    assert way_in.pull("/b") == (b"/b", False)
    assert fallen == []
    assert way_in.run(["/c"]).ok
    assert way_in.run(["/d"]).ok
    way_in.close()
    assert fallen == [2]


# --- virtual machines -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machines(vm_image: Image) -> Lab:
    del vm_image  # its fixture says why there are no guests
    return Lab("qemu")


@pytest.mark.guest
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("key", "name", "at"),
    [
        (CLEAN, "the clock jumps a year ahead", 12),
        (("1.0.0", "clamav", "2026-11-05", FRESH), "the clock jumps a year back", 8),
        (CLEAN, "kill the guest", 10),
    ],
)
def test_a_cell_whose_machine_is_struck_is_judged_right_or_not_at_all(
    machines: Lab, key: tuple[str, str, str, str], name: str, at: int
) -> None:
    cell = machines.cells[key]
    blow = next(b for b in machines.blows(cell.product) if b.name == name)
    struck = machines.strike(Case(number=0, cell=cell, true=TRUE[key], blow=blow, at=at, guest=1))
    assert struck.fell_at is not None, struck.blow_said
    assert struck.verdict in {"right", "inconclusive"}, struck.reason + struck.false_proof
    assert struck.leaks == ()


@pytest.mark.guest
@pytest.mark.timeout(1500)
def test_a_cell_whose_layer_is_damaged_begins_from_the_template_and_its_verdict_says_nothing_wrong(
    machines: Lab,
) -> None:
    cell = machines.cells[CLEAN]
    blow = next(b for b in machines.blows(cell.product) if b.name == "the layer's state is cut")
    struck = machines.strike(Case(number=0, cell=cell, true=TRUE[CLEAN], blow=blow, at=0, guest=1))
    if struck.fell_at is None:
        pytest.skip(struck.blow_said)
    assert (struck.verdict, struck.outcome) == ("right", Outcome.COMPATIBLE), struck.reason
    assert struck.leaks == ()


def test_a_machine_takes_every_blow_that_a_container_takes_and_none_is_without_means() -> None:
    for cell in cells_of_the_drill().values():
        dealt = {blow.name: blow for blow in machine_blows(cell.product)}
        assert {blow.name for blow in blows(cell.product)} < set(dealt)
        assert {name for name, blow in dealt.items() if not blow.script and blow.layer is None} == FROM_OUTSIDE


def test_what_a_journal_has_is_not_struck_again_and_what_was_cut_is(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    drawn = [Case(number=n, cell=make_cell(), true=Outcome.COMPATIBLE, blow=HARMLESS, at=1, guest=1) for n in range(3)]
    done: list[int] = []

    def strike(case: Case) -> Struck:
        done.append(case.number)
        return Struck(case=case, outcome=Outcome.BROKEN, fell_at=2.5, leaks=("1 guests",), guests=case.number)

    first = struck_all(drawn[:2], strike, Journal(file), about="qemu/1")
    file.write_bytes(file.read_bytes()[:-9])
    again = struck_all(drawn, strike, Journal(file), about="qemu/1")
    assert done == [0, 1, 1, 2]
    assert again[:2] == first
    assert struck_all(drawn, strike, Journal(file), about="qemu/1") == again
    assert done == [0, 1, 1, 2]
    struck_all(drawn[:1], strike, Journal(file), about="qemu/2")
    assert done[4:] == [0]


@pytest.mark.parametrize("how", SPOILT)
def test_a_layer_is_spoilt_for_this_process_alone(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    layer, other = layers_folder() / "layer", layers_folder() / "other"
    for folder in (layer, other):
        write_files(folder)
        (folder / ABOUT).write_text("{}")

    def sums() -> dict[str, str]:
        return {str(file): digest_of(file) for file in layers_folder().glob("*/*")}

    before = sums()
    with spoiled(layer, how) as damaged:
        assert damaged.parent == layers_folder() != layer.parent
        found = {Path(name).relative_to(layers_folder()): digest for name, digest in sums().items()}
        real = {Path(name).relative_to(layer.parent): digest for name, digest in before.items()}
        (wrong,) = {name for name in real if found.get(name) != real[name]}
        assert wrong == Path("layer") / SPOILT[how][0]
    assert sums() == before


def test_what_is_left_of_a_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = runs_folder() / "vm-x"
    folder.mkdir(parents=True)
    before = remains(within_s=0)  # of tests that have machines
    (folder / OWNER).write_text(json.dumps({"pid": os.getpid()}))
    program = tmp_path / "qemu-system-x"
    program.symlink_to("/bin/sleep")
    with socket.socket(socket.AF_UNIX) as listens, subprocess.Popen([program, "60"]) as process:
        listens.bind(str(folder / "agent"))
        listens.listen()
        ours = connected_to(str(folder / "agent"))
        memory = os.memfd_create("hts-it")
        try:
            said = remains(before=before, within_s=0)
            assert remains(before=[*before, *said], within_s=0) == ()
            for copy in sockets_to(str(folder / "agent")):
                with copy:
                    copy.shutdown(socket.SHUT_RDWR)
            assert ours.recv(1) == b""
        finally:
            process.kill()
            os.close(memory)
            ours.close()
    assert [one.split()[0] for one in said] == ["folder", "process", "socket", "memory"], said
    (folder / OWNER).write_text(json.dumps({"pid": 1}))
    assert remains(before=before, within_s=0) == ()
