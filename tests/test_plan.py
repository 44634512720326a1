from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.build import Build, BuildKind, Component
from harness.egress import Egress, VendorCloud
from harness.image import Lab
from harness.machine import Machine
from harness.plan import NO_PRODUCT, NONE, CellFilter, LeftOut, Plan, ProductChoice, Suite, expand
from harness.scenario import Deliver, Scenario, Step
from tests.builders import (
    make_build,
    make_cell,
    make_image,
    make_over_older_scenario,
    make_product,
    make_scenario,
    make_update_scenario,
)

FRESH = make_scenario()
UPDATED = make_update_scenario()


def make_suite(**changes: object) -> Suite:
    known: dict[str, object] = {
        "name": "nightly",
        "lab": Lab.REFERENCE,
        "builds": (make_build("1.0.0"), make_build("1.1.0")),
        "images": (make_image(),),
        "products": (make_product(), make_product("clamav", "2026-11-04", "2026-11-05")),
        "scenarios": (FRESH, UPDATED),
    }
    return Suite.model_validate({**known, **changes})


def ids(plan: Plan) -> list[str]:
    return [cell.id for cell in plan.cells]


# --- expand ----------------------------------------------------------------------------------------------------------


def test_a_schedule_meets_the_scenario_that_uses_all_of_it() -> None:
    assert ids(expand(make_suite())) == [
        "1.0.0/reference/clamav-standard/2026-11-04/fresh-install",
        "1.1.0/reference/clamav-standard/2026-11-04/fresh-install",
        "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated",
        "1.1.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated",
    ]


def test_a_control_meets_every_scenario() -> None:
    plan = expand(make_suite(products=(NO_PRODUCT,), builds=(make_build(),)))
    assert ids(plan) == [
        "1.0.0/reference/none-standard/none/fresh-install",
        "1.0.0/reference/none-standard/none/released-then-updated",
    ]


@pytest.mark.parametrize("axis", ["builds", "images", "products", "scenarios"])
def test_an_empty_axis_gives_no_cells(axis: str) -> None:
    plan = expand(make_suite(**{axis: ()}))
    assert plan.cells == ()
    assert plan.controls() == ()


def test_only_keeps_and_leave_out_marks() -> None:
    suite = make_suite(
        only=(CellFilter(scenario="fresh-install"),), leave_out=(LeftOut(build="1.1.*", reason="no such release"),)
    )
    assert [(cell.build.version, cell.unsupported) for cell in expand(suite).cells] == [
        ("1.0.0", None),
        ("1.1.0", "no such release"),
    ]


def test_a_left_out_cell_needs_no_control() -> None:
    assert expand(make_suite(leave_out=(LeftOut(reason="all of it"),))).controls() == ()


# --- what an image runs ----------------------------------------------------------------------------------------------


def build_for(machine: Machine | None, *, kind: BuildKind = BuildKind.PROGRAM) -> Build:
    """Make a build whose setup program, or whose programs when it is portable, are made for a machine."""
    build = make_build()
    if kind is BuildKind.PROGRAM:
        return build.model_copy(update={"installer": build.installer.model_copy(update={"machine": machine})})
    files = tuple(
        f.model_copy(update={"machine": machine if f.component is Component.MAIN else Machine.X86}) for f in build.files
    )
    return build.model_copy(update={"kind": kind, "files": files})


def why(build: Build, *machines: Machine, **changes: object) -> list[str | None]:
    image = make_image().model_copy(update={"machines": machines or None})
    suite = make_suite(builds=(build,), images=(image,), products=(make_product(),), **changes)
    return [cell.unsupported for cell in expand(suite).cells]


X64_ONLY = (
    "The setup program DemoHTS-1.0.0-setup.exe is made for x86, and the image 'reference' runs x64 programs only; "
    "choose an image that runs x86."
)


def test_a_build_of_a_kind_that_the_image_does_not_run_is_unsupported_with_the_reason() -> None:
    assert why(build_for(Machine.X86), Machine.X64) == [X64_ONLY]


def test_an_image_runs_the_kinds_that_it_names() -> None:
    assert why(build_for(Machine.X86), Machine.X64, Machine.X86) == [None]
    assert why(build_for(Machine.X64), Machine.X64) == [None]


