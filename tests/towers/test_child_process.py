"""One task in a process of its own: an answer, or one line that says how it ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from siglip_search.errors import DeviceError, ModelError
from siglip_search.towers.child_process import ask_child, run_child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    Ask = Callable[..., dict[str, Any]]

HEADER = """
import os, sys, time
from siglip_search.errors import DeviceError
from siglip_search.towers.child_process import answer_parent, say_to_parent
def work():
"""


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a function's body as the child."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def ask(body: str, *arguments: str, timeout_seconds: float = 60) -> dict[str, Any]:
        indented = "".join(f"    {line}\n" for line in body.strip().split("\n"))
        (tmp_path / "child_of_test.py").write_text(HEADER + indented + "answer_parent(work)\n")
        return ask_child(
            "child_of_test",
            arguments,
            what="it could not be made",
            hint="Try again.",
            timeout_seconds=timeout_seconds,
        )

    return ask


def test_an_answer_comes_back_whatever_libraries_print_around_it(ask: Ask) -> None:
    body = 'os.write(1, b"# LIBNATIVE: hello")\nreturn {"said": sys.argv[1]}'
    assert ask(body, "wörds") == {"said": "wörds"}


def test_an_error_of_the_child_is_the_parents(ask: Ask) -> None:
    with pytest.raises(DeviceError, match=r"^no NPU$") as caught:
        ask('raise DeviceError("no NPU", hint="Buy one.")')
    assert caught.value.hint == "Buy one."


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_crash_is_one_line(ask: Ask) -> None:
    with pytest.raises(ModelError, match=r"^it could not be made: .* \(SIGABRT\)$") as caught:
        ask("os.abort()")
    assert caught.value.hint == "Try again."


def test_an_end_without_an_answer_is_one_line(ask: Ask) -> None:
    with pytest.raises(ModelError, match=r"\(exit status 7\)$"):
        ask("os._exit(7)")
    with pytest.raises(ModelError, match=r"\(exit status 0\)$"):
        ask("os._exit(0)")


def test_an_unexpected_exception_is_named(ask: Ask) -> None:
    with pytest.raises(ModelError, match=r"\(exit status 1: MemoryError: too much\)$"):
        ask('raise MemoryError("too much")')


@pytest.mark.parametrize("end", ["os._exit(3)", "time.sleep(600)"])
def test_how_far_it_got_is_known_however_it_ended(ask: Ask, end: str) -> None:
    body = 'os.write(1, b"half a line")\nsay_to_parent(stage="loading")\n'
    body += f'sys.stderr.write("first\\nlast\\n")\nsys.stderr.flush()\n{end}'
    with pytest.raises(ModelError):
        ask(body, timeout_seconds=2)
    child = run_child("child_of_test", [], timeout_seconds=2)
    assert child.last == {"stage": "loading"}
    assert child.complained == "last"
    if "exit" in end:
        assert (child.status, child.ending) == (3, "exit status 3: last")
    else:
        assert (child.status, child.ending) == (None, "killed")


def test_a_child_that_hangs_is_killed(ask: Ask, tmp_path: Path) -> None:
    body = f'open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))\ntime.sleep(600)'
    with pytest.raises(ModelError, match="no answer in 3 s"):
        ask(body, timeout_seconds=3)
    if os.name != "nt":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
