"""Processes of a run: torch.distributed as torchrun starts it, DDP and FSDP2."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Num
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.fsdp import (
    FSDPModule,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from jmp_calc.errors import ArgumentError, JMPError
from jmp_calc.models.jmp import JMPModel, Prediction
from jmp_train.config import Device, TrainConfig
from jmp_train.devices import choose_device

T = TypeVar("T")

_TIMEOUT = timedelta(minutes=30)


class OtherProcessError(JMPError):
    """Another process of the run has failed and says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The processes of a run, as one of them sees it."""

    rank: int
    """Number of this process, from 0."""
    world_size: int
    """Number of processes."""
    device: torch.device
    """Where this process computes."""
    has_processes: bool = False
    """Whether torch.distributed is running; False: this process is alone."""

    @classmethod
    def single(cls, device: torch.device | str = "cpu") -> Group:
        """Return the group of a process that is alone.

        Args:
            device: Where it computes.
        """
        return cls(rank=0, world_size=1, device=torch.device(device))

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def sum(self, values: Num[Tensor, "..."]) -> Num[Tensor, "..."]:
        """Return the sum of a tensor of each process.

        The sum is made on the CPU and does not wait for work on a GPU.

        Args:
            values: Of the same shape everywhere.
        """
        if not self.has_processes:
            return values
        total = values.detach().cpu().clone()
        dist.all_reduce(total)
        return total.to(values.device)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process.

        Args:
            flag: That of this process.
        """
        return bool(self.sum(torch.tensor(int(flag))))

    def smallest(self, value: float) -> float:
        """Return the smallest of the numbers of all processes.

        Args:
            value: That of this process.
        """
        if not self.has_processes:
            return value
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found, op=dist.ReduceOp.MIN)
        return float(found)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank.

        Args:
            value: Plain data of this process.
        """
        if not self.has_processes:
            return [value]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value)
        return found

    def on_main(self, action: Callable[[], T]) -> T:
        """Do something in the first process and return its result in all of them.

        Args:
            action: Returns plain data; it uses no other method of the group.

        Raises:
            OtherProcessError: In the other processes, if it fails there.
        """
        result: list[T | None] = [None]
        with self.together():
            if self.is_main:
                result = [action()]
        if self.has_processes:
            dist.broadcast_object_list(result, src=0)
        return result[0]  # type: ignore[return-value]  # broadcast has filled it

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let a block fail everywhere if it fails in one process.

        Without it the others would wait for ever for the one that has failed. The
        block itself must not use the group.

        Raises:
            OtherProcessError: In the processes where the block did not fail.
        """
        error: JMPError | None = None
        try:
            yield
        except JMPError as found:
            error = found
        none = self.world_size
        first = int(self.smallest(float(none if error is None else self.rank)))
        if error is not None and first == self.rank:
            raise error
        if first != none:
            raise OtherProcessError(f"process {first} of the run has failed")

    @contextmanager
    def held(
        self, folder: Path, hold: Callable[[Path], AbstractContextManager[None]]
    ) -> Iterator[None]:
        """Let the first process hold a folder inside a ``with`` block.

        Args:
            folder: Any folder.
            hold: Context manager that holds it or fails.

        Raises:
            OtherProcessError: In the other processes, if the first fails to.
        """
        with ExitStack() as stack:
            with self.together():
                if self.is_main:
                    stack.enter_context(hold(folder))
            yield


@contextmanager
def start_group(device: Device = "auto") -> Iterator[Group]:
    """Join the processes that torchrun has started, inside a ``with`` block.

    Reads ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``; without them the process is
    alone, and torch.distributed is not started. Gradients travel by nccl between GPUs
    and by gloo between CPUs; small numbers always by gloo.

    Args:
        device: Where to compute; each process of a node takes a GPU of its own.

    Raises:
        ArgumentError: If a process finds no GPU for itself.
    """
    chosen = choose_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Group.single(chosen)
        return
    is_cuda = chosen.type == "cuda"
    if is_cuda:
        torch.cuda.set_device(chosen)
    store, rank, world_size = next(rendezvous("env://", timeout=_TIMEOUT))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
        store=_of_this_start(store),
        rank=rank,
        world_size=world_size,
        timeout=_TIMEOUT,
    )
    try:
        yield Group(
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
            device=chosen,
            has_processes=True,
        )
    finally:
        dist.destroy_process_group()