def test_what_is_not_known_of_a_build_or_an_image_is_tried() -> None:
    assert why(build_for(None), Machine.X64) == [None]
    assert why(build_for(Machine.X86)) == [None]


def test_of_a_portable_build_the_program_that_is_launched_counts_and_no_other() -> None:
    assert why(build_for(Machine.X64, kind=BuildKind.PORTABLE), Machine.X64) == [None]
    (reason,) = why(build_for(Machine.X86, kind=BuildKind.PORTABLE), Machine.X64)
    assert reason is not None
    assert reason.startswith("The program DemoHTS.exe is made for x86")


def test_a_setup_program_that_is_only_delivered_need_not_run() -> None:
    steps = (Step(deliver=Deliver()),)
    scenario = make_scenario(steps=steps)
    assert why(build_for(Machine.X86), Machine.X64, scenarios=(scenario,)) == [None]


def test_an_older_build_that_the_image_does_not_run_cannot_be_updated_on_it() -> None:
    older = build_for(Machine.X86).model_copy(update={"version": "0.9.0"})
    newer = build_for(Machine.X64)
    image = make_image().model_copy(update={"machines": (Machine.X64,)})
    axes: dict[str, object] = {"builds": (older, newer), "images": (image,), "products": (make_product(),)}
    suite = make_suite(**axes, scenarios=(make_over_older_scenario(),), update_from={newer.version: older.version})
    (cell,) = expand(suite).cells
    assert (cell.build.version, cell.unsupported) == ("1.0.0", X64_ONLY)


def test_a_reason_that_a_person_gave_comes_before_ours() -> None:
    left_out = (LeftOut(reason="not sold in this country"),)
    assert why(build_for(Machine.X86), Machine.X64, leave_out=left_out) == ["not sold in this country"]


def test_cells_of_an_image_that_is_not_there_need_no_control() -> None:
    missing = make_image().model_copy(update={"missing": "It has not been built."})
    plan = expand(make_suite(images=(missing,)))
    assert {cell.unsupported for cell in plan.cells} == {None}
    assert {cell.without_guest for cell in plan.cells} == {"It has not been built."}
    assert plan.controls() == ()


def test_a_cell_is_left_out_with_a_reason_only() -> None:
    with pytest.raises(ValidationError):
        LeftOut(reason="")


builds = st.lists(st.sampled_from(["1.0.0", "1.1.0", "2.0.0"]).map(make_build), max_size=4)
choices = st.lists(
    st.one_of(
        st.just(NO_PRODUCT),
        st.lists(st.sampled_from(["s1", "s2", "s3"]), min_size=1, max_size=3).map(
            lambda labels: make_product("clamav", *labels)
        ),
    ),
    max_size=4,
)
scenarios = st.lists(st.sampled_from([FRESH, UPDATED]), max_size=3)
filters = st.lists(
    st.builds(CellFilter, build=st.sampled_from(["*", "1.*"]), scenario=st.sampled_from(["*", "fresh-install"])),
    max_size=2,
)


@given(builds, choices, scenarios, filters)
def test_expand_is_deterministic_without_duplicates_and_pairs_schedules_with_scenarios(
    some_builds: list[Build], products: list[ProductChoice], some: list[Scenario], only: list[CellFilter]
) -> None:
    suite = make_suite(builds=tuple(some_builds), products=tuple(products), scenarios=tuple(some), only=tuple(only))
    plan = expand(suite)
    assert plan == expand(suite)
    assert len(set(ids(plan))) == len(plan.cells)
    for cell in plan.cells:
        assert cell.is_control or len(cell.product.schedule) == cell.scenario.vendor_updates + 1
        assert cell.build in some_builds
        assert cell.scenario in some
        assert not only or any(wanted.matches(cell) for wanted in only)


