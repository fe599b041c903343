"""The pretended device: tensors on `cuda:0` whose values lie in host memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from pretended_gpu.kinds import INDEXING, RANDOM, READS
from pretended_gpu.state import GENERATOR, META, PINNED
from pretended_gpu.waits import RECORD, Kind, place_in_mlrec

aten = torch.ops.aten

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


class MixedDevicesError(RuntimeError):
    """An operation got tensors of two devices."""


class GpuTensor(torch.Tensor):
    """A tensor on the pretended GPU.

    Invariant: `values` is a tensor in host memory of the same shape and strides. For torch's C++
    code the tensor is on the meta device, whose autograd needs no CUDA.
    """

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> GpuTensor:
        made: GpuTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )
        made.values = values
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"GpuTensor({self.values!r})"

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    @property
    def data(self) -> torch.Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, new: torch.Tensor) -> None:
        assert isinstance(new, GpuTensor), "the data of a parameter stay on its device"
        torch.Tensor.data.__set__(self, new.detach())  # type: ignore[attr-defined]
        self.values = new.values

    def __deepcopy__(self, memo: Any) -> torch.Tensor:
        # torch would take a copy to the meta device for one to the same device, and make none
        if META.is_meant:
            return torch.empty_like(self.values, device="meta")
        return GpuTensor(self.values.clone())

    def get_device(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self.values.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.values.untyped_storage()

    def tolist(self) -> Any:
        RECORD.add(Kind.READ, "tolist")
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class PretendedDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode in which tensors that are requested on a GPU are pretended ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Call(NamedTuple):
    """One call of an operation."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    on_gpu: list[GpuTensor]
    on_host: list[torch.Tensor]

    @property
    def kind(self) -> Any:
        """The operation without its overload."""
        return self.func._overloadpacket

    def on_host_values(self, **changes: Any) -> Any:
        """Run the operation on the values in host memory."""
        kwargs = {**self.kwargs, **changes}
        return self.func(*_values_of(self.args), **_values_of(kwargs))


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation as a machine with a GPU would."""
    tensors = [*_tensors_in(args), *_tensors_in(kwargs.values())]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
    on_host = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor)]
    call = Call(func, args, kwargs, on_gpu, on_host)
    if call.kind is aten.is_pinned:
        return not on_gpu and PINNED.has(args[0])
    if call.kind is aten._pin_memory:
        return PINNED.add(args[0].clone())
    if call.kind is aten._to_copy:
        return _copied(call)
    if call.kind is aten.copy_:
        return _copied_into(call)
    if on_gpu:
        _check_one_device(call)
        if _reads(call):
            RECORD.add(Kind.READ, call.kind.__name__)
    return _computed(call)


def _tensors_in(arguments: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors among arguments and in lists of them."""
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from _tensors_in(argument)


def _values_of(argument: Any) -> Any:
    """Return an argument, or a collection of them, with values in place of tensors on the GPU."""
    if isinstance(argument, GpuTensor):
        return argument.values
    if isinstance(argument, (list, tuple)):
        return type(argument)([_values_of(member) for member in argument])
    if isinstance(argument, dict):
        return {key: _values_of(member) for key, member in argument.items()}
    return argument


def _is_gpu(call: Call) -> bool:
    """Return whether the result of an operation lies on the GPU."""
    device = call.kwargs.get("device")
    if device is None:
        return bool(call.on_gpu)
    kind = torch.device(device).type
    # C++ code asks for the meta device where it makes a tensor like a GpuTensor.
    is_like_gpu = kind == "meta" and not call.on_host and not META.is_meant
    return kind == "cuda" or is_like_gpu


def _computed(call: Call) -> Any:
    """Run an operation that makes no copy from one device to the other."""
    to_gpu = _is_gpu(call)
    changes: dict[str, Any] = {}
    if to_gpu and call.kwargs.get("device") is not None:
        changes["device"] = CPU
    pins = call.kwargs.get("pin_memory", False)
    if pins:
        changes["pin_memory"] = False
    if to_gpu and call.kind in RANDOM:
        with GENERATOR.drawing():
            result = call.on_host_values(**changes)
    else:
        result = call.on_host_values(**changes)
    if call.kind is aten._local_scalar_dense or not to_gpu:
        return PINNED.add(result) if pins else result
    wrapped = _wrapped(result, call.on_gpu)
    _follow_shapes(call)
    return wrapped


