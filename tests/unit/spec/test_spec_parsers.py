"""Every parser: what it takes, what it refuses and how it says so; nothing but SpecError ever comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.errors import ConfigError, SpecError
from chalkcompute.spec.environment import validate_entrypoint, validate_env
from chalkcompute.spec.gpu import Gpu
from chalkcompute.spec.images import validate_image
from chalkcompute.spec.names import host_label, validate_environment_id, validate_name
from chalkcompute.spec.parse import parse_entrypoint, parse_env, parse_tag, parse_tags
from chalkcompute.spec.probes import ReadinessProbe
from chalkcompute.spec.quantities import memory_bytes, normalize_cpu, normalize_memory
from chalkcompute.spec.tags import validate_tags
from tests.properties import examples

PROPERTY = examples(120)

WHATEVER = st.one_of(
    st.text(),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
    st.from_regex(r"[0-9a-zA-Z:.,/@=_\[\]\"'-]*", fullmatch=True),
)
TEXT = st.one_of(st.text(), st.from_regex(r"[0-9a-zA-Z:.,/@=_\[\]\"' -]*", fullmatch=True))

TAG_KEY = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
TAG_VALUE = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?)?", fullmatch=True)
ITEM = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def refusal(parser: Callable[[Any], object], value: object) -> SpecError | None:
    """How a parser refuses a value, or None when it takes it."""
    try:
        parser(value)
    except SpecError as error:
        return error
    return None


@pytest.mark.parametrize(
    "parser",
    [
        validate_name,
        validate_image,
        normalize_cpu,
        normalize_memory,
        Gpu.parse,
        validate_tags,
        validate_env,
        validate_entrypoint,
        ReadinessProbe.from_dict,
    ],
)
@PROPERTY
@given(value=WHATEVER)
def test_a_value_of_any_type_is_taken_or_refused_with_spec_error(
    parser: Callable[[object], object], value: object
) -> None:
    refused = refusal(parser, value)
    assert refused is None or (refused.field and refused.message and not refused.message.endswith("."))


@pytest.mark.parametrize("parser", [parse_tags, parse_tag, parse_env, parse_entrypoint])
@PROPERTY
@given(text=TEXT)
def test_any_text_is_parsed_or_refused_with_spec_error(parser: Callable[[str], object], text: str) -> None:
    refused = refusal(parser, text)
    assert refused is None or refused.field in ("tags", "env", "entrypoint")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("1", "1"), ("1000m", "1"), ("500m", "500m"), ("0.5", "500m"), ("2.0", "2"), ("1.25", "1250m")],
)
def test_equal_cpu_has_one_text(text: str, canonical: str) -> None:
    assert normalize_cpu(text) == canonical


@PROPERTY
@given(milli=st.integers(1, 10**9))
def test_cpu_round_trips(milli: int) -> None:
    text = normalize_cpu(f"{milli}m")
    assert normalize_cpu(text) == text
    assert text == (f"{milli}m" if milli % 1000 else str(milli // 1000))
    assert normalize_cpu(str(Decimal(milli) / 1000) if milli >= 1000 else f"0.{milli:03}") == text


@pytest.mark.parametrize(
    "text", ["abc", "", "0", "0m", "0.0001", "-1", "+1", "1e3", "5.", "1 ", "8Gi", "١", "1\n"]
)
def test_cpu_that_cannot_be(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        normalize_cpu(text)
    assert caught.value.field == "cpu"
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("8Gi", "8Gi"),
        ("8192Mi", "8Gi"),
        ("8388608Ki", "8Gi"),
        ("1.5Gi", "1536Mi"),
        ("1G", "1G"),
        ("1000M", "1G"),
        ("64M", "64M"),
        ("0.5Ti", "512Gi"),
    ],
)
def test_equal_memory_has_one_text(text: str, canonical: str) -> None:
    assert normalize_memory(text) == canonical


@PROPERTY
@given(number=st.integers(4, 10**6), unit=st.sampled_from(["Mi", "Gi", "M", "G", "Ti", "Ki", "k"]))
def test_memory_keeps_its_bytes_and_is_stable(number: int, unit: str) -> None:
    try:
        text = normalize_memory(f"{number}{unit}")
    except SpecError:
        assert not 4 << 20 <= memory_bytes(f"{number}{unit}") <= 1 << 50
    else:
        assert memory_bytes(text) == memory_bytes(f"{number}{unit}")
        assert normalize_memory(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8gb", "8Gi"),
        ("8GB", "8Gi"),
        ("8GiB", "8Gi"),
        ("8g", "8Gi"),
        ("512 mb", "512Mi"),
        ("500m", "500Mi"),
        ("4", "4Gi"),
    ],
)
def test_memory_says_what_was_meant(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        normalize_memory(text)
    assert text in caught.value.message
    assert caught.value.hint == f"did you mean `{said}`?"


def test_half_a_byte_is_named() -> None:
    with pytest.raises(SpecError, match="half a byte"):
        normalize_memory("500m")


@pytest.mark.parametrize("text", ["0Mi", "1Mi", "3Mi", "", "Gi", "-1Gi", "99999999Ti"])
def test_memory_that_cannot_be(text: str) -> None:
    with pytest.raises(SpecError):
        normalize_memory(text)


@pytest.mark.parametrize(
    ("text", "gpu"),
    [
        ("nvidia-l4:1", Gpu(1, "nvidia-l4")),
        ("nvidia-tesla-a100:4", Gpu(4, "nvidia-tesla-a100")),
        ("NVIDIA-A100-SXM4-80GB:1", Gpu(1, "NVIDIA-A100-SXM4-80GB")),
        ("1", Gpu(1)),
        ("99", Gpu(99)),
    ],
)
def test_gpu_round_trips(text: str, gpu: Gpu) -> None:
    assert Gpu.parse(text) == gpu
    assert str(gpu) == text


@pytest.mark.parametrize(
    "text", ["l4:x", ":1", "nvidia-l4", "nvidia-l4:0", "0", "100", "l4:", "l 4:1", "", "a:b:1"]
)
def test_gpu_that_cannot_be(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        Gpu.parse(text)
    assert f"`{text}`" in caught.value.message


def test_a_gpu_type_must_fit_a_label() -> None:
    assert Gpu.parse("a" * 63 + ":1").type == "a" * 63
    with pytest.raises(SpecError, match="63"):
        Gpu.parse("a" * 64 + ":1")


def test_an_environment_id_is_kept() -> None:
    assert validate_environment_id("abc123") == "abc123"


def test_bytes_of_what_is_no_memory() -> None:
    with pytest.raises(SpecError):
        memory_bytes("8gb")


def test_gpu_type_alone_is_completed() -> None:
    with pytest.raises(SpecError) as caught:
        Gpu.parse("nvidia-l4")
    assert caught.value.hint == "give the count too: `nvidia-l4:1`"


@pytest.mark.parametrize("name", ["a", "hello", "deepseek-r1", "a" * 54])
def test_names_that_can_be(name: str) -> None:
    assert validate_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Inference", "inference"),
        ("my_app", "my-app"),
        ("-a", "`a`"),
        ("a-", "`a`"),
        ("1a", "letter"),
        ("a.b", "a-b"),
    ],
)
def test_names_that_cannot_be_say_what_can(name: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate_name(name)
    assert name in caught.value.message
    assert said in (caught.value.hint or "")


def test_a_long_name_says_how_long_it_may_be() -> None:
    with pytest.raises(SpecError, match="60 characters, at most 54"):
        validate_name("a" * 60)


def test_a_host_label_has_at_most_63_characters() -> None:
    assert len(host_label("e" * 8, "a" * 54)) == 63
    with pytest.raises(SpecError, match="63") as caught:
        host_label("e" * 16, "a" * 54)
    assert caught.value.hint == "shorten the name by 8"


@pytest.mark.parametrize("environment", ["a-b", "", "A", "a" * 21, "ä", "a\n"])
def test_environment_ids_that_cannot_be(environment: str) -> None:
    with pytest.raises(ConfigError):
        validate_environment_id(environment)


@PROPERTY
@given(tags=st.dictionaries(TAG_KEY, TAG_VALUE, max_size=5))
def test_tags_round_trip_through_the_comma_form(tags: dict[str, str]) -> None:
    assert parse_tags(",".join(f"{key}={value}" for key, value in tags.items())) == tags


def test_tags_may_be_quoted_and_spaced() -> None:
    assert parse_tags('team=ml, version=2.1,"x=y"') == {"team": "ml", "version": "2.1", "x": "y"}
    assert parse_tags("") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=1,a=2", "`a` is given twice"),
        ("novalue", "`novalue` is not `key=value`"),
        ("=x", "empty key"),
        ("team=ml platform", "`ml platform`"),
        ("-bad=1", "`-bad`"),
        ("a b=1", "`a b`"),
        ("k=-v", "`-v`"),
        ("k=v=w", "`v=w`"),
        ('"a=1', "quotes"),
        ("a" * 60 + "=1", "at most 59"),
        ("a=" + "b" * 64, "at most 63"),
        ("a=1,,b=2", "is not `key=value`"),
    ],
)
def test_tags_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_tags(text)
    assert said in caught.value.message
    assert caught.value.field == "tags"


def test_the_longest_tag_fits_a_label() -> None:
    assert parse_tag("a" * 59 + "=" + "b" * 63) == ("a" * 59, "b" * 63)


@PROPERTY
@given(items=st.lists(ITEM, min_size=1, max_size=6))
def test_an_entrypoint_round_trips_as_json(items: list[str]) -> None:
    assert parse_entrypoint(json.dumps(items)) == tuple(items)


@PROPERTY
@given(
    items=st.lists(ITEM.filter(lambda i: not any(c in i for c in '\r\n",')), min_size=1, max_size=6).filter(
        lambda items: not items[0].lstrip().startswith("[")
    )
)
def test_an_entrypoint_round_trips_with_commas(items: list[str]) -> None:
    assert parse_entrypoint(",".join(items)) == tuple(items)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("python,-m,http.server,8000", ("python", "-m", "http.server", "8000")),
        ('python,-c,"print(1, 2)"', ("python", "-c", "print(1, 2)")),
        ('a,"say ""hi"""', ("a", 'say "hi"')),
        ('["python", "-c", "a,b"]', ("python", "-c", "a,b")),
        ("python,-c,raise SystemExit(7)", ("python", "-c", "raise SystemExit(7)")),
    ],
)
def test_entrypoints(text: str, items: tuple[str, ...]) -> None:
    assert parse_entrypoint(text) == items


