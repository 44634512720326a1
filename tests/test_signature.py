from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.build import BuildFile
from harness.signature import SignatureRule, SignatureSet, SignatureSets, resolve
from tests.builders import make_build

BUILDS = (make_build("1.0.0"), make_build("1.1.0"))


def rule(file: str, build: str = "*", threat: str = "Win.Trojan.Test") -> SignatureRule:
    return SignatureRule(build=build, file=file, threat=threat)


def declared(*rules: SignatureRule, label: str = "2026-11-05", **changes: object) -> SignatureSet:
    return SignatureSet.model_validate({"label": label, "rules": rules, **changes})


def test_a_rule_knows_the_file_of_every_build_that_it_fits() -> None:
    signature = resolve(declared(rule("hts_comm.dll")), BUILDS)
    assert {known.sha256 for known in signature.known} == {build.files[2].sha256 for build in BUILDS}


def test_a_rule_for_one_build_knows_no_other() -> None:
    signature = resolve(declared(rule("installer", "1.1.*")), BUILDS)
    assert [known.sha256 for known in signature.known] == [BUILDS[1].installer.sha256]


def test_a_files_case_does_not_matter_and_a_glob_knows_several() -> None:
    assert resolve(declared(rule("HTS_COMM.DLL")), BUILDS) == resolve(declared(rule("hts_comm.dll")), BUILDS)
    assert len(resolve(declared(rule("hts_*")), BUILDS[:1]).known) == 2


def test_a_rule_that_names_a_file_of_no_matching_build_is_an_error_and_not_a_silent_gap() -> None:
    with pytest.raises(LookupError, match=r"names the file 'hts_com\.dll'"):
        resolve(declared(rule("hts_com.dll")), BUILDS)


def test_a_rule_for_a_build_that_is_not_in_the_plan_knows_nothing() -> None:
    assert resolve(declared(rule("installer", "9.*")), BUILDS).known == ()


def test_a_file_without_digests_cannot_be_known() -> None:
    build = BUILDS[0].model_copy(update={"files": (BuildFile(path="hts_comm.dll"),)})
    with pytest.raises(LookupError):
        resolve(declared(rule("hts_comm.dll")), (build,))


def test_a_set_carries_its_own_marker_unless_it_is_a_drill() -> None:
    assert resolve(declared(), BUILDS).marker == "2026-11-05"
    assert resolve(declared(marker_of="2026-11-04"), BUILDS).marker == "2026-11-04"


def test_a_set_knows_the_test_object_unless_it_is_a_drill() -> None:
    assert resolve(declared(), BUILDS).knows_canary
    assert not resolve(declared(knows_canary=False), BUILDS).knows_canary


rules = st.lists(
    st.builds(
        rule,
        file=st.sampled_from(["hts_comm.dll", "hts_update.exe", "installer", "*.dll"]),
        build=st.sampled_from(["*", "1.0.0", "1.1.0", "2.*"]),
        threat=st.sampled_from(["A", "B"]),
    ),
    max_size=5,
)


@given(rules)
def test_neither_the_order_of_rules_nor_of_builds_matters_and_nothing_is_known_twice(some: list[SignatureRule]) -> None:
    signature = resolve(declared(*some), BUILDS)
    assert signature == resolve(declared(*some[::-1]), BUILDS[::-1])
    assert len({(known.sha256, known.threat) for known in signature.known}) == len(signature.known)


@pytest.mark.parametrize("label", ["", "a b", "a/b", "a+b", "-a", "a@b", "->", "x" * 65])
def test_a_label_fits_into_a_cells_id_and_a_schedule(label: str) -> None:
    with pytest.raises(ValidationError):
        SignatureSet(label=label)


def test_sets_are_found_by_their_label() -> None:
    sets = SignatureSets(product="clamav", sets=(declared(label="a"), declared(label="b")))
    assert sets.named("b") == declared(label="b")
    assert sets.named("c") is None
