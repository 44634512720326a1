"""What every product's adapter promises (``harness/products/api.py``), judged only from what it records."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from harness.attempt import AttemptMeta, Kind, Role
from harness.deadline import Deadline
from harness.errors import InputError, ProtectionNotProven
from harness.facts import Facts, Owner, When
from harness.image import Folder, Image
from harness.judge import read
from harness.observation import Action
from harness.plan import NO_PRODUCT, Cell, ProductChoice
from harness.products import adapter_of, parser_of
from harness.products.api import Product, Tools
from harness.products.fake import GUARD, FakeProduct
from harness.products.fake_log import NAME, PARSER
from harness.products.none.adapter import NoProduct
from harness.products.none.parse import PARSER as NONE_PARSER
from harness.providers.docker import DockerProvider
from harness.recorder import Recorder
from harness.systems.api import GuestSystem
from harness.systems.fake import FakeSystem
from harness.systems.wine import WineSystem
from harness.transports.docker_exec import DockerExecTransport
from harness.transports.fake import FakeTransport
from tests.builders import NOON, make_build, make_cell, make_image, make_signature
from tests.contributing import PRODUCT
from tests.fake_lab import guarded_machine, parsers

OLD, NEW = "2026-11-04", "2026-11-05"

#: How a person would end each product in the guest.
STOPS = {
    "clamav": ["/usr/bin/pkill", "-KILL", "-x", "clamd|clamonacc"],
    "fapolicyd": ["/usr/bin/pkill", "-KILL", "-x", "fapolicyd"],
    "guard": ["/usr/bin/pkill", "-KILL", "-x", "hts-test-guard"],
    NAME: [GUARD, "stop"],
    PRODUCT: [GUARD, "stop"],
}
REAL = [pytest.param(name, marks=pytest.mark.guest) for name in ("clamav", "fapolicyd", "guard")]


def soon() -> Deadline:
    return Deadline.after(60)


@dataclass(kw_only=True)
class Given:
    """One product in one guest of its own, and the attempt that it records."""

    name: str
    guest: GuestSystem
    product: Product
    recorder: Recorder
    read: Callable[[], Facts]

    @property
    def folders(self) -> dict[Folder, str]:
        return dict(self.guest.image.folders)

    def stop(self) -> None:
        """End the product behind the adapter's back."""
        assert self.guest.admin.run(STOPS[self.name], deadline=soon()).ok


def product_choice(name: str, *labels: str) -> ProductChoice:
    sets = tuple(make_signature(label) for label in labels)
    return ProductChoice(name=name, schedule=sets, known=sets) if name != "none" else NO_PRODUCT


def given_for(name: str, guest: GuestSystem, image: Image) -> Given:
    cell: Cell = make_cell(build=make_build(), image=image, product=product_choice(name, OLD, NEW))
    nonce = secrets.token_hex(6)
    recorder = Recorder(
        AttemptMeta(
            id="a",
            cell=cell,
            role=Role.FIRST,
            ordinal=1,
            nonce=nonce,
            provider="test",
            tool_version="0",
            started_at=NOON,
        )
    )
    record = recorder.for_source(f"product:{name}")
    tools = Tools(guest=guest, record=record, profile="standard", nonce=nonce, known=cell.product.known)
    product: Product = FakeProduct(tools) if name == NAME else adapter_of(name, tools)
    parse = parsers if name == NAME else parser_of
    return Given(
        name=name,
        guest=guest,
        product=product,
        recorder=recorder,
        read=lambda: read(recorder.attempt(), parsers=parse),
    )


@pytest.fixture
def given(request: pytest.FixtureRequest) -> Iterator[Given]:
    """Give the product that the test names, in a fresh guest that has the desktop user's folders."""
    name = request.param
    if name in {NAME, PRODUCT, "none"}:
        if name == PRODUCT:
            request.getfixturevalue("example_plug_ins")
        machine = guarded_machine("guest")
        yield given_for(name, FakeSystem(make_image(), FakeTransport(machine)), make_image())
        return
    provider: DockerProvider = request.getfixturevalue("docker_provider")
    image: Image = request.getfixturevalue("reference_image")
    with provider.lease(image, run_id="contract-p", name=f"{name}-{secrets.token_hex(4)}", deadline=soon()) as lease:
        transport = DockerExecTransport(provider.client, lease.endpoint.address)
        guest = WineSystem(image, transport)
        guest.await_ready(deadline=soon())
        yield given_for(name, guest, image)
        transport.close()


