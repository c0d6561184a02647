"""Calls to a group's URL: what is tried again, what is not."""

import itertools
import re
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chalkcompute.errors import SpecError, UnreachableError
from chalkcompute.service.call import send_call
from chalkcompute.service.request import Call, join

URL = "https://env-web.gw.test"
ENVOY = {"server": "envoy"}
BEFORE_HEADERS = "upstream connect error or disconnect/reset before headers. "
COLD = httpx.Response(503, headers=ENVOY, text="no healthy upstream")


def envoy_says(reason: str) -> httpx.Response:
    return httpx.Response(503, headers=ENVOY, text=f"{BEFORE_HEADERS}{reason}")


NO_CONNECTION = envoy_says("reset reason: remote connection failure")
FROM_A_REPLICA = {**ENVOY, "x-envoy-upstream-service-time": "3"}


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Answer = httpx.Response | Exception


class Gateway(httpx.BaseTransport):
    """Gives each answer once, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def send(gateway: Gateway, clock: Clock, call: Call, **outlook: Callable[[], Any]) -> httpx.Response:
    return send_call(URL, call, transport=gateway, sleep=clock.sleep, monotonic=clock.monotonic, **outlook)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://h", "", "https://h/"),
        ("https://h", "a", "https://h/a"),
        ("https://h/", "/a/b?c=d", "https://h/a/b?c=d"),
        ("https://h:8443", "//a", "https://h:8443/a"),
    ],
)
def test_exactly_one_slash(base: str, path: str, url: str) -> None:
    assert join(base, path) == url


def test_what_is_sent(clock: Clock) -> None:
    gateway = Gateway(httpx.Response(200, text="hi"))
    response = send(
        gateway, clock, Call(path="predict", json={"a": 1}, headers={"x-a": "b"}, params={"q": "1"})
    )
    asked = gateway.asked[0]
    assert (asked.method, str(asked.url)) == ("POST", f"{URL}/predict?q=1")
    assert asked.content == b'{"a":1}'
    assert asked.headers["x-a"] == "b"
    assert (response.text, str(response.url)) == ("hi", f"{URL}/predict?q=1")


def test_a_query_in_the_path_is_kept(clock: Clock) -> None:
    gateway = Gateway(*[httpx.Response(200)] * 3)
    send(gateway, clock, Call(path="/x?a=b", method="GET"))
    send(gateway, clock, Call(path="/x?a=b", method="GET", params={}))
    send(gateway, clock, Call(path="/x?a=b", method="GET", params={"c": [1, 2]}))
    assert [str(asked.url) for asked in gateway.asked] == [
        f"{URL}/x?a=b",
        f"{URL}/x?a=b",
        f"{URL}/x?a=b&c=1&c=2",
    ]


@pytest.mark.parametrize(
    "bodies", [{"json": 1, "data": {}}, {"data": {}, "content": b""}, {"json": 0, "content": b""}]
)
def test_one_body(bodies: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="one body"):
        Call(**bodies)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "BAD METHOD"}, "`method` 'BAD METHOD' is no HTTP method"),
        ({"method": ""}, "is no HTTP method"),
        ({"path": 3}, "`path` must be a string, not `int`"),
        ({"path": "/\0"}, "`path` cannot be part of a URL"),
        ({"headers": {"x-count": 3}}, "`headers`: `x-count` must be a string, not `int`"),
        ({"headers": {"x count": "3"}}, "`headers`: 'x count' is no name of a header"),
        ({"headers": {"x-a": "b\r\nx-c: d"}}, "the value of `x-a` has characters"),
        ({"headers": {"x-a": "Grüße"}}, "the value of `x-a` has characters"),
        ({"headers": [("x-a", "b")]}, "`headers` must be a dictionary"),
        ({"headers": {1: "b"}}, "`headers` must be a dictionary"),
        ({"params": "a=b"}, "`params` must be a dictionary"),
        ({"params": {"a": {"b": 1}}}, "`params`: `a` must be text"),
        ({"params": {"a": [1, b"2"]}}, "`params`: `a` must be text"),
        ({"data": b"a=b"}, "`data` must be a dictionary"),
        ({"data": {"a": object()}}, "`data`: `a` must be text"),
        ({"json": {1, 2}}, "`json` cannot be sent"),
        ({"json": float("nan")}, "`json` cannot be sent"),
        ({"content": 5}, "`content` must be text or bytes, not `int`"),
        ({"content": [1]}, "`content`: each item must be bytes, not `int`"),
        ({"params": {"a": "\ud800"}}, "`params` cannot be sent"),
        ({"timeout": 0}, "`timeout` must be a number of seconds, more than 0 and at most 604800, not 0"),
        ({"timeout": float("inf")}, "`timeout` must be a number of seconds"),
        ({"timeout": "30"}, "`timeout` must be a number of seconds"),
        ({"cold_start_timeout": -1}, "`cold_start_timeout` must be a number of seconds, 0 or more"),
        ({"cold_start_timeout": float("nan")}, "`cold_start_timeout` must be a number of seconds"),
    ],
)
def test_what_can_be_no_request_is_said_and_not_sent(
    clock: Clock, wrong: dict[str, object], said: str
) -> None:
    gateway = Gateway(httpx.Response(200))
    with pytest.raises(SpecError, match=re.escape(said)) as caught:
        send(gateway, clock, Call(**wrong))  # type: ignore[arg-type]
    assert caught.value.field == next(iter(wrong))
    assert gateway.asked == []


def test_a_credential_that_cannot_be_sent_is_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        Call(headers={"authorization": "Bearer s3cret\n"})
    assert "s3cret" not in str(caught.value)


def test_lists_numbers_and_truth_values_are_parameters(clock: Clock) -> None:
    gateway = Gateway(httpx.Response(200))
    send(gateway, clock, Call(params={"a": [1, "b"], "c": True, "d": None, "e": 0.5}))
    assert gateway.asked[0].url.query == b"a=1&a=b&c=true&d=&e=0.5"


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "refusal",
    [
        COLD,
        httpx.Response(503, headers={"server": "istio-envoy"}, text="no healthy upstream"),
        NO_CONNECTION,
        envoy_says("reset reason: connection failure"),
        envoy_says("reset reason: local connection failure"),
        envoy_says("reset reason: connection timeout"),
        envoy_says("retried and the latest reset reason: remote connection failure"),
        envoy_says(
            "reset reason: remote connection failure, transport failure reason: delayed connect error: 111"
        ),
    ],
)
def test_what_the_gateway_refused_is_tried_again(clock: Clock, method: str, refusal: httpx.Response) -> None:
    gateway = Gateway(refusal, refusal, httpx.Response(200))
    assert send(gateway, clock, Call(method=method, json={"a": 1})).status_code == 200
    assert [request.content for request in gateway.asked] == [b'{"a":1}'] * 3
    assert clock.now == pytest.approx(0.25 + 0.5)


def test_a_cold_gateway_is_known_by_the_length_of_what_it_would_say(clock: Clock) -> None:
    head = httpx.Response(503, headers={**ENVOY, "content-length": "19"})
    assert send(Gateway(head, httpx.Response(200)), clock, Call(method="HEAD")).status_code == 200
    cut = httpx.Response(503, headers={**ENVOY, "content-length": "95"})
    assert send(Gateway(cut), clock, Call(method="HEAD")).status_code == 503


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503, text="no healthy upstream"),
        httpx.Response(503, headers=ENVOY, text="busy: no healthy upstream"),
        httpx.Response(503, headers=ENVOY, text="no healthy upstream is what I have"),
        httpx.Response(502, headers=ENVOY, text="no healthy upstream"),
        httpx.Response(500, headers=ENVOY),
        httpx.Response(404, headers=FROM_A_REPLICA),
        httpx.Response(503, headers=FROM_A_REPLICA, text="no healthy upstream"),
        httpx.Response(503, headers=FROM_A_REPLICA, text=NO_CONNECTION.text),
        envoy_says("reset reason: connection termination"),
        envoy_says("reset reason: remote reset"),
        envoy_says("retried and the latest reset reason: connection termination"),
    ],
)
def test_what_may_have_reached_a_replica_is_returned_at_once(
    clock: Clock, method: str, answer: httpx.Response
) -> None:
    gateway = Gateway(answer)
    assert send(gateway, clock, Call(method=method)).status_code == answer.status_code
    assert len(gateway.asked) == 1


@pytest.mark.parametrize(("patience", "most"), [(0.0, 0.0), (3.0, 3.0), (60.0, 60.0)])
def test_patience_is_bounded_and_the_last_answer_returned(clock: Clock, patience: float, most: float) -> None:
    gateway = Gateway(COLD)
    response = send(gateway, clock, Call(cold_start_timeout=patience))
    assert response.status_code == 503
    assert clock.now <= most
    assert (len(gateway.asked) == 1) == (patience == 0)


def test_a_connection_that_cannot_be_made_is_tried_for_a_while(clock: Clock) -> None:
    gateway = Gateway(httpx.ConnectError("refused"), httpx.Response(200))
    assert send(gateway, clock, Call()).status_code == 200
    with pytest.raises(UnreachableError, match="refused"):
        send(Gateway(httpx.ConnectError("refused")), clock, Call())
    assert clock.now < 60


class Cluster:
    """What `call()` asks of the cluster, and when."""

    def __init__(self, clock: Clock, *, hopeless_from: float = 1e9, youth: float = 0.0) -> None:
        self.clock = clock
        self.hopeless_from = hopeless_from
        self.youth = youth
        self.asked: list[tuple[str, float]] = []

    def is_hopeless(self) -> bool:
        self.asked.append(("hopeless", self.clock.now))
        return self.clock.now >= self.hopeless_from

    def youth_left(self) -> float:
        self.asked.append(("youth", self.clock.now))
        return self.youth

    def send(self, gateway: Gateway, call: Call) -> httpx.Response:
        return send(gateway, self.clock, call, is_hopeless=self.is_hopeless, youth_left=self.youth_left)


def test_a_group_that_failed_is_not_waited_for(clock: Clock) -> None:
    cluster = Cluster(clock, hopeless_from=20)
    response = cluster.send(Gateway(COLD), Call())
    assert (response.status_code, response.text) == (503, COLD.text)
    assert 20 <= clock.now < 30
    assert [what for what, _ in cluster.asked] == ["hopeless", "hopeless"]
    assert all(10 <= after - before < 15 for (_, before), (_, after) in itertools.pairwise(cluster.asked))


def test_a_gateway_that_is_down_is_not_waited_for_when_the_group_failed(clock: Clock) -> None:
    with pytest.raises(UnreachableError, match="refused"):
        Cluster(clock, hopeless_from=0).send(Gateway(httpx.ConnectError("refused")), Call())
    assert 10 <= clock.now < 15


def test_a_gateway_that_goes_down_late_is_tried_for_as_long(clock: Clock) -> None:
    down = httpx.ConnectError("refused")
    gateway = Gateway(down, *[COLD] * 12, down, httpx.Response(200))
    assert send(gateway, clock, Call()).status_code == 200
    assert clock.now > 40


NGINX_404 = httpx.Response(404, text="<html>\n<head>404</head><body><hr><center>nginx</center></body></html>")
NGINX_502 = httpx.Response(502, text=NGINX_404.text)
NGINX_503 = httpx.Response(503, text=NGINX_404.text)
TRAEFIK_404 = httpx.Response(404, text="404 page not found\n")
TRAEFIK_503 = httpx.Response(503, text="no available server\n")
HAPROXY_503 = httpx.Response(
    503,
    text="<html><body><h1>503 Service Unavailable</h1>\n"
    "No server is available to handle this request.\n</body></html>\n",
)
GOOGLE_404 = httpx.Response(404, headers={"via": "1.1 google"}, text="fault filter abort")
GOOGLE_503 = httpx.Response(503, headers={"via": "1.1 google"}, text="no healthy upstream")
KONG_404 = httpx.Response(
    404, text='{\n  "message":"no Route matched with those values",\n  "request_id":"1"}'
)
ENVOY_404 = httpx.Response(404, headers={**ENVOY, "date": "now", "content-length": "0"})
OTHER_503 = httpx.Response(503, text="<h1>Error: Server Error</h1>")

OWN = [NGINX_503, TRAEFIK_503, HAPROXY_503, GOOGLE_404, GOOGLE_503, KONG_404, ENVOY_404]
PERHAPS_OWN = [NGINX_404, NGINX_502, TRAEFIK_404, OTHER_503]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("answer", OWN)
def test_a_new_group_may_not_have_got_round_to_the_gateway(
    clock: Clock, method: str, answer: httpx.Response
) -> None:
    cluster, gateway = Cluster(clock, youth=14.0), Gateway(answer, answer, answer, httpx.Response(200))
    assert cluster.send(gateway, Call(method=method)).status_code == 200
    assert cluster.asked == [("youth", 0.0)]


@pytest.mark.parametrize("answer", PERHAPS_OWN)
def test_only_what_changes_nothing_is_sent_again_when_it_is_not_clear_who_answered(
    clock: Clock, answer: httpx.Response
) -> None:
    for method in ("get", "HEAD", "OPTIONS"):
        gateway = Gateway(answer, httpx.Response(200))
        assert Cluster(clock, youth=14.0).send(gateway, Call(method=method)).status_code == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        cluster, gateway = Cluster(clock, youth=14.0), Gateway(answer, httpx.Response(200))
        assert cluster.send(gateway, Call(method=method)).status_code == answer.status_code
        assert cluster.asked == []


@pytest.mark.parametrize("answer", [*OWN, *PERHAPS_OWN])
def test_of_a_group_that_is_not_new_every_such_answer_is_the_answer(
    clock: Clock, answer: httpx.Response
) -> None:
    for method in ("GET", "POST"):
        gateway = Gateway(answer, httpx.Response(200))
        assert Cluster(clock).send(gateway, Call(method=method)).status_code == answer.status_code
    assert clock.now == 0


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, headers=FROM_A_REPLICA),
        httpx.Response(502, headers={"x-envoy-upstream-service-time": "1"}),
        httpx.Response(404, headers=ENVOY, text="no such page"),
        httpx.Response(404, headers={**ENVOY, "content-type": "application/json"}),
        httpx.Response(404, headers={**ENVOY, "x-powered-by": "Express"}),
        httpx.Response(502, headers=ENVOY),
        httpx.Response(503, headers=ENVOY, text="busy"),
        httpx.Response(500, text="no"),
        httpx.Response(504, text="no"),
        httpx.Response(200),
    ],
)
def test_what_an_application_answers_is_not_delayed_by_its_youth(
    clock: Clock, answer: httpx.Response
) -> None:
    for method in ("GET", "POST"):
        cluster, gateway = Cluster(clock, youth=14.0), Gateway(answer)
        assert cluster.send(gateway, Call(method=method)).status_code == answer.status_code
        assert (len(gateway.asked), cluster.asked) == (1, [])


@pytest.mark.parametrize(("cold_start_timeout", "waits"), [(300.0, 6.0), (4.0, 4.0), (0.0, 0.0)])
def test_youth_ends_and_the_last_answer_is_returned(
    clock: Clock, cold_start_timeout: float, waits: float
) -> None:
    cluster, gateway = Cluster(clock, youth=6.0), Gateway(ENVOY_404)
    response = cluster.send(gateway, Call(cold_start_timeout=cold_start_timeout))
    assert response.status_code == 404
    assert clock.now == pytest.approx(waits)
    assert len(cluster.asked) == (waits > 0)


def _tls_error() -> httpx.ConnectError:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    return error


@pytest.mark.parametrize(
    "make", [lambda: httpx.ReadTimeout("slow"), lambda: httpx.ReadError("cut"), _tls_error]
)
def test_what_waiting_cannot_mend_fails_at_once(clock: Clock, make: Callable[[], Exception]) -> None:
    gateway = Gateway(make())
    with pytest.raises(UnreachableError):
        send(gateway, clock, Call())
    assert (len(gateway.asked), clock.now) == (1, 0.0)


def test_a_body_that_can_be_read_once_is_sent_once(clock: Clock) -> None:
    gateway = Gateway(COLD)
    assert send(gateway, clock, Call(content=iter([b"a"]))).status_code == 503
    assert len(gateway.asked) == 1


def activator_says(reason: str, seconds: str = "10", **headers: str) -> httpx.Response:
    """As it comes through Envoy: with what Envoy adds to the answers of servers behind it."""
    marked = {**FROM_A_REPLICA, "x-chalk-activator": reason, "retry-after": seconds, **headers}
    return httpx.Response(503, headers=marked, text="why")


@pytest.mark.parametrize("reason", ["timeout", "too-many", "too-large", "stopping", "again"])
def test_what_the_activator_gives_back_no_replica_has_seen(clock: Clock, reason: str) -> None:
    gateway = Gateway(activator_says(reason), httpx.Response(200))
    assert send(gateway, clock, Call(json={})).status_code == 200
    assert (len(gateway.asked), clock.now) == (2, 10.0)


def test_pauses_grow_past_what_the_activator_asks_for(clock: Clock) -> None:
    gateway = Gateway(*[activator_says("again", "1")] * 5, httpx.Response(200))
    assert send(gateway, clock, Call()).status_code == 200
    assert clock.now == 1 + 1 + 1 + 2 + 4


def test_the_activator_is_not_asked_sooner_than_it_says(clock: Clock) -> None:
    gateway = Gateway(activator_says("timeout", "10"))
    assert send(gateway, clock, Call(cold_start_timeout=25)).headers["x-chalk-activator"] == "timeout"
    assert (len(gateway.asked), clock.now) == (3, 20.0)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (Call(cold_start_timeout=0), activator_says("timeout")),
        (Call(content=iter([b"once"])), activator_says("timeout")),
        (Call(), httpx.Response(503, headers={**FROM_A_REPLICA, "x-chalk-activator": "timeout"})),
        (Call(), activator_says("timeout", "Mon, 30 Nov 2026 19:13:13 GMT")),
        (Call(), httpx.Response(503, headers={**FROM_A_REPLICA, "retry-after": "1"})),
        (Call(), httpx.Response(200, headers={"x-chalk-activator": "timeout", "retry-after": "1"})),
    ],
    ids=["once", "iterator", "no Retry-After", "a date", "no marker", "no 503"],
)
def test_what_only_resembles_the_activator_is_returned(
    clock: Clock, call: Call, answer: httpx.Response
) -> None:
    gateway = Gateway(answer)
    assert send(gateway, clock, call).status_code == answer.status_code
    assert len(gateway.asked) == 1


def test_a_group_that_will_not_get_a_replica_is_not_asked_for_again(clock: Clock) -> None:
    gateway = Gateway(activator_says("timeout", "15"))
    send(gateway, clock, Call(), is_hopeless=lambda: clock.now > 20)
    assert clock.now == 30.0


def test_a_request_that_may_be_held_is_given_the_time_of_a_cold_start(clock: Clock) -> None:
    asleep = iter([True, True, False])
    gateway = Gateway(activator_says("timeout", "100"), activator_says("again", "50"), httpx.Response(200))
    send(gateway, clock, Call(timeout=5, cold_start_timeout=200), is_asleep=lambda: next(asleep))
    limits = [asked.extensions["timeout"] for asked in gateway.asked]
    assert [limit["read"] for limit in limits] == [205.0, 105.0, 5.0]
    assert [limit["connect"] for limit in limits] == [5.0] * 3


def test_a_request_that_can_be_sent_only_once_may_be_held_as_long(clock: Clock) -> None:
    gateway = Gateway(httpx.Response(200))
    send(gateway, clock, Call(content=iter([b"x"]), timeout=5), is_asleep=lambda: True)
    assert gateway.asked[0].extensions["timeout"]["read"] == 305.0
