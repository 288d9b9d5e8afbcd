"""The settings, with less patience: whoever is silent counts as lost within seconds, so that tests need not wait."""

from config.settings import *  # noqa: F403
from tests.waiting import allowed

HEARTBEAT_S, LOST_AFTER_S, SWEEP_S = 1, allowed(8), 2
