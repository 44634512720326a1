"""Driver. ``doctor`` and ``image``: what this machine has, what it lacks, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict

from harness.cli import say
from harness.doctor import examine
from harness.errors import InputError
from harness.providers import docker_build
from harness.rig import ROOT, image_files
from harness.rig import sweep as sweep_guests


def doctor(*, sweep: bool, as_json: bool) -> int:
    """Say what this machine can do; 5 when something that is needed is missing."""
    swept = sweep_guests() if sweep else None
    findings = examine(ROOT)
    bad = [f for f in findings if f.needed and not f.ok]
    if as_json:
        say.data({"ok": not bad, "swept": swept, "findings": [asdict(f) for f in findings]})
        return 5 if bad else 0
    if swept is not None:
        say.line(f"removed {swept} guests that killed runs had left")
    for finding in findings:
        mark = "ok" if finding.ok else "MISSING" if finding.needed else "absent"
        say.line(f"{mark:8} {finding.name:18} {finding.detail}")
        if not finding.ok and finding.fix:
            say.line(f"{'':8} {'':18} fix: {finding.fix}")
    say.line("this machine can run the reference lab" if not bad else f"{len(bad)} needed things are missing")
    return 5 if bad else 0


def image_build(name: str, *, as_json: bool) -> int:
    """Build an image unless it is there."""
    folder = ROOT / "vm_images" / name
    if not (folder / "image.yaml").is_file():
        known = ", ".join(p.parent.name for p in sorted((ROOT / "vm_images").glob("*/image.yaml")))
        raise InputError(f"There is no image '{name}'.", hint=f"Images: {known}.")
    built = docker_build.build(image_files(folder), report=say.note)
    if as_json:
        say.data(asdict(built))
    else:
        done = "built" if built.made else "is there already"
        say.line(
            f"image {name} {done}: content {built.content[:12]}, {built.packages} packages, {built.duration_s:.1f} s"
        )
    return 0


def image_list(*, as_json: bool) -> int:
    """List the images that are defined here."""
    rows = []
    for path in sorted((ROOT / "vm_images").glob("*/image.yaml")):
        files = image_files(path.parent)
        found = docker_build.find(files)
        rows.append(
            {
                "name": files.name,
                "built": found is not None,
                "content": found.content if found else None,
                "why_not": None if found else docker_build.why_missing(files),
            }
        )
    if as_json:
        say.data({"images": rows})
        return 0
    for row in rows:
        state = f"content {str(row['content'])[:12]}" if row["built"] else row["why_not"]
        say.line(f"{row['name']:16} {state}")
    return 0
