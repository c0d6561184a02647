"""The verbs of `ChalkClient` that only look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from chalkcompute.types import ListScalingGroupsResponse, ScalingGroupInfo

if TYPE_CHECKING:
    from chalkcompute.session import Session
    from chalkcompute.usage import UsageReport

__all__ = ["Reads"]


class Reads:
    """What can be asked of the groups of a namespace; `ChalkClient` has these verbs and those that write."""

    _session: Session

    def list_scaling_groups(
        self, *, include_deleted: bool = False, tags: Mapping[str, str] | None = None
    ) -> ListScalingGroupsResponse:
        """All groups of the namespace, by name; two requests for up to 500 of them.

        Args:
            include_deleted: Also those in history, with status `Deleted`.
            tags: Only groups that carry all of these tags.

        Raises:
            NotFoundError: The namespace does not exist.
            SpecError: Tags that no label may have.
        """
        from chalkcompute.service.read import list_groups

        found = list_groups(
            self._session.cluster(),
            self._session.scope(),
            include_deleted=include_deleted,
            tags=tags,
            world=self._session.world(),
        )
        return ListScalingGroupsResponse(found)

    def get_scaling_group(self, name: str | None = None, *, id: str | None = None) -> ScalingGroupInfo:  # noqa: A002
        """One group as it is now; five requests at most, two more if autoscaled.

        Args:
            name: Its name.
            id: Its id instead; finds a deleted group too.

        Raises:
            NotFoundError: There is none, or the namespace does not exist.
            SpecError: Not exactly one of `name` and `id` is given.
        """
        from chalkcompute.service.arguments import require_one
        from chalkcompute.service.read import get_group, get_group_by_id

        require_one(name, id)
        if id is not None:
            return get_group_by_id(
                self._session.cluster(), self._session.scope(), id, world=self._session.world()
            )
        return get_group(
            self._session.cluster(), self._session.scope(), name or "", world=self._session.world()
        )

    def scaling_group_usage(self, name: str | None = None) -> UsageReport:
        """What groups use and serve now, as `chalk scaling-group top` shows it; at most twelve requests.

        CPU and memory are of metrics.k8s.io (metrics-server), requests of custom.metrics.k8s.io where the
        cluster counts them by HTTPRoute. What it does not tell is None, and `missing` of the report says why.

        Args:
            name: One group, then with each of its replicas; all groups of the namespace when None.

        Raises:
            NotFoundError: There is no group of that name, or the namespace does not exist.
            SpecError: A name that is no text.
        """
        from chalkcompute.service.arguments import require_name
        from chalkcompute.service.usage import read_usage

        return read_usage(
            self._session.cluster(),
            self._session.scope(),
            require_name(name) if name is not None else None,
            world=self._session.world(),
        )