@given(builds, choices, scenarios)
def test_the_order_of_the_axes_changes_the_order_of_the_cells_and_nothing_else(
    some_builds: list[Build], products: list[ProductChoice], some: list[Scenario]
) -> None:
    forward = expand(make_suite(builds=tuple(some_builds), products=tuple(products), scenarios=tuple(some)))
    backward = expand(
        make_suite(builds=tuple(some_builds[::-1]), products=tuple(products[::-1]), scenarios=tuple(some[::-1]))
    )
    assert {cell.execution_key() for cell in forward.cells} == {cell.execution_key() for cell in backward.cells}
    assert sorted(ids(forward)) == sorted(ids(backward))


@given(builds, choices, scenarios)
def test_only_never_adds_a_cell(some_builds: list[Build], products: list[ProductChoice], some: list[Scenario]) -> None:
    axes: dict[str, object] = {"builds": tuple(some_builds), "products": tuple(products), "scenarios": tuple(some)}
    everything = set(ids(expand(make_suite(**axes))))
    assert set(ids(expand(make_suite(**axes, only=(CellFilter(build="1.0.0"),))))) <= everything


# --- controls --------------------------------------------------------------------------------------------------------


def test_cells_that_differ_in_their_product_alone_share_a_control() -> None:
    suite = make_suite(
        products=(make_product(), make_product("clamav", "2026-11-05"), make_product("fapolicyd", "baseline"))
    )
    plan = expand(suite)
    assert len(plan.cells) == 6
    assert [(cell.build.version, cell.product.name) for cell in plan.controls()] == [("1.0.0", NONE), ("1.1.0", NONE)]


@given(builds, choices, scenarios)
def test_every_cell_that_runs_has_exactly_one_control_in_the_plan(
    some_builds: list[Build], products: list[ProductChoice], some: list[Scenario]
) -> None:
    plan = expand(make_suite(builds=tuple(some_builds), products=tuple(products), scenarios=tuple(some)))
    keys = [control.execution_key() for control in plan.controls()]
    assert len(set(keys)) == len(keys)
    assert {cell.control().execution_key() for cell in plan.cells} == set(keys)


def test_a_control_is_its_own_control_and_is_never_left_out() -> None:
    control = make_cell(unsupported="for a reason").control()
    assert control.control() == control
    assert control.unsupported is None


# --- schedules and keys ----------------------------------------------------------------------------------------------


def test_the_expected_signature_changes_at_the_vendors_update_and_not_before() -> None:
    cell = make_cell(product=make_product("clamav", "old", "new"), scenario=UPDATED)
    at = [step.kind for step in UPDATED.steps].index("vendor_update")
    assert cell.scheduled(0, after=False).label == "old"
    assert cell.scheduled(at, after=False).label == "old"
    assert cell.scheduled(at, after=True).label == "new"
    assert cell.scheduled(len(UPDATED.steps) - 1, after=True).label == "new"


def test_a_key_covers_what_the_guest_could_see() -> None:
    base = make_cell()
    different = [
        make_cell(build=make_build("1.1.0")),
        make_cell(image=make_image(content="sha256:other-content")),
        make_cell(product=make_product("clamav", "2026-11-05")),
        make_cell(product=make_product(profile="strict")),
        make_cell(scenario=make_scenario("other")),
        make_cell(scenario=FRESH.model_copy(update={"service_digests": {"trading/a.py": "1"}})),
    ]
    keys = [cell.execution_key() for cell in (base, *different)]
    assert len(set(keys)) == len(keys)


def test_a_key_does_not_cover_where_things_lie_on_the_host_and_how_they_were_made() -> None:
    same = [
        make_cell(build=make_build(host_path="/elsewhere/setup.exe")),
        make_cell(image=make_image(recipe="another recipe")),
        make_cell(image=make_image(reference="another:tag")),
        make_cell(unsupported="for a reason"),
    ]
    assert {cell.execution_key() for cell in same} == {make_cell().execution_key()}


def test_an_id_can_be_given_to_pytests_filter() -> None:
    for cell in expand(make_suite()).cells:
        assert "@" not in cell.id
        assert len(cell.id.split("/")) == 5


@pytest.mark.parametrize("order", list(permutations(["build", "product", "scenario"])))
def test_a_filter_matches_when_every_key_does(order: tuple[str, ...]) -> None:
    fitting = {"build": "1.0.*", "product": "clam??", "scenario": "fresh-*"}
    assert CellFilter.model_validate({key: fitting[key] for key in order}).matches(make_cell())
    for key in order:
        assert not CellFilter.model_validate({**fitting, key: "other"}).matches(make_cell())


