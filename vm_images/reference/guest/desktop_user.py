"""Who the desktop user of this guest is, and how a program becomes his.

Shared by the guest scripts beside it; standard library only. The values are those of the image (see image.yaml).
"""

import os
import pwd
from collections.abc import Iterable
from typing import Any

USER = "trader"
DISPLAY = ":9"
WINE = "/usr/lib/wine/wine64"
WINESERVER = "/usr/lib/wine/wineserver64"
TOOLS = "/opt/hts-compat"
RUN_FOLDER = "/run/hts-compat"


def environment(name: str = USER) -> dict[str, str]:
    """Give the whole environment of a program of the desktop: nothing is taken over from the caller's.

    Korean needs ``ko_KR.UTF-8``: under C.UTF-8 wine draws empty boxes instead. mscoree and mshtml are switched off
    because wine would offer to download them.
    """
    user = pwd.getpwnam(name)
    return {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "ko_KR.UTF-8",
        "LC_ALL": "ko_KR.UTF-8",
        "DISPLAY": DISPLAY,
        "WINEPREFIX": f"{user.pw_dir}/.wine",
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=",
    }


def become(uid: int, gid: int, groups: Iterable[int] = ()) -> None:
    """Make this process (a forked child, never the script itself) an ordinary user's for good.

    Does nothing when it is that user's already, so that the scripts also run without root.
    """
    if os.getresuid() == (uid, uid, uid) and os.getresgid() == (gid, gid, gid):
        return
    os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def become_user(name: str) -> None:
    """Make this process (a forked child) a named user's for good, with his groups and a plain umask."""
    user = pwd.getpwnam(name)
    become(user.pw_uid, user.pw_gid, os.getgrouplist(name, user.pw_gid))
    os.umask(0o022)


def as_user(name: str) -> dict[str, Any]:
    """Give the arguments that make ``subprocess.Popen`` start a program as a named user; none when he is us."""
    user = pwd.getpwnam(name)
    if os.getuid() == user.pw_uid:
        return {}
    groups = os.getgrouplist(name, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups, "umask": 0o022}
