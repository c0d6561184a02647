"""The error tree as exceptions: what a traceback shows, and what survives pickle and copy."""

from __future__ import annotations

import copy
import inspect
import pickle
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chalkcompute.errors
from chalkcompute.errors import ApiError, ChalkError, ForbiddenError, SpecError
from chalkcompute.types import Cause, Evidence, ReplicaCounts, ScalingGroupInfo, Status, Verdict
from tests.properties import examples

VERDICT = Verdict(Cause.CRASH_LOOP, "it crashes", (Evidence("log", ("boom",), exit_code=3),), next="mend it")
INFO = ScalingGroupInfo(
    id="id-1",
    name="web",
    environment="e",
    namespace="default",
    status=Status.FAILED,
    status_message=None,
    revision=1,
    image="i",
    port=8080,
    replicas=ReplicaCounts(),
    web_url=None,
    tags={"a": "b"},
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=None,
    verdict=VERDICT,
)
VALUES: dict[str, Any] = {
    "field": "port",
    "kind": "Service",
    "name": "web",
    "namespace": "default",
    "status": 403,
    "reason": "Forbidden",
    "code": "DENIED",
    "details": {"kind": "pods", "causes": [{"field": "x"}]},
    "verdict": VERDICT,
    "info": INFO,
}


def pickled(error: ChalkError, protocol: int = pickle.DEFAULT_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(error, protocol))


WAYS: tuple[Callable[[Any], Any], ...] = (
    copy.copy,
    copy.deepcopy,
    *(partial(pickled, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
)


def tree(kind: type[ChalkError] = ChalkError) -> Iterator[type[ChalkError]]:
    if kind.__module__ == chalkcompute.errors.__name__:
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)


def made(kind: type[ChalkError], message: str, hint: str | None) -> ChalkError:
    wanted = set(inspect.signature(kind).parameters) - {"message", "hint"}
    return kind(message, hint=hint, **{name: VALUES[name] for name in wanted})


def known(error: BaseException) -> dict[str, Any]:
    return {**vars(error), "type": type(error), "args": error.args, "str": str(error), "repr": repr(error)}


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
@examples(25)
@given(message=st.text(), hint=st.none() | st.text(), note=st.none() | st.text())
def test_every_error_survives_pickle_and_copy(
    kind: type[ChalkError], message: str, hint: str | None, note: str | None
) -> None:
    error = made(kind, message, hint)
    if note is not None:
        error.add_note(note)
    for way in WAYS:
        again = way(error)
        assert known(again) == known(error)
        assert (again.hint, again.exit_code) == (hint, kind.exit_code)
        again.hint = "another"
        assert error.hint == hint, "a copy has its own notes"


def test_an_error_that_was_raised_from_another_process_has_all_it_knows() -> None:
    error = pickled(ForbiddenError("no", status=403, reason="Forbidden", hint="ask"))
    assert (error.status, error.reason, error.details, error.hint) == (403, "Forbidden", {}, "ask")


def shown(error: BaseException) -> list[str]:
    return "".join(traceback.format_exception(error)).splitlines()


def test_a_traceback_shows_the_hint_and_str_does_not() -> None:
    error = SpecError("`port` is wrong", field="port", hint="write a number")
    assert str(error) == "`port` is wrong"
    assert shown(error) == ["chalkcompute.errors.SpecError: `port` is wrong", "hint: write a number"]
    assert len(shown(SpecError("`port` is wrong", field="port"))) == 1


def test_a_hint_that_is_set_later_replaces_the_note() -> None:
    error = ApiError("refused", status=403, hint="first")
    error.add_note("seen on Monday")
    error.hint = "second"
    assert shown(error)[1:] == ["seen on Monday", "hint: second"]
    error.hint = None
    assert shown(error)[1:] == ["seen on Monday"]
    error.hint = "third"
    assert error.hint == "third"
    assert shown(error)[1:] == ["seen on Monday", "hint: third"]