@pytest.mark.parametrize("text", ["", "python,,x", "[]", "[1]", '["a", ""]', "[a", ",", '"a', '{"a": 1},'])
def test_entrypoints_that_cannot_be(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_entrypoint(text)
    assert caught.value.field == "entrypoint"


@PROPERTY
@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_an_environment_value_is_literal(value: str) -> None:
    assert parse_env(f"NAME={value}") == ("NAME", value)


@pytest.mark.parametrize(
    "env", [{"A": "s3cret\0"}, {"A": "s3cret\udc80"}, {"A": b"s3cret"}, {"1A": "s3cret"}, {"A": ["s3cret"]}]
)
def test_an_environment_value_is_never_in_the_message(env: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        validate_env(env)
    assert "s3cret" not in caught.value.message + str(caught.value.__cause__)


def test_a_bare_secret_is_not_echoed() -> None:
    with pytest.raises(SpecError) as caught:
        parse_env("s3cret")
    assert "s3cret" not in caught.value.message


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "image",
    [
        "python",
        "python:3.12",
        "my-registry/my-inference-server:v1",
        "localhost:5000/a/b_c:1.0",
        "registry.invalid/team/missing:v1",
        "[::1]:5000/app",
        "ghcr.io/Org/app".lower(),
        "MyRegistry.io/app:Tag_1",
        f"a/b@{DIGEST}",
        f"a/b:1@{DIGEST}",
        "a__b/c--d",
    ],
)
def test_images_that_can_be(image: str) -> None:
    assert validate_image(image) == image


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("", "empty"),
        ("a b", "white space"),
        ("Python:3.12", "upper case"),
        ("ghcr.io/Org/app:v1", "upper case"),
        ("MyOrg/app:v1", "upper case"),
        ("https://ghcr.io/a", "scheme"),
        ("a:", "not an image reference"),
        ("a@sha256:12", "not an image reference"),
        ("/a", "not an image reference"),
        ("a//b", "not an image reference"),
        ("a:b:c", "not an image reference"),
        ("a" * 256, "255"),
    ],
)
def test_images_that_cannot_be(image: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate_image(image)
    assert said in caught.value.message
    assert caught.value.field == "image"


@pytest.mark.parametrize(
    ("image", "meant"), [("Python:Tag", "python:Tag"), ("ghcr.io/Org/app:V1", "ghcr.io/org/app:V1")]
)
def test_upper_case_in_a_repository_is_corrected(image: str, meant: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate_image(image)
    assert caught.value.hint == f"did you mean `{meant}`?"
