"""The labels: what is right, written down by hand from the rules of ARCHITECTURE.md, and why.

1. A label says outcome, stage and rule of one attempt beside its controls. It was never copied from the tool's answer:
   where the two differ, one of them is wrong, and it is found out which.
2. Of a recorded attempt it is known what was really in the guest (which set, which build, what was killed); the step of
   a product's act was read in its raw log.
3. A constructed attempt is a recorded or a simulated one with one trouble; see ``troubles.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.attempt import Kind
from harness.observation import Action
from harness.verdict import Outcome
from tests.corpus import troubles as t
from tests.corpus.troubles import Trouble

C, D, Q, B = Outcome.COMPATIBLE, Outcome.DETECTED, Outcome.QUARANTINED, Outcome.BLOCKED
BROKEN, FAULT, UNKNOWN = Outcome.BROKEN, Outcome.BUILD_FAULT, Outcome.INCONCLUSIVE

Right = tuple[Outcome, str | None, str]

FRESH, UPDATED, LIFE = "fresh-install", "released-then-updated", "lifecycle"
STEPS = ("deliver", "install", "verify_files", "launch", "self_update", "connect", "dwell")
DELIVER, INSTALL, VERIFY, LAUNCH, SELF_UPDATE, CONNECT, DWELL = range(7)
INSPECT = 7

#: In the scenario of an update: the older build's launch, and the new one's.
LIFE_LAUNCH, LIFE_LAUNCH_AGAIN = 2, 7

# --- recorded on real guests: cell -> label of every attempt of it ---------------------------------------------------

TAKEN: Right = (Q, "connect", "product.acted")  # the program's login opens hts_comm.dll; standard ClamAV looks at opens
TAKEN_SETUP: Right = (Q, "install", "product.acted")  # the start of the installer opens it
DENIED: Right = (B, "self_update", "product.acted")  # the updater may not be executed
GOOD: Right = (C, None, "all.passed")
OWN_FAULT: Right = (FAULT, "connect", "step.failed")  # 1.2.0 fails at its server in both controls too
CONTROL: Right = (C, None, "control.passed")
OWN_FAULT_IN_CONTROL: Right = (FAULT, "connect", "control.failed")
ROOT = "reference"


def _id(build: str, product: str, sets: str, scenario: str = FRESH) -> str:
    return f"{build}/{ROOT}/{product}/{sets}/{scenario}"


CLAM, UNPACK, FAPO, NONE = "clamav-standard", "clamav-unpack", "fapolicyd-standard", "none-standard"

RECORDED: dict[str, Right] = {
    _id("1.0.0", CLAM, "2026-11-04"): GOOD,
    _id("1.0.0", CLAM, "2026-11-05"): TAKEN,
    _id("1.0.0", CLAM, "2026-11-06"): TAKEN,
    _id("1.0.0", CLAM, "2026-11-08"): GOOD,
    _id("1.1.0", CLAM, "2026-11-04"): GOOD,
    _id("1.1.0", CLAM, "2026-11-05"): TAKEN,
    _id("1.1.0", CLAM, "2026-11-06"): TAKEN_SETUP,
    _id("1.1.0", CLAM, "2026-11-08"): GOOD,
    _id("1.2.0", CLAM, "2026-11-04"): OWN_FAULT,
    # The module is taken before the build's own fault can show: the product's record stands.
    _id("1.2.0", CLAM, "2026-11-05"): TAKEN,
    _id("1.2.0", CLAM, "2026-11-06"): TAKEN,
    _id("1.2.0", CLAM, "2026-11-08"): OWN_FAULT,
    _id("1.0.0", FAPO, "baseline"): GOOD,
    _id("1.1.0", FAPO, "baseline"): GOOD,
    _id("1.2.0", FAPO, "baseline"): OWN_FAULT,
    _id("1.0.0", FAPO, "strict-1"): DENIED,
    _id("1.1.0", FAPO, "strict-1"): DENIED,
    _id("1.2.0", FAPO, "strict-1"): DENIED,
    _id("1.0.0", CLAM, "2026-11-04+2026-11-05", UPDATED): TAKEN,
    _id("1.1.0", CLAM, "2026-11-04+2026-11-05", UPDATED): TAKEN,
    _id("1.0.0", CLAM, "2026-11-04+2026-11-08", UPDATED): GOOD,
    _id("1.1.0", CLAM, "2026-11-04+2026-11-08", UPDATED): GOOD,
    # With archives unpacked the installer itself is known by the module in it.
    _id("1.0.0", UNPACK, "2026-11-05"): TAKEN_SETUP,
    _id("1.1.0", UNPACK, "2026-11-05"): TAKEN_SETUP,
    _id("1.2.0", UNPACK, "2026-11-05"): TAKEN_SETUP,
    _id("1.0.0", UNPACK, "2026-11-04"): GOOD,
    _id("1.1.0", CLAM, "2026-11-04", LIFE): GOOD,
    _id("1.1.0", CLAM, "2026-11-05", LIFE): TAKEN,
    # Drills: a set without the test object; a reload that did not happen; the daemon killed in the middle.
    _id("1.0.0", CLAM, "no-canary"): (UNKNOWN, None, "lab.canary"),
    _id("1.0.0", CLAM, "2026-11-04+not-reloaded", UPDATED): (UNKNOWN, None, "lab.trouble"),
    _id("1.0.0", CLAM, "2026-11-04", "protection-killed"): (UNKNOWN, None, "lab.protection"),
    _id("1.0.0", NONE, "none"): CONTROL,
    _id("1.1.0", NONE, "none"): CONTROL,
    _id("1.2.0", NONE, "none"): OWN_FAULT_IN_CONTROL,
    _id("1.0.0", NONE, "none", UPDATED): CONTROL,
    _id("1.1.0", NONE, "none", UPDATED): CONTROL,
    _id("1.0.0", NONE, "none", "protection-killed"): CONTROL,
    _id("1.1.0", NONE, "none", LIFE): CONTROL,
}

# The second archive: what a TEST product of ours does by script (``seeds/signatures/guard.yaml``), and updates over an
# older build. All of it by the collector that samples behind its own last look too.

GUARD, SOON, LONGER = "guard-standard", "connects-soon", "watched-longer"

RECORDED_LATER: dict[str, Right] = {
    _id("1.0.0", GUARD, "quiet"): GOOD,
    _id("1.0.0", GUARD, "takes-updater"): (Q, "self_update", "product.acted"),
    # It says that it has 'quiet' and reacts as 'claims-another' does.
    _id("1.0.0", GUARD, "claims-another"): (UNKNOWN, None, "lab.protection"),
    _id("1.0.0", GUARD, "quiet+denies", UPDATED): (B, "connect", "product.acted"),
    _id("1.0.0", GUARD, "quiet+quarantines", UPDATED): TAKEN,
    # Held for a while and said: the step fails beside an alert. In silence, it only fails.
    _id("1.0.0", GUARD, "quiet+locks", UPDATED): (B, "connect", "step.failed"),
    _id("1.0.0", GUARD, "quiet+locks-silently", UPDATED): (BROKEN, "connect", "step.failed"),
    _id("1.0.0", GUARD, "quiet+answers-late", SOON): GOOD,
    # Out of time alone, for at least three times the control's time; beside other guests see ``NOT_ALONE``.
    _id("1.0.0", GUARD, "quiet+answers-never", SOON): (BROKEN, "connect", "step.failed"),
    _id("1.0.0", GUARD, "quiet+puts-back", UPDATED): TAKEN,  # what was put back was taken all the same
    _id("1.0.0", GUARD, "quiet+alerts", UPDATED): (D, "connect", "all.passed"),
    _id("1.0.0", GUARD, "quiet+takes-silently", UPDATED): (UNKNOWN, "inspect", "files.changed"),
    # It says that it has moved to the new set; the old one's marker fires still.
    _id("1.0.0", GUARD, "quiet+pretends", UPDATED): (UNKNOWN, None, "lab.trouble"),
    _id("1.0.0", GUARD, "quiet+acts-late", LONGER): (Q, "dwell", "product.acted"),
    _id("1.0.0", GUARD, "quiet+kills", LONGER): (B, "dwell", "product.acted"),
    _id("1.1.0", CLAM, "2026-11-04", LIFE): GOOD,
    _id("1.1.0", CLAM, "2026-11-05", LIFE): TAKEN,
    # The older build's program is known, and taken while it is installed: there was nothing to update.
    _id("1.1.0", CLAM, "older-main-known", LIFE): (UNKNOWN, "install", "older.build"),
    _id("1.0.0", NONE, "none"): CONTROL,
    _id("1.0.0", NONE, "none", UPDATED): CONTROL,
    _id("1.0.0", NONE, "none", SOON): CONTROL,
    _id("1.0.0", NONE, "none", LONGER): CONTROL,
    _id("1.1.0", NONE, "none", LIFE): CONTROL,
}

#: What the same cell's attempts mean that were made beside other guests.
NOT_ALONE: dict[str, Right] = {
    _id("1.0.0", GUARD, "quiet+answers-never", SOON): (UNKNOWN, "connect", "step.failed"),
}

# --- recorded on simulated guests: story -> label of its attempts, first to last -------------------------------------

SIMULATED: dict[str, tuple[Right, ...]] = {
    "all is well": (GOOD,),
    "the vendor withdraws": (GOOD,),
    "the incident": (TAKEN, TAKEN),
    "a known module": (TAKEN, TAKEN),
    "a known installer": (TAKEN_SETUP, TAKEN_SETUP),
    "a denied updater": (DENIED, DENIED),
    "an alert alone": ((D, "connect", "all.passed"),),
    # The alert says that the product minded; that the step fails with it alone, and in two guests, makes it a block.
    "an alert, and it dies": ((B, "connect", "step.failed"),) * 2,
    "taken late": ((Q, "self_update", "product.acted"),) * 2,
    "taken at the last look": ((Q, "inspect", "product.acted"),) * 2,
    "taken, then the guest dies": ((Q, "launch", "product.acted"),) * 2,
    "it dies beside the product": ((BROKEN, "connect", "step.failed"),) * 2,
    "the guest crashes beside the product": ((UNKNOWN, "launch", "lab.crash"),) * 2,
    "a file vanishes beside the product": ((UNKNOWN, "inspect", "files.changed"),) * 2,
    "the build fails by itself": (OWN_FAULT,),
    "the installer fails by itself": ((FAULT, "install", "step.failed"),),
    "the guest is lost once": ((UNKNOWN, None, "lab.trouble"), GOOD),
    "protection ends": ((UNKNOWN, None, "lab.protection"),) * 2,
    "protection pauses, and is back": ((Q, "inspect", "product.acted"),) * 2,
    "a reload that silently fails": ((UNKNOWN, None, "lab.trouble"),) * 2,
    "an excluded folder": ((UNKNOWN, None, "lab.canary"),) * 2,
    "the log is cut": ((UNKNOWN, None, "evidence.unread"),) * 2,
    "a stranger is denied": ((UNKNOWN, None, "evidence.unread"),),
}

# --- constructed -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One constructed attempt: ``of`` which one it is made; ``controls`` names how they are (``test_corpus.py``)."""

    name: str
    of: str
    trouble: Trouble
    right: Right
    controls: str = "two"
    why: str = ""


