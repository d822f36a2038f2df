"""A device of its own for torch, "made", which computes with the processor: what mixes devices fails as on a GPU.

A tensor on it has the processor's memory under another device's name. Operations that only change shapes are torch's
own; every other one checks that its tensors are on one device, is done by the processor, and its results are on the
device again. `.numpy()` of such a tensor is refused, as of one on a GPU. It is for a process of its own: it cannot be
taken back.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as tree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "made"
_OPS: Any = torch.ops.aten
_CORE: Any = torch._C
_CPU = _CORE.DispatchKeySet(_CORE.DispatchKey.CPU)
_MAY_MIX = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}
"""Operations that take an index or a source of the processor, on a GPU too."""
_SHAPES = {"as_strided", "view", "unfold", "_reshape_alias", "view_as_real", "view_as_complex"}
"""Operations that give another view of the same memory."""
_WITHOUT_KERNEL = {"arange", "linspace", "eye", "randperm", "triu_indices"}
"""Operations that would change the size of a tensor that is given for their result."""
_memory: dict[int, torch.UntypedStorage] = {}
"""The processor's memory by the address of the device's, which does not own it."""


class _Backend:
    """What torch asks a device's module for."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """The processor's generator has been seeded."""

    @staticmethod
    def get_rng_state(device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device: object = None) -> None:
        torch.set_rng_state(state)

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def synchronize(device: object = None) -> None:
        """Nothing is ever under way."""

    @staticmethod
    def empty_cache() -> None:
        """Nothing is held."""


def use() -> torch.device:
    """Make the device, and have accelerate choose it."""
    _setup_privateuseone_for_python_backend(NAME, _Backend)
    library = torch.library.Library("aten", "IMPL")
    for name in _CORE._dispatch_get_all_op_names():
        space, _, rest = name.partition("::")
        packet, _, overload = rest.partition(".")

        def has(key: str, name: str = name) -> bool:
            return bool(_CORE._dispatch_has_kernel_for_dispatch_key(name, key))

        ours = space == "aten" and not has("CompositeImplicitAutograd") and not has("PrivateUse1")
        if not ours or not (has("CPU") or packet in _WITHOUT_KERNEL):
            continue
        operation = getattr(getattr(_OPS, packet), overload or "default")
        library.impl(rest, partial(_view if packet in _SHAPES else _done, operation), "PrivateUse1")
    library.impl("_copy_from", _copied, "PrivateUse1")
    library.impl("convolution_overrideable", partial(_done, _OPS.convolution.default), "PrivateUse1")
    library.impl("convolution_backward_overrideable", _convolved_back, "PrivateUse1")
    _kept.append(library)
    _for_files()
    torch.__future__.set_swap_module_params_on_conversion(True)  # weights stay the same objects, as on a GPU
    _for_accelerate(torch.device(NAME, 0))
    return torch.device(NAME, 0)


_kept: list[torch.library.Library] = []


def _moved(made: torch.Tensor, own: torch.Tensor) -> None:
    """Give a tensor of the device the memory and the shape of one of the processor."""
    memory = own.untyped_storage()
    storage = _CORE._construct_storage_from_data_pointer(memory.data_ptr(), torch.device(NAME, 0), memory.nbytes())
    set_ = _OPS.set_.source_Storage_storage_offset
    set_.redispatch(_CPU, made, storage, own.storage_offset(), own.shape, own.stride())
    _memory[made.untyped_storage()._cdata] = memory


def _made(own: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(False):
        made: torch.Tensor = _CORE._acc.create_empty_tensor((0,), own.dtype)
        _moved(made, own)
    return made


def _own(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.device.type == NAME:
        memory = _memory[value.untyped_storage()._cdata]
        return torch.empty(0, dtype=value.dtype).set_(memory, value.storage_offset(), value.shape, value.stride())
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


def _done(operation: Any, *given: Any, **named: Any) -> Any:
    """An operation done by the processor; its tensors must be on one device, numbers aside."""
    name = operation._schema.name.partition("::")[2]
    tensors = [value for value in tree.tree_leaves((given, named)) if isinstance(value, torch.Tensor)]
    devices = {tensor.device.type for tensor in tensors if tensor.dim() or tensor.device.type != "cpu"}
    if len(devices) > 1 and name not in _MAY_MIX:
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} has them on {sorted(devices)}")
    stays = named.get("device") is not None and torch.device(named["device"]).type == "cpu"
    with torch.inference_mode(False), torch.no_grad():
        owns = {id(tensor): _own(tensor) for tensor in tensors}
        given, named = tree.tree_map(lambda value: owns.get(id(value), _own(value)), (given, named))
        result = operation(*given, **named)

    def there(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or stays:
            return value
        same = next((tensor for tensor in tensors if owns[id(tensor)] is value), None)
        if same is None:
            return _made(value)
        if same.device.type == NAME and same.shape != value.shape:
            _moved(same, value)
        return same

    return tree.tree_map(there, result)


def _view(operation: Any, *given: Any, **named: Any) -> Any:
    return operation.redispatch(_CPU, *given, **named)


def _copied(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    with torch.inference_mode(False), torch.no_grad():
        _own(target).copy_(_own(source))
    return target


def _convolved_back(slope: torch.Tensor, heard: torch.Tensor, weight: torch.Tensor, *settings: Any) -> Any:
    return _done(_OPS.convolution_backward.default, slope, heard, weight, [slope.shape[1]], *settings)


def _for_files() -> None:
    """Let torch.save and torch.load take the device's memory."""
    plain = torch.UntypedStorage.cpu
    storage: Any = torch.UntypedStorage

    def cpu(self: torch.UntypedStorage) -> torch.UntypedStorage:
        return _memory[self._cdata].clone() if self.device.type == NAME else plain(self)

    storage.cpu = cpu


def _for_accelerate(device: torch.device) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    plain: Any = Accelerator.__init__

    def chosen(self: Accelerator, *given: Any, **named: Any) -> None:
        plain(self, *given, **named)
        for state in (PartialState, AcceleratorState):
            state._shared_state["device"] = device

    Accelerator.__init__ = chosen  # type: ignore[method-assign]
