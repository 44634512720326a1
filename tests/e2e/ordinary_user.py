"""A user without any capability, on a machine whose Docker engine nobody can reach, with a cache folder of his own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.providers.build_command import cache_folder
from harness.rig import ROOT

#: 'nobody' of Debian.
UID = GID = 65534


@dataclass(frozen=True, kw_only=True)
class OrdinaryUser:
    """Runs programs as such a user.

    Attributes:
        home: A folder that is his.
        prefix: What makes a command line his.
    """

    home: Path
    prefix: tuple[str, ...]

    @property
    def uid(self) -> int:
        """Give who he is."""
        return self.home.stat().st_uid

    @property
    def environment(self) -> Mapping[str, str]:
        """Give all of his environment: nothing of ours but what finds programs and this checkout."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "DOCKER_HOST": "unix:///nonexistent/engine.sock",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, argv: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a program of his in the checkout."""
        return subprocess.run(
            [*self.prefix, *argv],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Make him: another user when we are root, else ourselves; either way without any capability, for good.

    He gets links to the templates that are there, which nobody can write to (setpriv(1), capabilities(7)).
    """
    home = Path(tempfile.mkdtemp(prefix="hts-user-"))
    prefix: tuple[str, ...] = ("setpriv", "--no-new-privs", "--")
    if os.getuid() == 0:
        capabilities = ("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
        prefix = ("setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", *capabilities, "--")
    try:
        templates = cache_folder() / "qemu"
        for source in sorted(templates.rglob("*")):
            target = home / "cache" / "hts-compat" / "qemu" / source.relative_to(templates)
            if any(part.startswith(".") for part in source.relative_to(templates).parts):
                continue
            if source.is_dir():
                target.mkdir(parents=True)
            elif source.parent != templates:
                _link(source, target)
        if os.getuid() == 0:
            for folder in (home, *(path for path in home.rglob("*") if path.is_dir())):
                os.chown(folder, UID, GID)
        yield OrdinaryUser(home=home, prefix=prefix)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    if not target.stat().st_mode & 0o004:
        target.unlink()
        shutil.copyfile(source, target)
        target.chmod(0o444)