def lab(rule: str) -> Right:
    return (UNKNOWN, None, f"lab.{rule}")


UNREAD: Right = (UNKNOWN, None, "evidence.unread")
UNSURE_CONNECT: Right = (UNKNOWN, "connect", "step.failed")
CHANGED: Right = (UNKNOWN, "inspect", "files.changed")


def everywhere(pack: str) -> list[Label]:
    """What means the same of every product."""

    def of(name: str, trouble: Trouble, right: Right, controls: str = "two", why: str = "") -> Label:
        return Label(name=f"{pack}: {name}", of=pack, trouble=trouble, right=right, controls=controls, why=why)

    quarantines = pack != "fapolicyd"
    taken = Q if quarantines else B
    act = Action.QUARANTINED if quarantines else Action.DENIED
    return [
        # Trouble of ours is never the product's.
        of("the end is missing", t.unfinished, lab("trouble")),
        of("the guest is lost at launch", t.lost(LAUNCH, crashed=False), lab("trouble")),
        of("the guest is lost before the first step", t.lost(None, crashed=False), lab("trouble")),
        of("the guest crashes at connect", t.lost(CONNECT, crashed=True), (UNKNOWN, "connect", "lab.crash")),
        of(
            "the guest crashes before the first step",
            t.lost(None, crashed=True),
            lab("trouble"),
            why="the build was not in it yet",
        ),
        # Protection that is not proven at each border is none.
        of("no sample before the first step", lambda a: t.without(a, t.sample_at(-1)), lab("protection")),
        of("no sample after launch", lambda a: t.without(a, t.sample_at(LAUNCH)), lab("protection")),
        of("no sample after the last step", lambda a: t.without(a, t.sample_at(DWELL)), lab("protection")),
        of("the marker is minded by nobody", t.marker_minded_by_nobody(SELF_UPDATE), lab("protection")),
        of("the marker is refused with EACCES", t.own_marker(INSTALL, open_errno=13, exec_errno=13), lab("protection")),
        of("the marker is gone", t.own_marker(INSTALL, open_errno=2, exec_errno=2), lab("protection")),
        of("the marker cannot be written", t.own_marker(CONNECT, write_errno=28), lab("protection")),
        of("the marker's control is refused too", t.own_marker(CONNECT, control_open_errno=1), lab("protection")),
        of("the guest does not answer about the marker", t.own_marker(DWELL, finished=False), lab("protection")),
        of("another set's marker is refused", t.other_marker(VERIFY, open_errno=1), lab("protection")),
        of("the marker is refused and not recorded", t.unrecorded(t.sample_at(CONNECT)), lab("protection")),
        of("the answer about the markers is garbage", t.nonsense(t.sample_at(LAUNCH)), lab("protection")),
        of("the answer about the markers is lost", t.bytes_missing(t.sample_at(LAUNCH)), lab("protection")),
        # A canary must be refused, recorded, and stand beside a control that is not.
        of("no canary before", lambda a: t.without(a, t.canary_at("before")), lab("canary")),
        of("no canary in the install folder", lambda a: t.without(a, t.canary_at("step")), lab("canary")),
        of("no canary after", lambda a: t.without(a, t.canary_at("after")), lab("canary")),
        of("a canary before is silent", t.minded_by_nobody("before"), lab("canary")),
        of("the canary in the install folder is silent", t.minded_by_nobody("step"), lab("canary")),
        of("a canary after is silent", t.minded_by_nobody("after", 2), lab("canary")),
        of("a canary was read first", t.answers(t.canary_at("before"), 1, bytes_read=68), lab("canary")),
        of("a canary is not answered in time", t.answers(t.canary_at("after"), 1, finished=False), lab("canary")),
        of("a canary is gone", t.answers(t.canary_at("after"), 0, open_errno=2, exec_errno=2), lab("canary")),
        of("a canary's control is refused too", t.answers(t.canary_at("step"), 0, control_open_errno=1), lab("canary")),
        of("the disk is full for a canary", t.answers(t.canary_at("before"), 2, write_errno=28), lab("canary")),
        of("a canary is refused and not recorded", t.unrecorded(t.canary_at("after"), 1), lab("canary")),
        of("the answer about canaries is garbage", t.nonsense(t.canary_at("before")), lab("canary")),
        # No control, no news: also for a cell that passes.
        of("no control", lambda a: a, lab("control"), "none"),
        of("the control was lost", lambda a: a, lab("control"), "lost"),
        of("one control of two was lost", lambda a: a, GOOD, "one lost"),
        of("nothing is wrong", lambda a: a, GOOD),
        # A step failed: only controls can say whose doing it is.
        of("connect fails, no fresh control", t.failed(CONNECT), UNSURE_CONNECT),
        of("connect fails, a fresh control passes", t.failed(CONNECT), (BROKEN, "connect", "step.failed"), "and after"),
        of("connect fails, and the fresh control too", t.failed(CONNECT), UNSURE_CONNECT, "and a failing one after"),
        of("connect fails in two controls alike", t.failed(CONNECT), OWN_FAULT, "failing twice"),
        of("connect fails in one control alike", t.failed(CONNECT), UNSURE_CONNECT, "failing once"),
        of("connect fails in the control by another code", t.failed(CONNECT, code=5), UNSURE_CONNECT, "failing twice"),
        of("connect fails, one control passes", t.failed(CONNECT), UNSURE_CONNECT, "one failing, one passing"),
        of(
            "launch fails, the controls fail later",
            t.failed(LAUNCH, expectation="alive", code=9),
            (BROKEN, "launch", "step.failed"),
            "failing twice and after",
            why="a build's own fault at connect excuses no product at launch",
        ),
        of("connect is out of time beside others", t.failed(CONNECT, timed_out=True), UNSURE_CONNECT, "and after"),
        of(
            "connect is out of time alone, for long",
            t.failed(CONNECT, timed_out=True, alone=True, times=40.0),
            (BROKEN, "connect", "step.failed"),
            "and after",
        ),
        of(
            "connect is out of time alone, not for long",
            t.failed(DWELL, timed_out=True, alone=True, times=2.5),
            (UNKNOWN, "dwell", "step.failed"),
            "and after",
            why="less than three times the control's time",
        ),
        of(
            "the installer fails beside the product",
            t.failed(INSTALL, expectation="exit_code", code=3),
            (BROKEN, "install", "step.failed"),
            "and after",
        ),
        # Nothing unread is good news.
        of("the last piece of the log was cut", t.last_piece_is(truncated=True), UNREAD),
        of("the log started anew", t.last_piece_says(reset=True), UNREAD),
        of("the list of modules is garbage", t.nonsense(t.of(Kind.LOOK, "modules")), UNREAD),
        of("the list of modules is lost", t.bytes_missing(t.of(Kind.LOOK, "modules")), UNREAD),
        of("the list of processes is garbage", t.nonsense(t.of(Kind.LOOK, "processes")), UNREAD),
        of("no last look", lambda a: t.without(a, t.of(Kind.INSPECTION)), UNREAD),
        of("the last look is garbage", t.nonsense(t.of(Kind.INSPECTION)), UNREAD),
        of("the last look was cut", t.inspected(lambda files, _a: files, cut=True), UNREAD),
        of("the last step never ran", t.never_ran(DWELL), UNREAD),
        of("a stranger's file is acted on", t.recorded(act, DWELL, path=t.ELSEWHERE), UNREAD),
        # Changed behind our back.
        of("a module is gone at the last look", t.file_gone(), CHANGED),
        of("a module is another at the last look", t.file_is(sha256="d" * 64), CHANGED),
        of("a module cannot be opened at the last look", t.file_is(sha256=None, errno=13), CHANGED),
        of("a module is gone, one control", t.file_gone(), CHANGED, "one"),
        of("the program's log is another", t.file_is(t.LOG, sha256="d" * 64), GOOD, why="it is declared volatile"),
        of(
            "the program left one file more", t.file_more("extra.tmp"), GOOD, why="only what changes or vanishes counts"
        ),
        of("a foreign module is in the program", t.module_more("/opt/av/hook.dll"), CHANGED),
        of("a system's module is in the program", t.module_more("/usr/lib/wine/fresh.dll"), GOOD),
        of("a step is slow", t.slow(LAUNCH, 30.0), GOOD, why="a slowdown is reported beside the outcome"),
        # The product's own act stands, whatever came later.
        of("the module is acted on at launch", t.recorded(act, LAUNCH), (taken, "launch", "product.acted")),
        of("the program is acted on at dwell", t.recorded(act, DWELL, t.MAIN), (taken, "dwell", "product.acted")),
        of("the module is denied at connect", t.recorded(Action.DENIED, CONNECT), (B, "connect", "product.acted")),
        of("the module is acted on at the last look", t.recorded(act, INSPECT), (taken, "inspect", "product.acted")),
        of("acted on without controls", t.recorded(act, LAUNCH), (taken, "launch", "product.acted"), "none"),
        of(
            "acted on at launch, then the guest crashes",
            lambda a: t.lost(CONNECT, crashed=True)(t.recorded(act, LAUNCH)(a)),
            (taken, "launch", "product.acted"),
        ),
        of(
            "acted on at launch, and connect fails",
            lambda a: t.failed(CONNECT)(t.recorded(act, LAUNCH)(a)),
            (taken, "launch", "product.acted"),
            "and after",
        ),
        of(
            "acted on at launch, protection unproven much later",
            lambda a: t.marker_minded_by_nobody(DWELL)(t.recorded(act, LAUNCH)(a)),
            (taken, "launch", "product.acted"),
        ),
        of(
            "acted on at launch, the set around it unknown",
            lambda a: t.marker_minded_by_nobody(VERIFY)(t.marker_minded_by_nobody(LAUNCH)(t.recorded(act, LAUNCH)(a))),
            (UNKNOWN, "launch", "product.acted"),
            why="an act is filed under the set that was sampled at that step, and none was",
        ),
        of(
            "acted on twice, filed under the earlier",
            lambda a: t.recorded(act, DWELL, t.MAIN)(t.recorded(act, LAUNCH)(a)),
            (taken, "launch", "product.acted"),
        ),
        # Several at once: the earlier rule names the finding.
        of(
            "the marker is silent and a canary too",
            lambda a: t.minded_by_nobody("after")(t.marker_minded_by_nobody(DWELL)(a)),
            lab("protection"),
        ),
        of(
            "connect fails and a canary is silent",
            lambda a: t.minded_by_nobody("before")(t.failed(CONNECT)(a)),
            lab("canary"),
            "and after",
            why="unproven protection convicts nobody",
        ),
        of(
            "connect fails and a module is gone",
            lambda a: t.file_gone()(t.failed(CONNECT)(a)),
            (BROKEN, "connect", "step.failed"),
            "and after",
        ),
        of(
            "a module is gone and the log is cut",
            lambda a: t.last_piece_is(truncated=True)(t.file_gone()(a)),
            UNREAD,
        ),
    ]


