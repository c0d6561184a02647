"""Names that become DNS labels: of groups, of environments, of hosts."""

from __future__ import annotations

import re

from chalkcompute.errors import ConfigError, SpecError
from chalkcompute.spec.checks import check_text, quoted

__all__ = ["HOST_LABEL_MAX", "NAME_MAX", "host_label", "validate_environment_id", "validate_name"]

NAME_MAX = 54  # leaves room for what is derived from it: `chalk-sg-<name>`, `<name>-vip`, keda-hpa names
HOST_LABEL_MAX = 63  # RFC 1035, section 2.3.4
ENVIRONMENT_MAX = 20

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # RFC 1035 label: Service names before Kubernetes 1.36
_ENVIRONMENT = re.compile(r"[a-z0-9]{1,20}")


def validate_name(name: object) -> str:
    """The name of a scaling group: an RFC 1035 label of at most 54 characters.

    Raises:
        SpecError: It is not one; the hint gives the nearest name that is.
    """
    text = check_text("name", name, number=lambda _: _NAME_RULE)
    if not text:
        raise SpecError("the name of the scaling group is empty", field="name", hint=_NAME_RULE)
    if not _NAME.fullmatch(text):
        near = _nearest(text)
        hint = f"{_NAME_RULE}; `{near}` would do" if near else _NAME_RULE
        raise SpecError(f"the name {quoted(text)} cannot be a DNS label", field="name", hint=hint)
    if len(text) > NAME_MAX:
        raise SpecError(
            f"the name {quoted(text)} has {len(text)} characters, at most {NAME_MAX} fit", field="name"
        )
    return text


_NAME_RULE = "use lower-case letters, digits and `-`, starting with a letter and not ending with `-`"


def _nearest(text: str) -> str:
    near = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_MAX].strip("-")
    return near if _NAME.fullmatch(near) else ""


def validate_environment_id(environment: str) -> str:
    """An environment id: 1 to 20 lower-case letters and digits.

    No hyphen: environment `a-b` with group `c` and `a` with `b-c` would share the host `a-b-c`.

    Raises:
        ConfigError: It is not one.
    """
    if not isinstance(environment, str) or not _ENVIRONMENT.fullmatch(environment):
        raise ConfigError(
            f"the environment id {quoted(environment)} is not 1 to {ENVIRONMENT_MAX} lower-case letters "
            "and digits",
            hint="set `--environment` or CHALK_ENVIRONMENT to an id such as `abc123`",
        )
    return environment


def host_label(environment: str, name: str) -> str:
    """`<environment>-<name>`, the first label of a group's host.

    Raises:
        SpecError: It is longer than a DNS label may be.
    """
    label = f"{environment}-{name}"
    if len(label) > HOST_LABEL_MAX:
        over = len(label) - HOST_LABEL_MAX
        raise SpecError(
            f"the host label {quoted(label)} has {len(label)} characters, a DNS label at most "
            f"{HOST_LABEL_MAX}",
            field="name",
            hint=f"shorten the name by {over}",
        )
    return label
