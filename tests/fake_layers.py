"""Simulated guests that can be frozen with a product up: what lay in one is in each guest of its layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from harness.deadline import Deadline
from harness.fake_guest import Called
from harness.image import Image
from harness.products.fake import DATABASE, GUARD
from harness.protection import Layer, Protection
from harness.providers.api import Arm, Endpoint, FrozenLayer
from harness.providers.fake import FakeProvider, _FakeLease
from tests.fake_lab import guarded_machine

#: What a frozen guest may hold instead of what it should; gives its files, and whether the product runs in it.
Spoil = Callable[[dict[str, bytes]], bool]


def whole(files: dict[str, bytes]) -> bool:
    """Spoil nothing."""
    del files
    return True


class LayeredProvider(FakeProvider):
    """Leases guests of layers too.

    Args:
        spoil: Changes what is frozen.
    """

    def __init__(self, spoil: Spoil = whole) -> None:
        super().__init__(guarded_machine)
        self.spoil = spoil
        self.frozen: dict[str, Mapping[str, bytes]] = {}
        self.leased: list[str] = []

    @contextmanager
    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[_FakeLease]:
        """Make one machine, with what was frozen in it; see ``Provider.lease``."""
        with super().lease(image, run_id=run_id, name=name, deadline=deadline) as lease:
            self.leased.append(image.reference)
            if image.reference in self.frozen:
                machine = lease.machine
                machine.files.update(self.frozen[image.reference])
                tell = machine.programs[GUARD]
                tell(Called(argv=(GUARD, "load"), user="root", stdin=b"", deadline=deadline))
                if not self.spoil(machine.files):
                    tell(Called(argv=(GUARD, "stop"), user="root", stdin=b"", deadline=deadline))
            yield lease


class FakeFreezer:
    """Freezes guests of that provider; see ``Freezes``."""

    def __init__(self, provider: LayeredProvider) -> None:
        self._provider = provider
        self._layers: dict[str, Layer] = {}

    def layer(self, image: Image, up: Protection) -> Layer | None:
        """See ``Freezes.layer``."""
        return self._layers.get(f"{image.content} {up.digest()}")

    def freeze(
        self,
        image: Image,
        up: Protection,
        *,
        arm: Arm,
        prove: Callable[[Layer], None],
        report: Callable[[str], None],
    ) -> FrozenLayer:
        """See ``Freezes.freeze``."""
        del report
        known = self.layer(image, up)
        if known is not None:
            return FrozenLayer(layer=known, made=False, duration_s=0.0)
        reference = f"layer-{len(self._provider.frozen) + 1}"
        limit = Deadline.after(10.0)
        with self._provider.lease(image, run_id="freeze", name=f"guest-of-{reference}", deadline=limit) as lease:
            planted = arm(Endpoint(transport="fake", address=lease.machine.name), limit)
            self._provider.frozen[reference] = dict(lease.machine.files)
        leased = image.model_copy(update={"reference": reference, "content": f"content-of-{reference}"})
        layer = Layer(image=leased, protection=up, planted=planted)
        prove(layer)
        self._layers[f"{image.content} {up.digest()}"] = layer
        return FrozenLayer(layer=layer, made=True, duration_s=0.0)


#: Where the product keeps what it knows.
SET_FILE = DATABASE