def clamav() -> list[Label]:
    """What ClamAV's own records can say."""
    user = "/home/trader/.wine/drive_c/users/trader"
    when = "Thu Nov 26 00:30:00 2026 -> "

    def of(name: str, trouble: Trouble, right: Right, controls: str = "two", why: str = "") -> Label:
        return Label(name=f"clamav: {name}", of="clamav", trouble=trouble, right=right, controls=controls, why=why)

    return [
        of(
            "a move without a reason",
            t.log_line("{module}: moved to '/q/x'\n", step=CONNECT, log="clamonacc.log"),
            (Q, "connect", "product.acted"),
            why="the product took the file, whatever it wrote about it",
        ),
        of(
            "only the client recorded it",
            t.log_line("{module}: Win.Test.UNOFFICIAL FOUND\n", step=CONNECT, log="clamonacc.log"),
            (B, "connect", "product.acted"),
        ),
        of(
            "a scan failed",
            t.log_line("ClamMisc: Unexpected issue; Daemon failed to scan: {module}\n", log="clamonacc.log"),
            lab("protection"),
        ),
        of(
            "an object got no answer",
            t.log_line(when + "{module}: Can't open file or directory ERROR\n"),
            lab("protection"),
        ),
        of("a finding in another shape", t.log_line(when + "something FOUND here FOUND\n"), UNREAD),
        of("a line without its end", lambda a: t.changed(a, t.last_piece(a), lambda raw: raw.rstrip(b"\n")), UNREAD),
        of(
            "a heuristic finding",
            t.log_line(when + "{module}: Heuristics.Test.A FOUND\n", step=LAUNCH),
            (B, "launch", "product.acted"),
        ),
        of(
            "a copy of the build elsewhere, by digest",
            t.log_line(when + "/tmp/copy.bin: Win.Test.UNOFFICIAL({module_md5}:1) FOUND\n", step=LAUNCH),
            (B, "launch", "product.acted"),
            why="the digest is the build's, wherever it lies",
        ),
        of(
            "a file that the program made",
            t.log_line(when + "{install}/cache.bin: Win.Test FOUND\n", step=DWELL),
            (B, "dwell", "product.acted"),
            why="what lies in the install folder is the build's data",
        ),
        of(
            "the installer as delivered",
            t.log_line(when + f"{user}/Downloads/{{setup}}: Win.Test FOUND\n", step=DELIVER),
            (B, "deliver", "product.acted"),
        ),
        of(
            "somebody's download",
            t.log_line(when + f"{user}/Downloads/other.exe: Win.Test FOUND\n", step=DELIVER),
            UNREAD,
        ),
        of(
            "a path like ours",
            t.log_line(when + f"{user}/Downloads/hts-probe-999999-1-0.com: Win.Test FOUND\n"),
            UNREAD,
            why="only paths that we noted before planting are ours",
        ),
        of("the second log was never read", lambda a: t.without(a, t.of(Kind.LOG, "clamonacc.log")), UNREAD),
        of("an exclusion over the install folder", t.settings("OnAccessExcludePath {install}\n"), lab("exclusion")),
        of("an exclusion over its parent", t.settings("OnAccessExcludePath {drive}/Program Files\n"), lab("exclusion")),
        of("an exclusion over the drive", t.settings('OnAccessExcludePath "{drive}"\n'), lab("exclusion")),
        of(
            "an exclusion within the downloads",
            t.settings(f"OnAccessExcludePath {user}/Downloads/x\n"),
            lab("exclusion"),
        ),
        of(
            "an exclusion elsewhere",
            t.settings("OnAccessExcludePath /opt/backup\n"),
            GOOD,
            why="it covers nothing that is tested",
        ),
        of("an exclusion by pattern", t.settings("ExcludePath ^/home/\n"), lab("exclusion")),
        of("the desktop user is excluded", t.settings("OnAccessExcludeUname trader\n"), lab("exclusion")),
        of("a user is excluded by number", t.settings("OnAccessExcludeUID 1000\n"), lab("exclusion")),
        of("an exclusion that is commented out", t.settings("# OnAccessExcludePath {install}\n"), GOOD),
        of("the settings were cut", lambda a: t.marked(a, t.of(Kind.PRODUCT, "settings"), truncated=True), UNREAD),
        of("the settings are lost", t.bytes_missing(t.of(Kind.PRODUCT, "settings")), UNREAD),
        of(
            "connect fails and somebody's exclusion is there",
            lambda a: t.settings("OnAccessExcludePath {install}\n")(t.failed(CONNECT)(a)),
            lab("exclusion"),
            "and after",
        ),
    ]


