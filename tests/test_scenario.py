from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.image import Folder
from harness.scenario import INSPECT, STEP_KINDS, Deliver, Dwell, LogLine, Scenario, Service, Step
from tests.builders import make_over_older_scenario, make_scenario, make_update_scenario


def test_the_step_kinds_are_the_documented_ones_and_none_is_called_inspect() -> None:
    assert STEP_KINDS == (
        "deliver", "install", "update", "verify_files", "launch", "self_update", "connect", "press", "dwell", "scan",
        "close", "reboot", "uninstall", "vendor_update", "run",
    )  # fmt: skip
    assert INSPECT not in STEP_KINDS


@pytest.mark.parametrize(
    "step", [{}, {"deliver": {}, "install": {}}, {"deliver": None}, {"scna": {}}, {"deliver": {"too": "downloads"}}]
)
def test_a_step_has_exactly_one_known_kind_with_known_settings(step: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Step.model_validate(step)


def test_a_step_knows_its_kind_and_its_settings() -> None:
    step = Step.model_validate({"deliver": {"to": "temp"}})
    assert step.kind == "deliver"
    assert step.action == Deliver(to=Folder.TEMP)


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_every_kind_of_step_has_a_deadline(kind: str) -> None:
    needed: dict[str, dict[str, object]] = {
        "launch": {"program": "a.exe", "window": "a"},
        "dwell": {"seconds": 1},
        "run": {"command": ["true"]},
        "close": {"window": "a"},
        "uninstall": {"program": "a.exe"},
        "press": {"keys": ["enter"]},
    }
    action = Step.model_validate({kind: needed.get(kind, {})}).action
    assert action.timeout_s > 0


@pytest.mark.parametrize("timeout_s", [0, -1, 3601, float("inf"), float("nan")])
def test_a_deadline_is_a_positive_number_of_at_most_an_hour(timeout_s: float) -> None:
    with pytest.raises(ValidationError):
        Deliver(timeout_s=timeout_s)


def test_a_dwell_outlasts_its_own_seconds_by_default() -> None:
    assert Dwell(seconds=3600).timeout_s >= 3600


def test_a_log_line_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(ValidationError, match="is no regular expression"):
        LogLine(file="a.log", matches="connected (")


@pytest.mark.parametrize("name", ["", "Fresh", "a b", "a/b", "-a", "a" * 65])
def test_a_scenarios_name_fits_into_a_cells_id(name: str) -> None:
    with pytest.raises(ValidationError):
        make_scenario(name)


def test_a_scenario_has_at_least_one_step() -> None:
    with pytest.raises(ValidationError):
        Scenario(name="empty", steps=())


@pytest.mark.parametrize(
    "changes", [{"name": "Trading"}, {"command": ()}, {"ready": {"tcp": 0}}, {"patch_folder": "../x"}]
)
def test_a_service_that_could_not_run_is_refused(changes: dict[str, object]) -> None:
    known: dict[str, object] = {"name": "trading", "command": ("python3", "a.py"), "ready": {"tcp": 7001}}
    assert Service.model_validate(known).name == "trading"
    with pytest.raises(ValidationError):
        Service.model_validate({**known, **changes})


def test_vendor_updates_are_counted() -> None:
    assert make_scenario().vendor_updates == 0
    assert make_update_scenario().vendor_updates == 1


def test_a_repetition_is_laid_out_into_steps_of_their_own() -> None:
    close = {"close": {"window": "a"}}
    inner = {"repeat": {"times": 2, "steps": [{"scan": {}}, close]}}
    scenario = Scenario.model_validate(
        {"name": "a", "steps": [{"deliver": {}}, {"repeat": {"times": 2, "steps": [inner]}}]}
    )
    assert [step.kind for step in scenario.steps] == ["deliver"] + ["scan", "close"] * 4


def test_a_repetition_that_never_ends_is_refused() -> None:
    bomb: dict[str, object] = {"scan": {}}
    for _ in range(5):
        bomb = {"repeat": {"times": 100, "steps": [bomb]}}
    with pytest.raises(ValidationError, match="more than 500"):
        Scenario.model_validate({"name": "a", "steps": [bomb]})


OLDER = [{"deliver": {"build": "older"}}, {"install": {}}]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{"deliver": {}}, {"update": {}}], "step 2 is 'update'.*an older build is installed"),
        ([{"deliver": {}}, {"install": {}}, {"update": {}}], "an older build is installed"),
        ([*OLDER, {"update": {}}], "this build is delivered after it"),
        ([*OLDER, {"uninstall": {"program": "u.exe"}}, {"deliver": {}}, {"update": {}}], "an older build is installed"),
        ([*OLDER, {"deliver": {}}, {"update": {}}, {"update": {}}], "step 5 is 'update'"),
        (OLDER, "no 'update' step installs this build over it"),
    ],
)
def test_an_update_needs_an_older_build_that_is_installed_and_this_one_delivered(
    steps: list[object], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        Scenario.model_validate({"name": "a", "steps": steps})


def test_steps_are_about_the_older_build_up_to_the_update_but_not_the_delivery_of_this_one() -> None:
    scenario = make_over_older_scenario()
    kinds = [step.kind for step in scenario.steps]
    assert kinds[:5] == ["deliver", "install", "launch", "deliver", "update"]
    assert [scenario.is_about_older(index) for index in range(len(kinds))] == [True, True, True] + [False] * 5
    assert scenario.updated_at == 4
    assert not any(make_scenario().is_about_older(index) for index in range(5))


@pytest.mark.parametrize(
    ("press", "says"),
    [
        ({}, "either 'keys' or a click"),
        ({"keys": ["enter"], "at": {"window": "a", "x": 1, "y": 1}}, "either 'keys' or a click"),
        ({"keys": []}, "at least 1"),
        ({"keys": ["alt+f13"]}, "'f13' is no key"),
        ({"keys": ["alt-f4"]}, "'alt-f4' is no key"),
        ({"keys": [""]}, "'' is no key"),
        ({"at": {"window": "a", "x": -1, "y": 1}}, "greater than or equal to 0"),
        ({"at": {"window": "", "x": 1, "y": 1}}, "at least 1"),
    ],
)
def test_a_press_is_of_known_keys_or_at_a_place(press: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Step.model_validate({"press": press})
    assert Step.model_validate({"press": {"keys": ["alt+f4", "enter"], "window": "HTS"}}).kind == "press"


FIELD = {"window": "로그인", "field": "계정", "secret": "HTS_ACCOUNT"}


def connect(**fill: object) -> dict[str, object]:
    return {"connect": {"fill": [{key: value for key, value in {**FIELD, **fill}.items() if value is not None}]}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"field_number": 1}, "either 'field'"),
        ({"field": None}, "either 'field'"),
        ({"text": "a"}, "either 'text' or 'secret'"),
        ({"secret": None}, "either 'text' or 'secret'"),
        ({"secret": "lower"}, "pattern"),
        ({"secret": "A-B"}, "pattern"),
        ({"field": None, "field_number": 0}, "greater than or equal to 1"),
    ],
)
def test_a_field_is_found_in_one_way_and_filled_with_one_thing(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Step.model_validate(connect(**changes))


def test_a_scenario_names_its_secrets_also_in_repetitions() -> None:
    again = {"repeat": {"times": 2, "steps": [connect(secret="PIN_2")]}}  # noqa: S106 - a name
    scenario = Scenario.model_validate({"name": "a", "steps": [connect(), connect(secret=None, text="x"), again]})
    assert scenario.secrets == {"HTS_ACCOUNT", "PIN_2"}


@pytest.mark.parametrize("name", ["", "bin\\a.exe", "bin/a.exe"])
def test_a_module_is_a_file_name(name: str) -> None:
    with pytest.raises(ValidationError):
        Step.model_validate({"connect": {"modules": [name]}})


def test_a_program_that_ends_by_itself_has_no_modules_to_see() -> None:
    with pytest.raises(ValidationError, match="leaves no 'modules'"):
        Step.model_validate({"launch": {"program": "a.exe", "exit_codes": [0], "modules": ["a.dll"]}})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seconds": 60, "look_again_at_s": [61]}, "no second 61 at which it could look again"),
        ({"seconds": 60, "look_again_at_s": [30, 0]}, "no second 0"),
        ({"seconds": 60, "timeout_s": 10}, "cannot have the shorter 'timeout_s' 10"),
    ],
)
def test_a_look_that_would_never_happen_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Step.model_validate({"dwell": settings})
