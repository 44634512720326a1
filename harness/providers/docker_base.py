"""Driver. The Debian base that images are made from: the suite and the packages of a definition, nothing of ours.

Two ways, tried in this order: a registry's image where one answers within seconds, else mmdebstrap with the host's own
apt sources (so no mirror is named here).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.providers.build_command import (
    BUILD_S,
    QUICK_S,
    BuildToolMissing,
    ImageBuildFailed,
    Report,
    run,
    stream,
    work_folder,
)

SUITE = "bookworm"
REGISTRY_BASE = f"debian:{SUITE}-slim"
BASE_LABEL = "org.hts-compat.base"
REGISTRY_ANSWER_S = 10.0
REGISTRY_PULL_S = 300.0
#: Nobody reads these in a guest; without message catalogues the guest's tools speak English whatever the locale.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
#: Settings of the host's apt that decide whether its sources can be read at all.
APT_SETTINGS = re.compile(r'^(Acquire::(?:https?::Proxy(?:::[^ ]+)?|Check-Valid-Until|Check-Date)) "([^"]*)";$')


#: What apt, in English, says when an architecture's packages are not to be had, or not in the versions of the other's.
#: Source: seen with apt 2.6, given sources without i386, with an i386 index of another day, and with both in disorder.
NOT_TO_BE_HAD = r"Unable to locate package \S+:{arch}|Failed to fetch \S+/binary-{arch}/|have unmet dependencies"


class PackagesMissing(ImageBuildFailed):
    """Packages of another architecture than this machine's cannot be had."""


def foreign_of(packages: Sequence[str]) -> tuple[str, ...]:
    """Give the architectures that packages are asked for by name, such as ``i386`` by ``wine32:i386``."""
    return tuple(sorted({arch for name in packages if (arch := name.partition(":")[2])}))


def make_base(packages: Sequence[str], *, report: Report) -> str:
    """Give the tag of a Debian base image that holds the packages.

    Raises:
        PackagesMissing: Those of another architecture cannot be had.
        BuildToolMissing, ImageBuildFailed: See ``docker_build.build``.
    """
    digest = hashlib.sha256("\n".join([SUITE, *sorted(packages), *LEFT_OUT]).encode("ascii")).hexdigest()
    tag = f"hts-compat/base:{digest[:12]}"
    if image_with(BASE_LABEL, digest) is not None:
        report("base: there already")
        return tag
    report("base: asking a registry")
    if pull_registry_base():
        with _foreign_told_apart(packages):
            base_from_registry(packages, digest=digest, tag=tag, report=report)
    else:
        report(f"base: no registry answers; mmdebstrap makes it from this machine's apt ({len(packages)} packages)")
        with _foreign_told_apart(packages):
            base_from_mmdebstrap(packages, digest=digest, tag=tag, report=report)
    return tag


@contextmanager
def _foreign_told_apart(packages: Sequence[str]) -> Iterator[None]:
    """Say in its own sentence when it is another architecture's packages that are missing."""
    try:
        yield
    except ImageBuildFailed as error:
        foreign = foreign_of(packages)
        if not any(re.search(NOT_TO_BE_HAD.format(arch=arch), error.detail) for arch in foreign):
            raise
        kinds = " and ".join(foreign)
        wanted = ", ".join(name for name in packages if ":" in name)
        raise PackagesMissing(
            f"The {kinds} packages that it needs ({wanted}) cannot be had from the apt sources used here.",
            detail=error.detail,
            hint=f"Give apt a Debian mirror whose {SUITE} main has {kinds}, or leave cells of this image out.",
        ) from error


