from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.inspection import tool_lists
from harness.inspection.model import FileSeen

SEVEN_ZIP = """
7-Zip (z) 26.02 (x64)

Listing archive: /x/setup.exe

--
Path = /x/setup.exe
Type = Nsis

----------
Path = $PLUGINSDIR/System.dll
Size = 25600
Packed Size = 
Attributes = 

Path = sub
Folder = +
Size = 0

Path = 데모 = HTS.exe
Size = 
Attributes = A

Path = d
Attributes = D
"""  # noqa: W291 - as 7-Zip prints it

INNO = """Listing "데모 HTS" - setup data version 6.0.0 (unicode)
 - "app/DemoHTS.exe" (1.5 MiB)
 - "tmp/a.dll" [temp] (12 B)
 - "app/no size.txt"
Done.
"""

FILES = (
    "File\tComponent_\tFileName\tFileSize\tVersion\r\ns72\ts72\tl255\ti4\tS72\r\nFile\tFile\r\n"
    "f0\tmain\tDEMOHT~1.EXE|DemoHTS.exe\t129536\t1.0\r\nf1\tmain\ta.ini\tmany\t\r\n"
)
PROPERTIES = (
    "Property\tValue\ns72\tl0\nProperty\tProperty\nProductName\t데모 HTS\nSecret\tx\nProductVersion\t1.0.0\nBroken\n"
)


def test_seven_zip_s_list_names_files_and_no_folders() -> None:
    assert tool_lists.seven_zip(SEVEN_ZIP) == (
        FileSeen(path="$PLUGINSDIR/System.dll", size_bytes=25600),
        FileSeen(path="데모 = HTS.exe", size_bytes=None),
    )


def test_innoextract_s_list_names_files_with_their_rounded_sizes() -> None:
    assert tool_lists.innoextract(INNO) == (
        FileSeen(path="app/DemoHTS.exe", size_bytes=3 << 19),
        FileSeen(path="tmp/a.dll", size_bytes=12),
        FileSeen(path="app/no size.txt", size_bytes=None),
    )


def test_an_msi_s_files_have_their_long_names() -> None:
    assert tool_lists.msi_files(FILES) == (
        FileSeen(path="DemoHTS.exe", size_bytes=129536),
        FileSeen(path="a.ini", size_bytes=None),
    )


def test_of_an_msi_s_properties_only_those_that_name_it_are_taken() -> None:
    assert tool_lists.msi_properties(PROPERTIES) == (("ProductName", "데모 HTS"), ("ProductVersion", "1.0.0"))


def test_an_msi_s_bits_stand_in_its_template() -> None:
    cases = {"Template: x64;1033": 64, "Template: Intel;1042": 32, "Template: ;1033": 32, "Template: Arm64;0": 64}
    assert {text: tool_lists.msi_bits(f"Title: x\n{text}\n") for text in cases} == cases
    assert tool_lists.msi_bits("Title: x") is None


@given(st.text())
def test_no_output_of_a_tool_is_too_odd_to_be_read(text: str) -> None:
    head = "\n----------\n"
    for read in (tool_lists.seven_zip, tool_lists.innoextract, tool_lists.msi_files):
        assert all(isinstance(file, FileSeen) for file in (*read(text), *read(head + text)))
    tool_lists.msi_properties(text)
    tool_lists.msi_bits(text)
