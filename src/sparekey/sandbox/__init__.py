"""A practice AWS on loopback that behaves like the real one where it hurts.

It knows nothing of the rest of sparekey, so that it can judge it.
"""

from sparekey.sandbox.clock import SandboxClock
from sparekey.sandbox.errors import SandboxError
from sparekey.sandbox.scenario import Scenario, demo_company, load_scenario, parse_scenario
from sparekey.sandbox.serve import Sandbox, serve

__all__ = [
    "Sandbox",
    "SandboxClock",
    "SandboxError",
    "Scenario",
    "demo_company",
    "load_scenario",
    "parse_scenario",
    "serve",
]
