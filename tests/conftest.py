"""Settings for the whole suite."""

import os
import signal

from hypothesis import HealthCheck, settings

# In CI the same examples every time, so that a failure there can be repeated; elsewhere new ones.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile(
    "dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs like this, and the processes that tests interrupt inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
