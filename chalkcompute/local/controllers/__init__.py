"""The controllers of the embedded cluster: each a pure reconcile and a thin shell over `ports.Api`.

    deployment, rollout, scaling, deployment_status   Deployments make ReplicaSets
    replicaset                                        ReplicaSets make Pods
    hpa, hpa_*                                        HorizontalPodAutoscalers scale
    scheduler, scheduling                             Pods get the Node
    node                                              this machine as a Node
    claims                                            PersistentVolumeClaims get folders
    endpointslice                                     Services get addresses
    keda, keda_reconcile, keda_scaling                ScaledObjects scale between zero and one
    keda_triggers, keda_autoscaler, keda_status       what they ask for, make, and say
    keda_objects                                      the namespace and Services of KEDA
    garbage, namespace                                what goes, and what goes with it
    events                                            what happened, for people

`controller` and `workqueue` run them; `actions` says and does what they decide.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from chalkcompute.local.controllers.claims import ClaimController
from chalkcompute.local.controllers.controller import Clock, Controller, run_controller
from chalkcompute.local.controllers.deployment import DeploymentController
from chalkcompute.local.controllers.endpointslice import EndpointSliceController
from chalkcompute.local.controllers.events import EventPruner, EventRecorder
from chalkcompute.local.controllers.garbage import GarbageCollector
from chalkcompute.local.controllers.hpa import AutoscalerController
from chalkcompute.local.controllers.keda import (
    InterceptorRouteController,
    RouteMetrics,
    ScaledObjectController,
)
from chalkcompute.local.controllers.keda_objects import KedaObjects
from chalkcompute.local.controllers.namespace import NamespaceController
from chalkcompute.local.controllers.node import (
    NodeController,
    NodeFacts,
    this_machine,
    withdraw_readiness,
)
from chalkcompute.local.controllers.replicaset import ReplicaSetController
from chalkcompute.local.controllers.scheduler import Scheduler
from chalkcompute.local.measures import Metrics, Traffic
from chalkcompute.local.ports import Api

__all__ = ["EventRecorder", "NodeFacts", "run_controllers", "this_machine", "withdraw_readiness"]


async def run_controllers(
    api: Api,
    *,
    node: NodeFacts,
    clock: Clock,
    volumes_dir: Path,
    metrics: Metrics,
    traffic: Traffic | None = None,
) -> None:
    """Register the Node and run every controller until cancelled.

    A reconcile that raises is logged and tried again with back-off; none ends this.

    Args:
        api: The API server from the inside.
        node: What to say of this machine.
        clock: The time, in UTC.
        volumes_dir: Where the folders of claims are, absolute.
        metrics: What replicas use, for autoscalers.
        traffic: What the gateway sees of requests, for KEDA; without, nothing at zero wakes.
    """
    nodes = NodeController(api, node, clock)
    nodes.register()
    keda_objects = KedaObjects(api)
    keda_objects.ensure()
    keda = ScaledObjectController(api, EventRecorder(api, "keda-operator", clock=clock), clock, traffic)
    controllers: tuple[Controller, ...] = (
        nodes,
        NamespaceController(api),
        GarbageCollector(api),
        DeploymentController(api, EventRecorder(api, "deployment-controller", clock=clock), clock),
        ReplicaSetController(api, EventRecorder(api, "replicaset-controller", clock=clock), clock),
        AutoscalerController(
            api,
            EventRecorder(api, "horizontal-pod-autoscaler", clock=clock),
            clock,
            metrics,
            RouteMetrics(api, traffic),
        ),
        Scheduler(api, EventRecorder(api, "default-scheduler", node.name, clock=clock), clock),
        ClaimController(api, EventRecorder(api, "chalk.ai/local-path", node.name, clock=clock), volumes_dir),
        EndpointSliceController(api, clock),
        EventPruner(api, clock),
        keda_objects,
        keda,
        InterceptorRouteController(api, clock),
    )
    async with asyncio.TaskGroup() as group:
        for controller in controllers:
            group.create_task(run_controller(api, controller), name=controller.name)
        group.create_task(keda.follow_wakes(), name="keda: wakes")