def fapolicyd() -> list[Label]:
    """What fapolicyd's own records can say."""
    deny = "rule=1 dec=deny_log perm={perm} auid=-1 pid={pid} exe=/usr/lib/wine/wine64 : path={path} ftype=x trust=0\n"

    def of(name: str, trouble: Trouble, right: Right, controls: str = "two", why: str = "") -> Label:
        return Label(
            name=f"fapolicyd: {name}", of="fapolicyd", trouble=trouble, right=right, controls=controls, why=why
        )

    stranger = deny.format(perm="execute", pid=4242, path=t.ELSEWHERE)
    return [
        of("a decision in another shape", t.log_line("rule=x dec=deny_log nothing else\n"), UNREAD),
        of(
            "a line that denies nothing",
            t.log_line("rule=9 dec=allow perm=open auid=-1 pid=1 exe=/a : path=/b\n"),
            GOOD,
        ),
        of("a denied stranger of nobody", t.log_line(stranger), UNREAD),
        of(
            "a denied stranger that the program wanted",
            t.log_line(stranger.replace("pid=4242", "pid={program_pid}"), step=LAUNCH),
            (B, "launch", "product.acted"),
            why="a process that descends from the build wanted it",
        ),
        of(
            "the updater is denied",
            t.log_line(deny.format(perm="execute", pid=1, path="{install}/hts_update.exe"), step=SELF_UPDATE),
            (B, "self_update", "product.acted"),
        ),
        of("a line without its end", lambda a: t.changed(a, t.last_piece(a), lambda raw: raw.rstrip(b"\n")), UNREAD),
    ]


