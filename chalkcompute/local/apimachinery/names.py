"""What names, labels and keys may look like: None when they may, else the server's own sentence.

Source: k8s.io/apimachinery `pkg/util/validation/validation.go`.
"""

from __future__ import annotations

import re

__all__ = [
    "CONTAINER_RESOURCES",
    "config_key_problem",
    "container_resource_problems",
    "dns_label_problem",
    "dns_subdomain_problem",
    "env_name_problem",
    "is_huge_page",
    "label_key_problem",
    "label_value_problem",
    "path_segment_problems",
    "port_name_problem",
]

_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_ENV_NAME = re.compile(r"[ -<>-~]+")  # RelaxedEnvironmentVariableValidation: printable ASCII but "="

NAME_MAX = 63  # RFC 1123: one label of a host name
SUBDOMAIN_MAX = 253  # RFC 1123: a host name

CONTAINER_RESOURCES = ("cpu", "memory", "ephemeral-storage")
"""Resources of a container that Kubernetes knows by name, without those of huge pages."""
# What a ResourceQuota counts beside those: known names, but of nothing that a container has.
_QUOTA_RESOURCES = (
    *(f"{part}.{name}" for part in ("requests", "limits") for name in CONTAINER_RESOURCES),
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
)


def dns_subdomain_problem(text: str) -> str | None:
    """An object name: RFC 1123 subdomain."""
    if len(text) > SUBDOMAIN_MAX:
        return f"must be no more than {SUBDOMAIN_MAX} characters"
    if _DNS_SUBDOMAIN.fullmatch(text):
        return None
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
        "characters, '-' or '.', and must "
        "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        f"'{_DNS_SUBDOMAIN.pattern}')"
    )


def dns_label_problem(text: str) -> str | None:
    """A container, volume or namespace name: RFC 1123 label."""
    if len(text) > NAME_MAX:
        return f"must be no more than {NAME_MAX} characters"
    if _DNS_LABEL.fullmatch(text):
        return None
    return (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters "
        "or '-', and must start and "
        "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        f"'{_DNS_LABEL.pattern}')"
    )


def label_key_problem(text: str) -> str | None:
    """A label or annotation key: an optional DNS subdomain, a slash, and a name of up to 63 characters."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return (
            "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and "
            "must start and end "
            "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            f"validation is '{_QUALIFIED.pattern}') with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        )
    if slash:
        if not prefix:
            return "prefix part must be non-empty"
        if problem := dns_subdomain_problem(prefix):
            return f"prefix part {problem}"
    if not name:
        return "name part must be non-empty"
    if len(name) > NAME_MAX:
        return f"name part must be no more than {NAME_MAX} characters"
    if _QUALIFIED.fullmatch(name):
        return None
    return (
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        f"'{_QUALIFIED.pattern}')"
    )


def label_value_problem(text: str) -> str | None:
    """A label value."""
    if len(text) > NAME_MAX:
        return f"must be no more than {NAME_MAX} characters"
    if _LABEL_VALUE.fullmatch(text):
        return None
    return (
        "a valid label must be an empty string or consist of alphanumeric characters, "
        "'-', '_' or '.', and must "
        "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
        "or '12345', regex used "
        f"for validation is '{_LABEL_VALUE.pattern}')"
    )


def config_key_problem(text: str) -> str | None:
    """A key of a ConfigMap or Secret."""
    if len(text) > SUBDOMAIN_MAX:
        return f"must be no more than {SUBDOMAIN_MAX} characters"
    if not _CONFIG_KEY.fullmatch(text):
        return (
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
            "(e.g. 'key.name',  or "
            f"'KEY_NAME',  or 'key-name', regex used for validation is '{_CONFIG_KEY.pattern}')"
        )
    if text == ".":
        return "must not be '.'"
    if text == "..":
        return "must not be '..'"
    return "must not start with '..'" if text.startswith("..") else None


def env_name_problem(text: str) -> str | None:
    """An environment variable name."""
    if _ENV_NAME.fullmatch(text):
        return None
    return (
        "a valid environment variable name must consist only of printable ASCII characters other than '=' "
        "(e.g. 'my.env-name' or 'MY_ENV.NAME' or 'MyEnvName1', regex used for validation "
        f"is '{_ENV_NAME.pattern}')"
    )


def port_name_problem(text: str) -> str | None:
    """A port name: IANA_SVC_NAME of RFC 6335."""
    if len(text) > 15:
        return "must be no more than 15 characters"
    if not re.fullmatch(r"[-a-z0-9]+", text):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search(r"[a-z]", text):
        return "must contain at least one letter (a-z)"
    if "--" in text:
        return "must not contain consecutive hyphens"
    if text.startswith("-") or text.endswith("-"):
        return "must not begin or end with a hyphen"
    return None


def path_segment_problems(text: str) -> list[str]:
    """What becomes one segment of a URL's path, as the names of metrics do: every sentence, where not one."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{character}'" for character in "/%" if character in text]


def is_huge_page(resource: str) -> bool:
    """Whether it is `hugepages-<size>`."""
    return resource.startswith("hugepages-")


def container_resource_problems(text: str) -> list[str]:
    """A resource of a container, `cpu` or `example.com/device`: every sentence, where not one.

    Source: k8s.io/kubernetes `pkg/apis/core/v1/validation` (ValidateContainerResourceName).
    """
    problem = label_key_problem(text)
    problems = [] if problem is None else [problem]
    if "/" in text:
        extended = "kubernetes.io/" not in text
        if extended and (text.startswith("requests.") or label_key_problem(f"requests.{text}")):
            problems.append("doesn't follow extended resource name standard")
    elif text not in CONTAINER_RESOURCES and not is_huge_page(text):
        counted = text in _QUOTA_RESOURCES or text.startswith("requests.hugepages-")
        if problem is None and not counted:
            problems.append("must be a standard resource type or fully qualified")
        problems.append("must be a standard resource for containers")
    return problems