def _wrapped(result: Any, on_gpu: list[GpuTensor]) -> Any:
    """Return an operation's result as tensors on the GPU."""
    # an operation in place returns its argument, which stays the same object
    known = {id(tensor.values): tensor for tensor in on_gpu}

    def wrap(values: torch.Tensor) -> torch.Tensor:
        return known[id(values)] if id(values) in known else GpuTensor(values)

    # most operations return one tensor
    return (
        wrap(result)
        if isinstance(result, torch.Tensor)
        else tree_map_only(torch.Tensor, wrap, result)
    )


def _follow_shapes(call: Call) -> None:
    """Give tensors whose values changed their shape in place the same shape."""
    for tensor in call.on_gpu:
        if (tensor.shape, tensor.stride()) != (tensor.values.shape, tensor.values.stride()):
            with torch._C._DisableTorchDispatch():  # type: ignore[attr-defined]
                call.func(*call.args, **call.kwargs)
            return


def _copied(call: Call) -> torch.Tensor:
    """Copy a tensor, to either device or on its own."""
    source = call.args[0]
    non_blocking = call.kwargs.get("non_blocking", False)
    to_gpu = _is_gpu(call)
    if to_gpu:
        _record_copy(source, non_blocking)
        values = call.on_host_values(device=CPU)
        # the graphs' sparse matrices are dense there
        return GpuTensor(values.to_dense() if values.is_sparse else values)
    if isinstance(source, GpuTensor) and not non_blocking and not META.is_meant:
        RECORD.add(Kind.READ, "copy to the host")
    copy: torch.Tensor = call.on_host_values()
    return copy


def _copied_into(call: Call) -> torch.Tensor:
    """Copy values into a tensor on either device."""
    target, source = call.args[:2]
    non_blocking = call.args[2] if len(call.args) > 2 else call.kwargs.get("non_blocking", False)
    if isinstance(target, GpuTensor):
        _record_copy(source, non_blocking)
    elif isinstance(source, GpuTensor) and not (non_blocking and PINNED.has(target)):
        RECORD.add(Kind.READ, "copy to the host")
    call.on_host_values()
    returned: torch.Tensor = target
    return returned


def _record_copy(source: torch.Tensor, non_blocking: bool) -> None:
    """Record the wait of a copy to the GPU, unless it needs none."""
    crosses = not isinstance(source, GpuTensor) and source.numel() > 0
    if crosses and not (non_blocking and PINNED.has(source)):
        RECORD.add(Kind.COPY, "copy to the device")


def _check_one_device(call: Call) -> None:
    """Check that all tensors are on the GPU, as far as an operation needs it.

    Raises:
        MixedDevicesError: some are not.
    """
    wrong = list(call.on_host)
    if call.kind in INDEXING and isinstance(call.args[0], GpuTensor):
        places = {id(tensor) for tensor in _tensors_in(call.args[1])}
        if any(id(tensor) in places for tensor in wrong):
            RECORD.add(Kind.COPY, "places in host memory")
        wrong = [tensor for tensor in wrong if id(tensor) not in places and tensor.dim()]
    elif torch.Tag.pointwise in call.func.tags:
        # numbers become arguments of the kernel
        wrong = [tensor for tensor in wrong if tensor.dim()]
    if wrong:
        shapes = [tuple(tensor.shape) for tensor in wrong]
        raise MixedDevicesError(
            f"{call.func} at {place_in_mlrec()} got tensors of shapes {shapes} in host memory and "
            "others on the GPU"
        )


def _reads(call: Call) -> bool:
    """Return whether the host reads what the device computes."""
    if call.kind in READS:
        return True
    if call.kind in INDEXING:
        # the number of values that a mask selects is known to the device only
        return any(places.dtype is torch.bool for places in _tensors_in(call.args[1]))
    if call.func is aten.repeat_interleave.Tensor:
        return call.kwargs.get("output_size") is None
    return False


def host_values(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a tensor on either device, without a wait."""
    return (tensor.values if isinstance(tensor, GpuTensor) else tensor).detach()