def fake() -> list[Label]:
    """What the simulated product can say and the free ones do not: that it only minded."""

    def of(name: str, trouble: Trouble, right: Right, controls: str = "two", why: str = "") -> Label:
        return Label(name=f"fake: {name}", of="fake", trouble=trouble, right=right, controls=controls, why=why)

    alert = t.recorded(Action.ALERTED, LAUNCH)
    return [
        of("no sample behind the last look", lambda a: t.without(a, t.sample_at(INSPECT)), lab("protection")),
        of(
            "the marker behind the last look is minded by nobody", t.marker_minded_by_nobody(INSPECT), lab("protection")
        ),
        of("an alert at launch", alert, (D, "launch", "all.passed")),
        of("an alert at the last look", t.recorded(Action.ALERTED, INSPECT), (D, "inspect", "all.passed")),
        of("an alert about a stranger", t.recorded(Action.ALERTED, LAUNCH, path=t.ELSEWHERE), UNREAD),
        of(
            "an alert, and connect fails",
            lambda a: t.failed(CONNECT)(alert(a)),
            (B, "connect", "step.failed"),
            "and after",
        ),
        of("an alert, and connect fails, no fresh control", lambda a: t.failed(CONNECT)(alert(a)), UNSURE_CONNECT),
        of(
            "an alert, and connect fails as in the controls",
            lambda a: t.failed(CONNECT)(alert(a)),
            OWN_FAULT,
            "failing twice",
        ),
        of(
            "an alert, and a module is gone",
            lambda a: t.file_gone()(alert(a)),
            CHANGED,
            why="what took it left no record, so the alert does not explain it",
        ),
        of("an alert, and the guest is lost", lambda a: t.lost(CONNECT, crashed=False)(alert(a)), lab("trouble")),
        of("an alert, and a canary is silent", lambda a: t.minded_by_nobody("after")(alert(a)), lab("canary")),
        of("an alert, and no control", alert, lab("control"), "none"),
        of("a line that is none", t.log_line("what?\n"), UNREAD),
    ]


