from __future__ import annotations

import json
from dataclasses import replace

from harness.inspection.model import Contents, FileSeen
from harness.inspection.report import SHOWN_FILES, as_json, as_lines
from tests.inspection.test_draft import FOUND


def test_every_fact_is_a_line_of_its_own() -> None:
    lines = list(as_lines(FOUND))
    assert any(line.startswith("kind") and "NSIS installer, x64 (64-bit)" in line for line in lines)
    assert any("not signed" in line for line in lines)
    assert lines[-1].split(maxsplit=3) == ["run", "takes", "it", "yes"]


def test_a_text_of_a_stranger_stays_on_its_line() -> None:
    found = replace(FOUND, texts=(("Comments\nrun takes it", "a\nrun takes it       yes" + "x" * 1000),))
    for line in as_lines(found):
        assert "\n" not in line
        assert len(line) <= 220


def test_of_many_files_the_first_are_shown_and_the_rest_counted() -> None:
    files = tuple(FileSeen(path=f"{n}.dll", size_bytes=n) for n in range(100))
    lines = list(as_lines(replace(FOUND, contents=Contents(files=files, by="7-Zip"))))
    assert sum(".dll" in line for line in lines) == SHOWN_FILES
    assert any("... and 60 more" in line for line in lines)


def test_why_it_cannot_be_run_is_told() -> None:
    assert list(as_lines(replace(FOUND, refused="It has 2048 MiB.")))[-1].endswith("no: It has 2048 MiB.")


def test_the_json_has_everything() -> None:
    value = json.loads(json.dumps(as_json(FOUND)))
    assert value["schema"] == "hts-compat/inspection/1"
    assert value["kind"] == "nsis"
    assert value["product"] == "데모증권 HTS"
    assert value["texts"]["ProductVersion"] == "1.2.3 (beta)"
    assert value["contents"]["files"][0]["path"] == "데모증권HTS.exe"