def every_product(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test for the simulated product, for the one that CONTRIBUTING.md shows, and for each real one."""
    made: Callable[..., None] = pytest.mark.parametrize("given", [NAME, PRODUCT, *REAL], indirect=True)(test)
    return made


@every_product
def test_a_pin_is_proven_by_markers_and_a_canary_in_every_folder(given: Given) -> None:
    given.product.arm(make_signature(OLD), deadline=soon())
    given.product.canary(given.folders, when=When.BEFORE, deadline=soon())
    given.product.sample(border=-1, deadline=soon())
    given.recorder.step = 0
    given.product.pin(make_signature(NEW), deadline=soon())
    given.product.sample(border=0, deadline=soon())
    given.product.canary(given.folders, when=When.AFTER, deadline=soon())
    given.product.collect(deadline=soon())
    facts = given.read()

    assert facts.unread == ()
    assert facts.scan_failures == ()
    before, after = facts.sample_at(-1), facts.sample_at(0)
    assert before is not None
    assert after is not None
    assert (before.label, before.active, before.why_not) == (OLD, True, "")
    assert (after.label, after.active, after.why_not) == (NEW, True, "")
    assert {(c.folder, c.when, c.why_not) for c in facts.canaries} == {
        (folder, when, "") for folder in given.folders for when in (When.BEFORE, When.AFTER)
    }
    assert all(c.reacted for c in facts.canaries)
    assert facts.of(Owner.BUILD) == ()
    assert facts.of(Owner.UNATTRIBUTED) == ()
    labels = {d.detection.set_label for d in facts.of(Owner.PLANTED)}
    assert labels >= {OLD, NEW}


@every_product
def test_after_a_move_the_old_marker_is_silent(given: Given) -> None:
    given.product.arm(make_signature(OLD), deadline=soon())
    given.product.pin(make_signature(NEW), deadline=soon())
    given.recorder.step = 0
    given.product.sample(border=0, deadline=soon())
    sampled = [d.detection.set_label for d in given.read().of(Owner.PLANTED) if d.detection.step == 0]
    assert NEW in sampled
    sample = given.read().sample_at(0)
    assert sample is not None
    assert sample.label == NEW


@every_product
def test_a_set_with_another_s_marker_is_never_taken_for_its_own(given: Given) -> None:
    """This is how a reload looks that did not happen."""
    given.product.arm(make_signature(OLD), deadline=soon())
    with pytest.raises(ProtectionNotProven, match=f"{NEW} was not proven.*{OLD}"):
        given.product.pin(make_signature(NEW, marker=OLD), deadline=Deadline.after(1.5))
    failed = given.recorder.attempt().of(Kind.PRODUCT, subject="pin failed")
    assert [e.data["denied"] for e in failed] == [[OLD]]


@every_product
def test_a_set_without_the_canary_leaves_every_canary_silent(given: Given) -> None:
    blind = make_signature(OLD).model_copy(update={"knows_canary": False})
    given.product.arm(blind, deadline=soon())
    folders = {Folder.DOWNLOADS: given.folders[Folder.DOWNLOADS]}
    given.product.canary(folders, when=When.BEFORE, deadline=soon())
    assert [(c.reacted, bool(c.why_not)) for c in given.read().canaries] == [(False, True)]


@every_product
def test_a_stopped_product_leaves_canary_and_markers_silent(given: Given) -> None:
    given.product.arm(make_signature(OLD), deadline=soon())
    given.product.sample(border=-1, deadline=soon())
    given.stop()
    folders = {Folder.DOWNLOADS: given.folders[Folder.DOWNLOADS]}
    given.product.canary(folders, when=When.AFTER, deadline=soon())
    given.product.sample(border=0, deadline=soon())
    facts = given.read()
    assert [c.reacted for c in facts.canaries] == [False]
    alive, dead = facts.sample_at(-1), facts.sample_at(0)
    assert alive is not None
    assert dead is not None
    assert (alive.active, alive.label) == (True, OLD)
    assert (dead.active, dead.label) == (False, None)


@every_product
def test_a_known_file_of_the_build_is_kept_from_the_desktop_user_and_recorded(given: Given) -> None:
    build = make_build()
    module = next(f for f in build.files if f.path == "hts_comm.dll")
    knowing = make_signature(OLD, known=[module])
    given.product.arm(knowing, deadline=soon())
    path = given.guest.image.guest_path(build.installed_path(module.path))
    given.guest.admin.push(b"comm 1.0.0", path, deadline=soon())
    given.recorder.step = 1
    seen = given.guest.inspect(build.install_dir, deadline=soon())
    given.product.sample(border=1, deadline=soon())
    given.product.collect(deadline=soon())
    (found,) = given.read().of(Owner.BUILD)
    assert b"hts_comm.dll" in seen
    assert (found.windows, found.detection.step) == (build.installed_path(module.path), 1)
    assert found.detection.action in {Action.DENIED, Action.QUARANTINED}
    assert found.detection.threat == "Test.hts_comm.dll"


@pytest.mark.parametrize("given", ["none"], indirect=True)
def test_no_product_records_nothing_and_has_nothing_to_prove(given: Given) -> None:
    assert isinstance(given.product, NoProduct)
    given.product.arm(make_signature(OLD), deadline=soon())
    given.product.canary(given.folders, when=When.BEFORE, deadline=soon())
    given.product.sample(border=-1, deadline=soon())
    given.product.pin(make_signature(NEW), deadline=soon())
    given.product.collect(deadline=soon())
    attempt = given.recorder.attempt()
    assert attempt.events == ()
    assert NONE_PARSER(attempt) == ()


def test_the_simulated_product_can_be_asked_for_by_nobody() -> None:
    with pytest.raises(InputError, match="no product 'fake'"):
        parser_of(NAME)


def test_a_line_that_is_no_record_of_the_simulated_product_is_unread() -> None:
    from harness.observation import Unread
    from tests.builders import make_attempt

    attempt = make_attempt(raws=())
    assert PARSER(attempt) == []
    unread = _parsed([b"nonsense\n", b"eaten | Fake.X | " + b"a" * 64 + b" | /x\n"])
    assert [type(o) for o in unread] == [Unread, Unread]


def _parsed(pieces: Sequence[bytes]) -> list[object]:
    from harness.attempt import Attempt, MemoryBlobs
    from harness.products.fake_log import LOG
    from tests.builders import EventLog, make_attempt

    log = EventLog()
    for piece in pieces:
        log.add(Kind.LOG, LOG, step=0, raw=piece)
    return list(PARSER(Attempt(meta=make_attempt().meta, events=tuple(log.events), blobs=MemoryBlobs(log.blobs))))
