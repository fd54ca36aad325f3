"""What the tests of the vendor's Python client share.

ci/clients starts the receivers and sets the addresses. Each test writes metrics of its own through the client's public
methods and reads them back through them; what does not read back exactly is a failure.
"""

import contextlib
import os
import time
import unittest

import librato
from librato.exceptions import NotFound

OPEN = os.environ["ZIBRATO_OPEN"]
GUARDED = os.environ["ZIBRATO_GUARDED"]
TOKEN = os.environ["ZIBRATO_TOKEN"]
USER = "me@example.org"

# A whole minute, late enough for the receiver's window of two hours and early enough for some minutes of points.
MINUTE = int(time.time()) // 60 * 60 - 1800


def connect(address=OPEN, user=USER, token="any", **options):
    """A client as a user would make it, but one that fails on a 5xx: by default it retries for ever."""
    api = librato.connect(user, token, hostname=address, protocol="http", **options)

    def fail(_):
        raise AssertionError("the receiver answered with a status of 500 or more")

    api.backoff_logic = fail
    return api


def points(metric, source="unassigned"):
    """The points of one source as pairs of time and value."""
    return [(point["measure_time"], point["value"]) for point in metric.measurements[source]]


class ClientTest(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.api = connect()

    @contextlib.contextmanager
    def requests(self, method, count):
        """Asserts how many requests the client makes, by its own log."""
        with self.assertLogs("librato", "INFO") as log:
            yield
        self.assertEqual(sum(f"method={method} " in line for line in log.output), count)

    @contextlib.contextmanager
    def refused(self, error, status, text):
        """Asserts the client's own exception, its status and what it says."""
        with self.assertRaises(error) as caught:
            yield
        self.assertEqual(caught.exception.code, status)
        self.assertEqual(str(caught.exception), f"[{status}] {text}")

    def assert_absent(self, *names):
        for name in names:
            with self.refused(NotFound, 404, "request: Not Found"):
                self.api.get(name)