def pull_registry_base() -> bool:
    """Pull Debian's image; False when no registry answers within seconds.

    A registry that answers says so in its first line (``bookworm-slim: Pulling from library/debian``); one that
    cannot be reached ends with an error, or says nothing for minutes where packets are dropped.
    """
    with subprocess.Popen(  # noqa: S603 (fixed argv)
        ["docker", "pull", REGISTRY_BASE],  # noqa: S607 (the user's own docker)
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as pull:
        assert pull.stdout is not None  # noqa: S101 (PIPE was asked for)
        try:
            pull.wait(REGISTRY_ANSWER_S)
        except subprocess.TimeoutExpired:
            os.set_blocking(pull.stdout.fileno(), False)
            if not pull.stdout.read():
                pull.kill()
                return False
            os.set_blocking(pull.stdout.fileno(), True)
            try:
                pull.communicate(timeout=REGISTRY_PULL_S)
            except subprocess.TimeoutExpired:
                pull.kill()
                return False
        return pull.returncode == 0


def base_from_registry(packages: Sequence[str], *, digest: str, tag: str, report: Report) -> None:
    """Install the packages on top of the registry's image, with the apt sources that it brings along."""
    excludes = "".join(f"path-exclude={pattern}\\n" for pattern in LEFT_OUT)
    add = "".join(f"&& dpkg --add-architecture {arch} " for arch in foreign_of(packages))
    dockerfile = "\n".join([
        f"FROM {REGISTRY_BASE}",
        f"RUN printf '{excludes}' > /etc/dpkg/dpkg.cfg.d/hts-compat {add}&& apt-get update "
        "&& DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "
        f"{' '.join(packages)} && rm -rf /var/lib/apt/lists/* /var/cache/apt/*",
        "",
    ])  # fmt: skip
    with work_folder() as work:
        (work / "Dockerfile").write_text(dockerfile, encoding="ascii")
        report(f"base: installing {len(packages)} packages")
        argv = ["docker", "build", "--tag", tag, f"--label={BASE_LABEL}={digest}", str(work)]
        stream(argv, what="docker build of the base", report=report, prefix="base: ", only="Step ")


def base_from_mmdebstrap(packages: Sequence[str], *, digest: str, tag: str, report: Report) -> None:
    """Make a root file system from the host's apt sources and import it.

    With packages of another architecture the release's own suite is the only source: a mirror's security and update
    suites were seen without them or in other versions, and libraries of two architectures must be of one version.

    Source: mmdebstrap(1), Debian 12. The sources come on stdin (mirror ``-``).
    """
    if shutil.which("mmdebstrap") is None:
        raise BuildToolMissing(
            "No registry answers and mmdebstrap is not installed, so there is nothing to make the base image from.",
            hint="Install it with 'apt-get install mmdebstrap', or give the Docker engine a registry.",
        )
    foreign = foreign_of(packages)
    own = run(["dpkg", "--print-architecture"], what="dpkg", limit_s=QUICK_S).decode("ascii").strip()
    options = [f"--architectures={','.join([own, *foreign])}"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    options += [f'--aptopt={key} "{value}"' for key, value in host_apt_settings()]
    with work_folder() as work:
        tar = work / "base.tar"
        argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}", *options, SUITE, str(tar), "-"]
        sources = host_apt_sources(only_release=bool(foreign))
        stream(argv, what="mmdebstrap", report=report, prefix="base: ", stdin=sources.encode("utf-8"))
        report("base: importing")
        change = f"LABEL {BASE_LABEL}={digest}"
        run(["docker", "import", "--change", change, str(tar), tag], what="docker import", limit_s=BUILD_S)


def host_apt_sources(*, only_release: bool = False) -> str:
    """Give the host's own apt sources for the suite, main component, as one-line entries.

    Args:
        only_release: Leave out the suites of updates and of security.

    Source: apt-get(8), ``indextargets``.
    """
    argv = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    if shutil.which("apt-get") is None:
        raise BuildToolMissing(
            "No registry answers, and this machine has no apt to take Debian packages from.",
            hint="Give the Docker engine a registry that has " + REGISTRY_BASE + ".",
        )
    wanted = {SUITE} if only_release else {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    targets = run(argv, what="apt-get indextargets", limit_s=QUICK_S).decode("utf-8", "replace")
    parts = [line.split() for line in targets.splitlines()]
    entries = {f"deb {site} {release} main" for site, release, *_ in parts if release in wanted}
    if not entries:
        raise BuildToolMissing(
            f"This machine's apt sources have no Debian {SUITE}, and no registry answers.",
            hint="Give the Docker engine a registry that has "
            + REGISTRY_BASE
            + ", or add Debian 12 to the apt sources.",
        )
    return "".join(f"{entry}\n" for entry in sorted(entries))


def host_apt_settings() -> list[tuple[str, str]]:
    """Give the host's proxy and validity settings of apt; a mirror's snapshot is unreadable without the latter."""
    dump = run(["apt-config", "dump"], what="apt-config dump", limit_s=QUICK_S).decode("utf-8", "replace")
    return [(match[1], match[2]) for line in dump.splitlines() if (match := APT_SETTINGS.match(line)) and match[2]]


def image_with(label: str, value: str) -> str | None:
    """Give the id of the local image with this label, None when there is none."""
    argv = ["docker", "image", "ls", "--no-trunc", "--quiet", "--filter", f"label={label}={value}"]
    found = run(argv, what="asking the Docker engine for its images", limit_s=QUICK_S).decode("ascii").split()
    return found[0] if found else None
