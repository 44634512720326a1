"""The way out of a guest: a recording proxy of the harness's own, reached over the guest's way in and no network."""