def _of_this_start(store: Store) -> Store:
    """Return a part of torchrun's store that no earlier start has written to.

    torchrun keeps one store over its restarts, where the new processes would find the
    addresses of the dead ones (pytorch/pytorch#135712). Nodes count restarts each for
    itself, so that several need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 instead.
    """
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return store
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"start-{start}", store)


def check_parallel(config: TrainConfig) -> None:
    """Refuse what cannot be trained with sharded weights.

    Args:
        config: Of the run.

    Raises:
        ArgumentError: If weights are to be sharded and forces are gradients, or heads
            of energies and of other targets learn together.
    """
    kinds = {task.kind == "energy_forces" for task in config.data.tasks}
    if config.parallel == "fsdp" and len(kinds) > 1:
        raise ArgumentError(
            "parallel is 'fsdp' and some tasks learn energies, others targets; these "
            "run the network a different number of times for a batch, and FSDP2 needs "
            "the same in all processes. Use parallel 'ddp'"
        )
    if config.parallel == "fsdp" and config.forces == "gradient":
        raise ArgumentError(
            "parallel is 'fsdp' and forces are gradients; FSDP2 gathers and frees the "
            "weights of a block for one backward pass after each forward pass, and "
            "gradient forces make two. Use parallel 'ddp', or direct forces"
        )


def share_weights(model: JMPModel, group: Group) -> None:
    """Give every process the parameters and buffers of the first.

    They follow from the seed and are the same already, unless the processors differ.

    Args:
        model: The network, before it is wrapped.
        group: The processes.
    """
    if group.has_processes:
        for value in model.state_dict().values():
            dist.broadcast(value, src=0)


def shard_model(model: JMPModel, group: Group) -> None:
    """Divide the parameters over the processes, in place (FSDP2).

    Each interaction block, the layer stacks of each output block and the final layers
    are gathered when they are used; embedding, bases and heads stay gathered during a
    step.

    Args:
        model: The network, on its device.
        group: The processes; alone, nothing is divided.
    """
    if not group.has_processes:
        return
    # FSDP looks for the tensors of a result through pytrees.
    with suppress(ValueError):  # it may be known already
        torch.export.register_dataclass(Prediction)
    mesh = init_device_mesh(group.device.type, (group.world_size,))
    backbone = model.backbone
    parts: list[torch.nn.Module] = [*backbone.blocks]
    for output in backbone.outputs:
        # Not the block itself: its two results are methods, not a forward.
        parts += [m for m in output.children() if isinstance(m, torch.nn.Sequential)]
    parts += [m for m in backbone.children() if isinstance(m, torch.nn.Sequential)]
    for part in parts:
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "predict_all_targets")


def distributed(
    objective: torch.nn.Module, model: JMPModel, group: Group
) -> torch.nn.Module:
    """Return what is called for a loss whose gradients are averaged over processes.

    Args:
        objective: Module whose forward is the loss.
        model: The network inside it; if it is sharded, that does all.
        group: The processes.
    """
    if not group.has_processes or isinstance(model, FSDPModule):
        return objective
    # Buffers never change; newer versions of torch have another name for the option.
    known = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers"
    option = option if option in known else "broadcast_buffers"
    options: dict[str, Any] = {option: False}
    return DistributedDataParallel(objective, gradient_as_bucket_view=True, **options)


@contextmanager
def gradient_sync(
    network: torch.nn.Module, model: JMPModel, *, is_on: bool
) -> Iterator[None]:
    """Add up gradients in this process only, unless the batch is the last of a step.

    Args:
        network: What :func:`distributed` returned.
        model: The network inside it.
        is_on: Whether gradients are averaged over the processes.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(is_on)
    if not isinstance(network, DistributedDataParallel):
        yield
        return
    with nullcontext() if is_on else network.no_sync(), warnings.catch_warnings():
        # A matrix of one row may have strides that DDP does not expect; it copies it.
        warnings.filterwarnings("ignore", "Grad strides do not match")
        yield


@contextmanager
def whole_weights(model: JMPModel) -> Iterator[None]:
    """Keep sharded weights gathered inside a ``with`` block.

    A forward pass then needs no other process, so that each may make its own number
    of them.

    Args:
        model: The network, sharded or not.
    """
    parts = [m for m in model.modules() if isinstance(m, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            is_root = part is parts[0]  # modules() begins with the model
            part.set_reshard_after_forward(not is_root, recurse=False)
            part.reshard()


def whole(value: Tensor) -> Tensor:
    """Return a tensor that may be divided over the processes as one.

    Args:
        value: A tensor of each process.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value
