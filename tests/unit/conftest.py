"""Settings of the property tests here."""

from __future__ import annotations

from hypothesis import settings

# No deadline: a machine that trains or builds beside the tests is slow now and then, which says nothing of the code.
settings.register_profile("unit", max_examples=60, deadline=None)
settings.load_profile("unit")