def controls() -> list[Label]:
    """Attempts without a product."""

    def of(name: str, trouble: Trouble, right: Right, beside: str = "alone") -> Label:
        return Label(name=f"none: {name}", of="none", trouble=trouble, right=right, controls=beside)

    older_fails = t.failed(LIFE_LAUNCH, expectation="alive", code=9)
    return [
        Label(
            name="none: the program is for another kind of machine",
            of="none, later",
            trouble=t.not_run_here(LAUNCH),
            right=(UNKNOWN, "launch", "control.machine"),
            controls="alone",
        ),
        Label(
            name="none: the older build fails before the update",
            of="none, update",
            trouble=older_fails,
            right=(UNKNOWN, "launch", "control.older"),
            controls="alone",
        ),
        of("passes", lambda a: a, CONTROL),
        of("fails once", t.failed(CONNECT), (UNKNOWN, "connect", "control.failed")),
        of("fails as another", t.failed(CONNECT), OWN_FAULT_IN_CONTROL, "failing once"),
        of("fails and another passes", t.failed(CONNECT), (UNKNOWN, "connect", "control.failed"), "one"),
        of(
            "fails and another fails otherwise",
            t.failed(CONNECT, code=5),
            (UNKNOWN, "connect", "control.failed"),
            "failing once",
        ),
        of("is lost", t.lost(CONNECT, crashed=False), (UNKNOWN, None, "control.trouble")),
        of("crashes", t.lost(CONNECT, crashed=True), (UNKNOWN, None, "control.trouble")),
        of("has no end", t.unfinished, (UNKNOWN, None, "control.trouble")),
        of("has garbage in it", t.nonsense(t.of(Kind.LOOK, "modules")), (UNKNOWN, None, "control.trouble")),
        of("ran no last step", t.never_ran(DWELL), (UNKNOWN, None, "control.unfinished")),
    ]


