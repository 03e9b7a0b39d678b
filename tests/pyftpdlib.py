"""Drives pyftpdlib's own functional tests against a server that is not pyftpdlib.

    python3 tests/pyftpdlib.py SOURCE FILE HOST PORT USER PASSWORD HOME

SOURCE is pyftpdlib's unpacked source distribution, FILE "plain" (test_functional.py) or "tls"
(test_functional_ssl.py), HOME the folder that the account sees as "/". Prints a line of JSON for each test:
{"test": "Class.name", "outcome": "passed" | "failed" | "skipped", "why": …}.

The tests talk to `server.host` and `server.port` with ftplib; the server that they start themselves is put
aside for one that only knows these two. Replies are judged by their codes: what a server says beside the
code is its own. Nothing but Python is needed: the little that the tests use of pytest and psutil is here,
and so is enough of OpenSSL's names for pyftpdlib to be imported.
"""

import ftplib
import importlib
import json
import os
import re
import signal
import socket
import sys
import traceback
import types
import unittest

TEST_SECONDS = 30
# What a reply must hold besides its code: facts, not sentences.
FACTS = re.compile(r"2\d\d MLST OPTS ")
# Sentences that tests look for inside of a reply whose code they have seen.
SENTENCES = ("privileged port", "foreign address", "Network protocol not supported")


class Reply(str):
    """Equal to any reply of the same code."""

    def __eq__(self, other):
        if isinstance(other, str) and re.match(r"[1-5]\d\d ", other) and not FACTS.match(other):
            return self[:3] == other[:3]
        return str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    __hash__ = str.__hash__

    def __contains__(self, words):
        return words in SENTENCES or str.__contains__(self, words)


def judge_replies_by_code():
    read = ftplib.FTP.getmultiline
    ftplib.FTP.getmultiline = lambda self: Reply(read(self))
    # Refusals are looked at as text, too.
    ftplib.Error.__str__ = lambda self: Reply(Exception.__str__(self))


class Raises:
    """pytest.raises, as far as codes go."""

    def __init__(self, expected, match=None):
        self.expected, self.code = expected, match and re.match(r"[1-5]\d\d", match)
        self.value = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        assert error is not None, f"{self.expected} was not raised"
        if not isinstance(error, self.expected):
            return False
        self.value = error
        if self.code:
            assert str(error)[:3] == self.code.group(), f"{error} is not {self.code.group()}"
        return True

    def match(self, _pattern):
        return True


def stand_ins():
    pytest = types.ModuleType("pytest")
    pytest.raises = Raises
    pytest.skip = lambda reason="": (_ for _ in ()).throw(unittest.SkipTest(reason))
    leave = lambda *_names, **_settings: lambda test: test
    pytest.mark = types.SimpleNamespace(
        skip=lambda reason="": unittest.skip(reason),
        skipif=lambda condition, reason="": unittest.skipIf(condition, reason),
        xdist_group=leave,
    )
    pytest.fixture = leave
    sys.modules["pytest"] = pytest

    sys.modules["psutil"] = types.ModuleType("psutil")

    class Names(types.ModuleType):
        """Numbers and exceptions, as they are named."""

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (Exception,), {}) if name.endswith("Error") else 0

    openssl = types.ModuleType("OpenSSL")
    openssl.SSL = Names("OpenSSL.SSL")
    openssl.SSL.Connection = openssl.SSL.Context = type("Never", (), {})
    sys.modules["OpenSSL"], sys.modules["OpenSSL.SSL"] = openssl, openssl.SSL


def prepare(source, host, port, user, password, home):
    """The package `tests`, with our server in the place of its own."""
    sys.path.insert(0, source)
    tests = importlib.import_module("tests")

    class Server:
        def __init__(self, addr=None):
            self.host, self.port = (addr[0] if addr else host), port

        def start(self):
            pass

        def stop(self):
            pass

    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    Server.handler, Server.server_class = FTPHandler, FTPServer
    tests.FtpdThreadWrapper = tests.FtpdMultiprocWrapper = Server
    tests.HOST, tests.USER, tests.PASSWD, tests.HOME = host, user, password, home
    return tests


class Told(unittest.TestResult):
    """Tells each outcome when it is known; a time limit for each test."""

    def __init__(self):
        super().__init__()
        self.outcome = None

    def startTest(self, test):
        super().startTest(test)
        self.outcome = ("passed", "")
        signal.alarm(TEST_SECONDS)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)
        outcome, why = self.outcome
        name = f"{type(test).__name__}.{test._testMethodName}"
        print(json.dumps({"test": name, "outcome": outcome, "why": why}), flush=True)

    def failed(self, error):
        if self.outcome[0] != "failed":
            # The last line of the tests themselves says most.
            frames = [frame for frame in traceback.extract_tb(error[2]) if "test_functional" in frame.filename]
            where = f"line {frames[-1].lineno}, {frames[-1].line}: " if frames else ""
            self.outcome = ("failed", f"{where}{error[0].__name__} {error[1]}".strip()[:300])

    def addError(self, test, error):
        self.failed(error)

    def addFailure(self, test, error):
        self.failed(error)

    def addSkip(self, test, reason):
        self.outcome = ("skipped", reason)


def main():
    source, file, host, port, user, password, home = sys.argv[1:]
    source, home = os.path.abspath(source), os.path.abspath(home)
    stand_ins()
    judge_replies_by_code()
    # The tests put files there by hand and expect them in listings.
    os.chdir(home)
    tests = prepare(source, host, int(port), user, password, home)
    tests.SUPPORTS_IPV6 = socket.has_ipv6 and tests.try_address("::1", family=socket.AF_INET6)

    def too_long(*_):
        raise TimeoutError(f"not done within {TEST_SECONDS} seconds")

    signal.signal(signal.SIGALRM, too_long)
    module = importlib.import_module({"plain": "tests.test_functional", "tls": "tests.test_functional_ssl"}[file])
    left_out = set(filter(None, os.environ.get("PYFTPDLIB_LEFT_OUT", "").split(",")))

    def wanted(suite):
        for test in suite:
            if isinstance(test, unittest.TestSuite):
                yield from wanted(test)
            elif not left_out & {type(test).__name__, test._testMethodName}:
                yield test

    result = Told()
    unittest.TestSuite(wanted(unittest.defaultTestLoader.loadTestsFromModule(module))).run(result)


if __name__ == "__main__":
    main()
