"""What holds for all tests."""

import os
import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process they start:
# the tests that press it need the usual answer.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a command does is measured where tests call it in process; the hundred processes that tests start as a person
# would are not measured once more: measuring doubles the time that each takes to begin.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