def machines() -> list[Label]:
    """What the image does not run says nothing about the product, or the build."""
    right: Right = (UNKNOWN, "launch", "lab.machine")
    name = "guard: the program is for another kind of machine"
    return [
        Label(name=name, of="guard", trouble=t.not_run_here(LAUNCH), right=right),
        Label(
            name=f"{name}, in the controls too",
            of="guard",
            trouble=t.not_run_here(LAUNCH),
            right=right,
            controls="failing twice",
        ),
    ]


def updates() -> list[Label]:
    """What befalls a build that is put over an older one."""

    def of(name: str, trouble: Trouble, right: Right, controls: str = "two", why: str = "") -> Label:
        return Label(
            name=f"update: {name}", of="clamav, update", trouble=trouble, right=right, controls=controls, why=why
        )

    return [
        of("nothing is wrong", lambda a: a, GOOD),
        of(
            "the older build's module is taken at its launch",
            t.recorded(Action.QUARANTINED, LIFE_LAUNCH),
            (UNKNOWN, "launch", "older.build"),
            why="what is there at that step is the older build",
        ),
        of(
            "this build's module is taken at its launch",
            t.recorded(Action.QUARANTINED, LIFE_LAUNCH_AGAIN),
            (Q, "launch", "product.acted"),
        ),
    ]