def test_a_filter_names_a_schedule_by_its_joined_labels() -> None:
    cell = make_cell(product=make_product("clamav", "a", "b"), scenario=UPDATED)
    assert CellFilter(signature="a+b").matches(cell)
    assert not CellFilter(signature="b").matches(cell)


# --- over an older build ----------------------------------------------------------------------------------------------

OVER = make_over_older_scenario()

#: Of a cell as it was before there were updates: what is not asked for is no part of a key.
OLD_KEY = "ce293799163fc87d0fdf33d362df887a5fe8ab8991d16880732ac3235fc80389"


def test_an_update_meets_the_builds_that_have_an_older_one_and_no_other_scenario_knows_of_it() -> None:
    plan = expand(make_suite(products=(make_product(),), scenarios=(FRESH, OVER), update_from={"1.1.0": "1.0.0"}))
    assert [(c.build.version, c.scenario.name, c.older and c.older.version) for c in plan.cells] == [
        ("1.0.0", "fresh-install", None),
        ("1.1.0", "fresh-install", None),
        ("1.1.0", "over-older", "1.0.0"),
    ]
    assert [c.older and c.older.version for c in plan.controls()] == [None, None, "1.0.0"]


def test_the_older_build_is_part_of_the_key_and_only_where_there_is_one() -> None:
    def key(older: Build | None) -> str:
        return make_cell(build=make_build("1.1.0"), older=older, scenario=OVER).execution_key()

    other = make_build("1.0.0")
    other = other.model_copy(update={"installer": other.installer.model_copy(update={"sha256": "0" * 64})})
    assert len({key(None), key(make_build("1.0.0")), key(other)}) == 3
    moved = make_build("1.0.0").model_copy(
        update={"installer": make_build("1.0.0").installer.model_copy(update={"host_path": "/elsewhere"})}
    )
    assert key(moved) == key(make_build("1.0.0"))
    assert make_cell().execution_key() == OLD_KEY


CLOUD = VendorCloud(name="a-cloud", product="clamav", hosts=("cloud.example.com:443",))


def test_a_way_out_is_part_of_the_key_and_only_where_there_is_one() -> None:
    closed = make_cell()
    opened = closed.model_copy(update={"egress": Egress(hosts=("a.kr:443",))})
    other = closed.model_copy(update={"egress": Egress(hosts=("a.kr:80",))})
    cloud = closed.model_copy(update={"egress": Egress(hosts=("a.kr:443",), vendor_clouds=(CLOUD,))})
    assert len({each.execution_key() for each in (closed, opened, other, cloud)}) == 4
    assert "egress" not in closed.model_dump(mode="json", exclude_none=True)


def test_a_control_reaches_the_programs_hosts_and_no_vendors_cloud() -> None:
    both = Egress(hosts=("a.kr:443",), vendor_clouds=(CLOUD,))
    asked = make_cell().model_copy(update={"egress": both})
    assert asked.control().egress == Egress(hosts=("a.kr:443",))
    assert (asked.asks_a_cloud, asked.control().asks_a_cloud) == (True, False)
    only = make_cell().model_copy(update={"egress": Egress(vendor_clouds=(CLOUD,))})
    assert only.control() == make_cell().control(), "such a control answers for cells without a way out, too"


def test_the_suites_way_out_reaches_each_cell_as_its_product_may_use_it() -> None:
    egress = Egress(hosts=("a.kr:443",), vendor_clouds=(CLOUD,))
    suite = make_suite().model_copy(
        update={"products": (make_product("clamav"), make_product("fapolicyd"), NO_PRODUCT), "egress": egress}
    )
    found = {cell.product.name: cell.egress for cell in expand(suite).cells}
    assert found == {
        "clamav": egress,
        "fapolicyd": Egress(hosts=("a.kr:443",)),
        "none": Egress(hosts=("a.kr:443",)),
    }
    controls = {cell.control().execution_key() for cell in expand(suite).cells}
    assert controls == {cell.execution_key() for cell in expand(suite).cells if cell.is_control}
