"""Pure. Cells of our own whose end is known: a known good and a known bad one for each product on each image.

1. Both are portable builds of one harmless text file. The probes' own signature set knows the zip of the bad one, by
   its digest, and nothing else: whatever suite runs, and whatever its vendors ship, the question is the same.
2. A product on an image is *admitted* when the good one came out COMPATIBLE and the bad one QUARANTINED or BLOCKED. The
   record is their judgements in the store, under their execution keys: image content, provider, product and profile.
3. The same cells are a run's *sentinels* where its suite names no others (``sentinels``).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

from harness.build import Artifact, Build, BuildFile, BuildKind, Component
from harness.plan import Cell, Plan, ProductChoice
from harness.scenario import Deliver, Install, Scenario, Step, VerifyFiles
from harness.signature import KnownFile, Signature
from harness.verdict import GOOD, Outcome

#: Label and marker of the only set that a probe loads.
SET = "probe"
THREAT = "HtsCompat.KnownBad"
RIGHT_IF_BAD = frozenset({Outcome.QUARANTINED, Outcome.BLOCKED})

_FILE = "read-me.txt"
_INSTALL_DIR = r"C:\Program Files\hts-compat probe"

SCENARIO = Scenario(
    name="probe", steps=(Step(deliver=Deliver()), Step(install=Install()), Step(verify_files=VerifyFiles()))
)


class Known(NamedTuple):
    """A cell and how it must come out."""

    cell: Cell
    bad: bool

    @property
    def name(self) -> str:
        """Name the kind for people."""
        return "known bad" if self.bad else "known good"

    def is_right(self, outcome: Outcome) -> bool:
        """Tell whether an outcome is the known one."""
        return outcome in RIGHT_IF_BAD if self.bad else outcome in GOOD

    def admits(self, outcome: Outcome) -> bool:
        """Tell whether an outcome admits the product; here an alert about a clean file does not."""
        return self.is_right(outcome) and outcome is not Outcome.DETECTED


class Probe(NamedTuple):
    """The two cells by which one product on one image is admitted."""

    good: Known
    bad: Known

    def is_for(self, cell: Cell) -> bool:
        """Tell whether a cell's image and product are the ones that are proven here."""
        return _group(cell) == _group(self.good.cell)


def probes_of(plan: Plan) -> tuple[Probe, ...]:
    """Give the probes that a plan needs, in order of first need; a drill, broken on purpose, has none."""
    suite = plan.suite
    if suite.drill or not (suite.admission or suite.sentinels is not None):
        return ()
    tried = (cell for cell in plan.cells if not cell.is_control and cell.without_guest is None)
    return tuple({_group(cell): _probe(cell) for cell in tried}.values())


def cells_of(probes: Sequence[Probe]) -> tuple[Cell, ...]:
    """Give all cells of probes, their controls last, each once."""
    own = [known.cell for probe in probes for known in probe]
    return tuple({cell.execution_key(): cell for cell in [*own, *(cell.control() for cell in own)]}.values())


def sentinels_of(plan: Plan) -> tuple[Known, ...]:
    """Give the sentinels of a plan: the cells that its suite chooses, or the probes where it chooses none."""
    wanted = plan.suite.sentinels
    if wanted is None:
        return ()
    tried = [cell for cell in plan.cells if not cell.is_control and cell.without_guest is None]
    found: list[Known] = []
    for chosen, bad in ((wanted.good, False), (wanted.bad, True)):
        fits = [cell for cell in tried if chosen is not None and chosen.matches(cell)]
        found += [Known(fits[0], bad)] if fits else [probe.bad if bad else probe.good for probe in probes_of(plan)]
    return tuple(found)


def harmless(cell: Cell) -> Cell:
    """Give a cell with the good one's build and scenario in place of its own: all else is as it was asked."""
    return cell.model_copy(update={"build": _GOOD, "scenario": SCENARIO, "older": None, "unsupported": None})


def installer_of(build: Build) -> bytes | None:
    """Give the bytes of a probe's build; None for any other build."""
    return next((raw for known, raw in ((_GOOD, _GOOD_ZIP), (_BAD, _BAD_ZIP)) if known == build), None)


def is_probe(cell: Cell) -> bool:
    """Tell whether a cell is of a probe, or of its control."""
    return installer_of(cell.build) is not None


def _group(cell: Cell) -> tuple[str, str, str, str]:
    return cell.image.name, cell.image.content, cell.product.name, cell.product.profile


def _probe(cell: Cell) -> Probe:
    known = (KnownFile(threat=THREAT, sha256=_BAD.installer.sha256, md5=_BAD.installer.md5, size_bytes=len(_BAD_ZIP)),)
    loaded = Signature(label=SET, known=known, marker=SET)
    chosen = ProductChoice(name=cell.product.name, profile=cell.product.profile, schedule=(loaded,), known=(loaded,))
    good, bad = (Cell(build=b, image=cell.image, product=chosen, scenario=SCENARIO) for b in (_GOOD, _BAD))
    return Probe(Known(good, bad=False), Known(bad, bad=True))


def _zip(text: bytes) -> bytes:
    """Pack one file such that the same text gives the same bytes everywhere: nothing is compressed or dated."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as opened:
        item = zipfile.ZipInfo(_FILE, date_time=(1980, 1, 1, 0, 0, 0))
        item.create_system = 3  # else it is that of the machine on which this runs
        opened.writestr(item, text)
    return packed.getvalue()


def _build(version: str, text: bytes, packed: bytes) -> Build:
    file = BuildFile(path=_FILE, sha256=_sha256(text), md5=_md5(text), size_bytes=len(text), component=Component.DATA)
    installer = Artifact(
        file_name=f"hts-compat-{version}.zip", sha256=_sha256(packed), md5=_md5(packed), size_bytes=len(packed)
    )
    return Build(
        name="hts-compat-probe",
        version=version,
        kind=BuildKind.PORTABLE,
        installer=installer,
        install_dir=_INSTALL_DIR,
        files=(file,),
    )


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


_GOOD_TEXT = b"This file is harmless. No signature set knows it: hts-compat proves with it that a lab lets it pass.\r\n"
_BAD_TEXT = b"This file is harmless. The set 'probe' of hts-compat knows it, to prove that a lab denies it.\r\n"
_GOOD_ZIP, _BAD_ZIP = _zip(_GOOD_TEXT), _zip(_BAD_TEXT)
_GOOD, _BAD = _build("known-good", _GOOD_TEXT, _GOOD_ZIP), _build("known-bad", _BAD_TEXT, _BAD_ZIP)
