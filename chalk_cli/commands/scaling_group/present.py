"""One group on stdout in the chosen format: shared by `get` and `create`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chalk_cli.output import write_json, write_lines, write_pairs, write_yaml
from chalk_cli.views import detail_pairs, verdict_lines
from chalkcompute.errors import ChalkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalkcompute.types import ScalingGroupInfo

__all__ = ["write_group"]


def write_group(
    group: ScalingGroupInfo, output: str, table_format: str | None, *, data: Mapping[str, Any] | None = None
) -> None:
    """Write one group.

    Args:
        group: What to show.
        output: One of the output formats.
        table_format: Format name of tabulate, or None.
        data: JSON form to use instead of the group's own.

    Raises:
        ChalkError: If the URL is asked for and there is none.
    """
    if output in ("json", "yaml"):
        document = dict(group.to_dict() if data is None else data)
        if output == "json":
            write_json(document)
        else:
            write_yaml([document])
    elif output == "name":
        write_lines([group.name])
    elif output == "url":
        if group.web_url is None:
            raise ChalkError(
                f"scaling group `{group.name}` has no URL",
                hint=f"see its route with `chalk scaling-group get {group.name}`",
            )
        write_lines([group.web_url])
    else:
        write_pairs(detail_pairs(group, wide=output == "wide"), table_format)
        write_lines(verdict_lines(group))
