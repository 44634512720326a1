"""The programs of a host that building an image runs, as scripts: what they get is kept, what they say is scripted."""

from __future__ import annotations

from pathlib import Path

import pytest

#: A host whose apt has the release, its updates and its security suite.
TARGETS = "".join(
    f"http://mirror.invalid/{site} {suite} main\n"
    for site, suite in (
        ("debian", "bookworm"),
        ("debian", "bookworm-updates"),
        ("debian-security", "bookworm-security"),
    )
)


class FakePrograms:
    """A folder that is all of PATH: an engine without images, no registry, an apt, and mmdebstrap."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir()
        self._add("docker", 'case "$1" in pull) exit 1 ;; *) exit 0 ;; esac')
        self._add("apt-get", f"printf '%s' '{TARGETS}'")
        self._add("apt-config", "exit 0")
        self._add("dpkg", "echo amd64")
        self.mmdebstrap_says("", exit_code=0)
        monkeypatch.setenv("PATH", str(folder))

    def mmdebstrap_says(self, text: str, *, exit_code: int) -> None:
        """Script what mmdebstrap prints and ends with; its words and its sources are kept."""
        (self._folder / "says").write_text(text + "\n", encoding="utf-8")
        keep = f'for word in "$@"; do echo "$word"; done > {self._folder}/words; /bin/cat > {self._folder}/sources'
        self._add("mmdebstrap", f"{keep}; /bin/cat {self._folder}/says; exit {exit_code}")

    @property
    def words(self) -> list[str]:
        """Give mmdebstrap's arguments."""
        return (self._folder / "words").read_text(encoding="utf-8").splitlines()

    @property
    def suites(self) -> list[str]:
        """Give the suites of the sources that mmdebstrap got."""
        return [line.split()[2] for line in (self._folder / "sources").read_text(encoding="utf-8").splitlines()]

    def _add(self, name: str, script: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
