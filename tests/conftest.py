"""What holds for all tests."""

import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process they start:
# the tests that press it need the usual answer.
signal.signal(signal.SIGINT, signal.default_int_handler)