CONSTRUCTED: tuple[Label, ...] = (
    *everywhere("clamav"),
    *everywhere("guard"),
    *machines(),
    *updates(),
    *everywhere("fapolicyd"),
    *everywhere("fake"),
    *clamav(),
    *fapolicyd(),
    *fake(),
    *controls(),
)

# --- cells: what several attempts mean together ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLabel:
    """Several attempts of one cell and the verdict that they support; names are those of ``CONSTRUCTED``."""

    attempts: Sequence[str]
    right: Right
    flaky: bool = False
    why: str = ""
    controls: str = field(default="and after")


def cells(pack: str) -> list[CellLabel]:
    """Give what holds for every product that can take a file."""

    def of(*names: str) -> list[str]:
        return [f"{pack}: {name}" for name in names]

    good, broken = "nothing is wrong", "connect fails, a fresh control passes"
    acted, gone, crash = (
        "the module is acted on at launch",
        "a module is gone at the last look",
        "the guest crashes at connect",
    )
    taken = B if pack == "fapolicyd" else Q
    return [
        CellLabel(attempts=of(good), right=GOOD),
        CellLabel(attempts=of(acted, acted), right=(taken, "launch", "product.acted")),
        CellLabel(attempts=of(acted, good), right=(taken, "launch", "product.acted"), flaky=True),
        CellLabel(attempts=of(acted, "the end is missing"), right=(taken, "launch", "product.acted"), flaky=True),
        CellLabel(attempts=of(broken), right=(UNKNOWN, "connect", "step.failed"), flaky=True),
        CellLabel(attempts=of(broken, broken), right=(BROKEN, "connect", "step.failed")),
        CellLabel(attempts=of(broken, good), right=(UNKNOWN, "connect", "step.failed"), flaky=True),
        CellLabel(
            attempts=of(broken, "the installer fails beside the product"),
            right=(UNKNOWN, "connect", "step.failed"),
            flaky=True,
            why="two accidents in two guests look like this",
        ),
        CellLabel(attempts=of(gone, gone), right=(BROKEN, "inspect", "files.changed")),
        CellLabel(attempts=of(gone, good), right=(UNKNOWN, "inspect", "files.changed"), flaky=True),
        CellLabel(attempts=of(crash, crash), right=(BROKEN, "connect", "lab.crash")),
        CellLabel(attempts=of(crash, good), right=(UNKNOWN, "connect", "lab.crash"), flaky=True),
        CellLabel(attempts=of("the end is missing", good), right=GOOD),
        CellLabel(attempts=of("a canary after is silent", good), right=GOOD, why="what the lab lost is tried again"),
        CellLabel(
            attempts=of("a stranger's file is acted on", good),
            right=(UNKNOWN, None, "evidence.unread"),
            flaky=True,
            why="it may be the build's own temporary file; a second guest does not take it away",
        ),
        CellLabel(attempts=of("the end is missing", "the end is missing"), right=lab("trouble")),
    ]


CELLS: tuple[CellLabel, ...] = (*cells("clamav"), *cells("fapolicyd"), *cells("fake"))
