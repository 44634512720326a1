"""The cells of our own whose end is known: harmless, the same on every machine, and the same for every suite."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest

from harness.plan import CellFilter, Plan, Sentinels
from harness.portable import manifest_of_zip
from harness.probes import Known, Probe, cells_of, installer_of, is_probe, probes_of, sentinels_of
from harness.verdict import Outcome
from tests.builders import make_image
from tests.fake_lab import CLEAN, INCIDENT, STRICT, cell, plan

C, D, Q, B, BROKEN, UNKNOWN = (Outcome(name) for name in ("COMPATIBLE", "DETECTED", "QUARANTINED", "BLOCKED", "BROKEN", "INCONCLUSIVE"))  # fmt: skip  # noqa: E501


def admitting(*cells: object, sentinels: Sentinels | None = None, drill: bool = False) -> Plan:
    asked = plan(*cells)  # type: ignore[arg-type]  # cells, as of ``cell``
    suite = asked.suite.model_copy(update={"admission": True, "sentinels": sentinels, "drill": drill})
    return asked.model_copy(update={"suite": suite})


def probe() -> Probe:
    (only,) = probes_of(admitting(cell()))
    return only


def test_the_bytes_are_those_that_the_builds_name_and_do_not_change() -> None:
    """A change here makes every image be admitted anew."""
    digests = []
    for known in probe():
        build = known.cell.build
        raw = installer_of(build) or b""
        assert hashlib.sha256(raw).hexdigest() == build.installer.sha256
        assert (hashlib.md5(raw, usedforsecurity=False).hexdigest(), len(raw)) == (
            build.installer.md5,
            build.installer.size_bytes,
        )
        assert is_probe(known.cell)
        assert is_probe(known.cell.control())
        digests.append(build.installer.sha256[:8])
    assert digests == ["571d03c6", "414b95e9"]
    assert installer_of(cell().build) is None


def test_a_probe_is_a_portable_build_like_any_other(tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    for known in probe():
        path = tmp_path / "probe.zip"
        path.write_bytes(installer_of(known.cell.build) or b"")
        (file,) = manifest_of_zip(path)
        (declared,) = known.cell.build.files
        assert (file.path, file.sha256, file.size_bytes) == (declared.path, declared.sha256, declared.size_bytes)
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as opened:
            assert opened.read("read-me.txt").startswith(b"This file is harmless.")


def test_the_probes_set_knows_the_bad_zip_and_nothing_else() -> None:
    good, bad = probe()
    (loaded,) = bad.cell.product.schedule
    assert good.cell.product == bad.cell.product
    assert [known.sha256 for known in loaded.known] == [bad.cell.build.installer.sha256]
    assert loaded.knows_canary
    assert good.cell.build.files[0].sha256 != bad.cell.build.files[0].sha256


def test_each_product_on_each_image_is_probed_once_whatever_is_asked_of_it() -> None:
    other = make_image(name="other", content="f" * 64)
    asked = admitting(cell(), cell(INCIDENT), cell(STRICT, version="1.1.0"), cell().model_copy(update={"image": other}))
    first, second = probes_of(asked)
    assert (first.good.cell.image.name, second.good.cell.image.name) == ("reference", "other")
    assert first == probes_of(admitting(cell(CLEAN, INCIDENT)))[0]
    assert first.is_for(cell(INCIDENT))
    assert not second.is_for(cell(INCIDENT))
    assert len({c.execution_key() for c in cells_of((first, second))}) == 8


def test_what_never_runs_and_what_is_broken_on_purpose_is_not_probed() -> None:
    assert probes_of(plan(cell())) == ()
    assert probes_of(admitting(cell(), drill=True)) == ()
    assert probes_of(admitting(cell().model_copy(update={"unsupported": "never sold"}), cell().control())) == ()


@pytest.mark.parametrize(
    ("outcome", "good", "admits_good", "bad"),
    [
        (C, True, True, False),
        (D, True, False, False),
        (Q, False, False, True),
        (B, False, False, True),
        (BROKEN, False, False, False),
        (UNKNOWN, False, False, False),
    ],
)
def test_which_outcomes_are_right(outcome: Outcome, *, good: bool, admits_good: bool, bad: bool) -> None:
    known_good, known_bad = probe()
    assert (known_good.is_right(outcome), known_good.admits(outcome)) == (good, admits_good)
    assert (known_bad.is_right(outcome), known_bad.admits(outcome)) == (bad, bad)


def test_sentinels_are_the_suite_s_choice_or_our_own() -> None:
    asked = (cell(), cell(INCIDENT), cell(version="1.1.0"))
    assert sentinels_of(admitting(*asked)) == ()
    good, bad = probe()
    assert sentinels_of(admitting(*asked, sentinels=Sentinels(every=3))) == (good, bad)
    chosen = Sentinels(every=3, good=CellFilter(build="1.1.0"), bad=CellFilter(signature=INCIDENT))
    assert sentinels_of(admitting(*asked, sentinels=chosen)) == (
        Known(cell(version="1.1.0"), bad=False),
        Known(cell(INCIDENT), bad=True),
    )
    lost = Sentinels(every=3, good=CellFilter(build="9.9.9"), bad=CellFilter(signature=INCIDENT))
    assert sentinels_of(admitting(*asked, sentinels=lost)) == (good, Known(cell(INCIDENT), bad=True))
