from __future__ import annotations

import pytest

from harness.inspection.main_program import below_install, main_program
from harness.inspection.model import FileSeen


def files(*pairs: tuple[str, int | None]) -> list[FileSeen]:
    return [FileSeen(path=path, size_bytes=size) for path, size in pairs]


def test_the_program_that_is_called_as_the_product_is_the_main_one() -> None:
    listed = files(("big.exe", 9000), ("bin/DemoHTS.exe", 10), ("data.bin", 10**9))
    assert main_program(listed, "Demo HTS") == "bin/DemoHTS.exe"


def test_else_it_is_the_largest_that_is_no_helper() -> None:
    listed = files(("unins000.exe", 9000), ("vc_redist.x64.exe", 10**8), ("hts.exe", 500), ("small.exe", 5))
    assert main_program(listed, None) == "hts.exe"


def test_when_all_look_like_helpers_one_of_them_is_it() -> None:
    assert main_program(files(("updater.exe", 5), ("update2.exe", 9))) == "update2.exe"


def test_without_a_program_there_is_none() -> None:
    assert main_program(files(("$PLUGINSDIR/a.exe", 5), ("tmp/b.exe", 5), ("../c.exe", 5), ("d.dll", None))) is None


@pytest.mark.parametrize(
    ("listed", "path"),
    [("$INSTDIR/a/b.exe", "a\\b.exe"), ("app\\b.exe", "b.exe"), ("application/b.exe", "application\\b.exe")],
)
def test_a_tool_s_word_for_the_install_folder_is_left_out(listed: str, path: str) -> None:
    assert below_install(listed) == path
