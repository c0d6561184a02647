"""What belongs to a spec without being part of it, on its way into the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ForbiddenError, SpecError
from chalkcompute.manifests import labels
from chalkcompute.manifests.files import PackedMap, config_maps, pack
from chalkcompute.manifests.placement import Placement
from chalkcompute.manifests.record import Record
from chalkcompute.manifests.secret import secret
from chalkcompute.service import claims, existing, keys, revisions
from chalkcompute.service.existing import Live
from chalkcompute.service.ownership import require_ours
from chalkcompute.service.scope import World
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content
from chalkcompute.types import Manifest

__all__ = ["Prepared", "find", "is_content", "prepare", "prune"]

_KINDS = {labels.CONTENT_ENV: "Secret", labels.CONTENT_FILES: "ConfigMap"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A spec that names all it needs, and what of that the deploy has to bring.

    Attributes:
        spec: The spec as it is recorded.
        own: The group's Secret, or None when it has no values of its own.
        maps: What the ConfigMaps of local files hold.
        claims: Volumes to make, and what may go wrong with those that are there.
    """

    spec: ScalingGroupSpec
    own: keys.OwnSecret | None = field(default=None, repr=False)
    maps: tuple[PackedMap, ...] = ()
    claims: claims.Claims = field(default_factory=claims.Claims)

    def render(self, placement: Placement) -> tuple[Manifest, ...]:
        """The objects, which are applied before all others."""
        maps = config_maps(self.spec, placement, self.maps)
        if self.own is None:
            return maps
        own = secret(self.spec, placement, self.own.name, self.own.values, self.own.salt)
        return (own, *maps)


def prepare(
    cluster: Cluster,
    namespace: str,
    spec: ScalingGroupSpec,
    content: Content,
    *,
    group_id: str | None,
    world: World,
) -> Prepared:
    """Look at what is there, and name what is to be brought; nothing is written.

    Args:
        cluster: The cluster.
        namespace: The group's namespace.
        spec: As it was asked for, or as it is recorded.
        content: What goes with it.
        group_id: The group's id, None when it is new.
        world: For the salt of a new Secret.

    Raises:
        SpecError: Something that the spec names is not there.
        ForbiddenError: The credential may not see it.
    """
    refs, own = keys.resolve(cluster, namespace, spec, content, group_id=group_id, new_salt=world.new_salt)
    spec = replace(spec, secrets=refs)
    maps: tuple[PackedMap, ...] = ()
    if content.files:
        mounts, maps = pack(spec.name, content.files)
        spec = replace(spec, files=mounts)
    elif spec.files:
        _require_files(cluster, namespace, spec, group_id)
    return Prepared(spec, own, maps, claims.look(cluster, namespace, spec, content.claims))


def _require_files(cluster: Cluster, namespace: str, spec: ScalingGroupSpec, group_id: str | None) -> None:
    """That the files of a recorded spec are still in the cluster: nobody here has them."""
    selector = labels.contents_named(spec.name, labels.CONTENT_FILES)
    found = cluster.list("ConfigMap", namespace, labels=selector, metadata_only=True)
    there = {
        obj["metadata"]["name"] for obj in found if group_id is not None and labels.is_owned_by(obj, group_id)
    }
    for mount in spec.files:
        gone = [name for name in mount.config_maps if name not in there]
        if gone:
            raise SpecError(
                f"the local files for `{mount.path}` are gone: there is no ConfigMap `{gone[0]}` of this "
                f"group in namespace `{namespace}`",
                field="image",
                hint="they are not recorded: deploy from the description that has them",
            )


def is_content(manifest: Manifest) -> bool:
    """Whether an object holds the values of secrets, or local files."""
    return labels.CONTENT in (manifest["metadata"].get("labels") or {})


def find(
    cluster: Cluster, manifests: Sequence[Manifest], *, namespace: str, name: str, group_id: str
) -> Live:
    """Those of the objects that are there already, their metadata only, each of them ours.

    Raises:
        NotOwnedError: One is of another group of that name.
    """
    wanted = {
        (m["kind"], m["metadata"]["name"], m["metadata"]["labels"][labels.CONTENT])
        for m in manifests
        if is_content(m)
    }
    live: Live = {}
    for content in sorted({content for _, _, content in wanted}):
        kind = _KINDS[content]
        selector = labels.contents_named(name, content)
        for obj in cluster.list(kind, namespace, labels=selector, metadata_only=True):
            if (kind, obj["metadata"]["name"], content) in wanted:
                require_ours(obj, group_id)
                live[(kind, obj["metadata"]["name"])] = obj
    return live


def prune(cluster: Cluster, record: Record) -> list[str]:
    """Delete what neither the record nor a revision that is kept names, nor a pod that is alive.

    Until the first revision leaves the history, that is nothing. A deploy does it last, under its lease:
    pods of the rollout before are gone by then, those of its own are not.

    Returns:
        `Kind/name` of what was deleted.
    """
    if record.revision <= revisions.KEEP:
        return []
    found: list[Manifest] = []
    selector = f"{labels.objects_of(record.id)},{labels.CONTENT}"
    for kind in _KINDS.values():
        try:
            found += cluster.list(kind, record.namespace, labels=selector, metadata_only=True)
        except ForbiddenError:
            continue  # whoever may not see them has made none; they go with the group
    specs = [record.spec, *(revision.spec for revision in revisions.of(cluster, record))] if found else []
    used = {name for spec in specs for name in _named(spec)}
    left = [obj for obj in found if obj["metadata"]["name"] not in used]
    if not left:
        return []
    try:
        pods = cluster.list("Pod", record.namespace, labels=labels.objects_of(record.id))
    except ForbiddenError:
        return []
    # A pod on its way out has all that it mounts, and starts no container any more.
    held = " ".join(str(pod.get("spec")) for pod in pods if not pod["metadata"].get("deletionTimestamp"))
    gone = [obj for obj in left if f"'{obj['metadata']['name']}'" not in held]
    for obj in gone:
        meta = obj["metadata"]
        existing.remove(cluster, obj["kind"], meta["name"], record.namespace, meta["uid"])
    return [f"{obj['kind']}/{obj['metadata']['name']}" for obj in gone]


def _named(spec: ScalingGroupSpec) -> set[str]:
    """Names of the objects that hold a spec's content, foreign Secrets among them."""
    maps = {name for mount in spec.files for name in mount.config_maps}
    return maps | {ref.secret for ref in spec.secrets}
