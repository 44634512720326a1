"""Where guests come from."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from harness.errors import HarnessError, InputError
from harness.plug_ins import Group, PlugIn, broken, names, part, plug_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.providers.api import ProviderKit

#: Provider name -> what makes its kit. Imported on use: reading a store needs no engine.
PROVIDERS = {"docker": "harness.providers.docker_kit:DockerKit", "qemu": "harness.providers.qemu.kit:QemuKit"}


def provider_names() -> tuple[str, ...]:
    """Give every provider that may be asked for: ours, and those of other packages."""
    return names(Group.PROVIDERS, PROVIDERS)


def kit_of(name: str) -> ProviderKit:
    """Make a provider with what goes with it.

    Raises:
        InputError: There is no such provider.
        LabError: It cannot be used on this machine, or a plug-in brings it and is broken.
    """
    if name in PROVIDERS:
        module, _, attribute = PROVIDERS[name].partition(":")
        return cast("Callable[[], ProviderKit]", getattr(import_module(module), attribute))()
    brought = plug_in(Group.PROVIDERS, name)
    if brought is None:
        raise InputError(f"There is no provider '{name}'.", hint=f"Providers: {', '.join(provider_names())}.")
    return kit_in(brought)


def kit_in(brought: PlugIn) -> ProviderKit:
    """Make a plug-in's kit; ``LabError`` when it is none."""
    make = part(brought, brought.target)
    lacks = [need for need in ("connect", "find") if not hasattr(make, need)]
    if not callable(make) or lacks:
        raise broken(brought, f"it is no class of a kit; it lacks {', '.join(lacks) or 'a constructor'}")
    try:
        kit = cast("Callable[[], ProviderKit]", make)()
    except HarnessError:
        raise
    except Exception as error:  # a stranger's constructor may raise anything
        raise broken(brought, " ".join(f"{type(error).__name__}: {error}".split())[:300]) from error
    lacks = [need for need in ("check", "lease", "sweep") if not hasattr(getattr(kit, "provider", None), need)]
    if lacks:
        raise broken(brought, f"its 'provider' lacks {', '.join(lacks)}")
    return kit
