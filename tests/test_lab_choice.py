"""Which lab is taken when nobody says so: the order, and one sentence that tells why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.lab_choice import ORDER, Lab, choose, in_order

DOCKER, QEMU, OTHER = Lab(provider="docker"), Lab(provider="qemu"), Lab(provider="aaa")


def down(provider: str) -> Lab:
    return Lab(provider=provider, why_not="nobody answers")


def lacking(provider: str, *names: str) -> Lab:
    return Lab(provider=provider, lacks=names or ("reference",))


@pytest.mark.parametrize(
    ("labs", "taken"),
    [
        ((DOCKER, QEMU), "docker"),
        ((down("docker"), QEMU), "qemu"),
        ((lacking("docker"), QEMU), "qemu"),
        ((lacking("docker"), lacking("qemu")), "docker"),
        ((lacking("docker", "a", "b"), lacking("qemu", "a")), "qemu"),
        ((lacking("docker"), down("qemu")), "docker"),
        ((down("docker"), lacking("qemu")), "qemu"),
        ((down("docker"), down("qemu")), None),
        ((), None),
    ],
)
def test_the_first_that_is_usable_and_has_most_of_the_images_is_taken(labs: tuple[Lab, ...], taken: str | None) -> None:
    choice = choose(labs)
    assert (choice and choice.provider) == taken


def test_who_has_everything_is_taken_without_a_look_at_those_behind_it() -> None:
    def labs() -> Iterator[Lab]:
        yield DOCKER
        pytest.fail("the second lab was looked at")

    choice = choose(labs())
    assert choice is not None


def test_the_sentence_says_what_was_wrong_with_those_before_or_why_it_stands_first() -> None:
    first, second = choose([DOCKER, QEMU]), choose([down("docker"), QEMU])
    third = choose([lacking("docker"), down("other"), QEMU])
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.sentence() == "lab: docker, because containers run a cell in the least time"
    assert second.sentence() == "lab: qemu, because docker is not usable (nobody answers)"
    assert third.sentence() == (
        "lab: qemu, because other is not usable (nobody answers) and docker lacks the image 'reference'"
    )


def test_our_own_come_in_the_measured_order_and_others_behind_them() -> None:
    assert in_order(["zzz", "qemu", "aaa", "docker"]) == [*ORDER, "aaa", "zzz"]
