"""A torch module: built by the function that a `torch` artifact names, or by transformers from an `hf` folder."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import pickle
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import _hf_model
from stages._copied import copy_files
from stages._torch_sizes import Attributes, resized
from stages.base import Frozen, Refused

DESCRIPTION, STATE = "model.json", "state.safetensors"
_PICKLED = (".pt", ".pth", ".bin")
_NAMED = 3  # of the keys that do not fit


class Description(Frozen):
    """`entry` is `file.py:function` or `package.module:function`; `weights` a file beside it.

    `state` is a file of tensors that take the weights' place once the module is built, and `sizes` the attributes of
    its layers that are other than built: what stages that train and prune write, with nothing pickled.
    """

    entry: str
    weights: str | None = None
    state: str | None = None
    sizes: dict[str, Attributes] = {}


def load(folder: Path, entry: str | None = None) -> Any:
    """The module in eval mode, every weight finite. The entry's code is executed.

    Another `entry` of the same folder builds another module, with the weights that it draws.

    Raises:
        Refused: nothing can be built from the folder, or the weights do not fit what is built.
    """
    if entry is None and _of_transformers(folder):
        return _finite(_hf_model.load(folder))
    described = Description(entry=entry) if entry else _described(folder)
    build = _function(folder, described.entry)
    weights = folder / described.weights if described.weights else None
    if weights and not weights.is_file():
        raise Refused(f"{DESCRIPTION}: there is no file `{weights.name}` beside it", "fetch the model again")
    if weights and weights.suffix not in (".safetensors", *_PICKLED):
        module = _built(build, described.entry, {"weights": weights})
    else:
        module = _built(build, described.entry, {})
        if weights:
            _fill(module, _tensors(weights), weights.name)
    if described.state:
        tensors = _tensors(folder / described.state)
        resized(module, described.sizes, tensors)
        _fill(module, tensors, described.state)
    return _finite(module).eval()


def save(
    module: Any,
    source: Path,
    out: Path,
    sizes: Mapping[str, Attributes] = MappingProxyType({}),
    entry: str | None = None,
) -> None:
    """Write the module, made out of the `torch` artifact in `source`, as another one into the empty folder `out`.

    `entry` is what builds it, where that is not the source's own.
    """
    from safetensors.torch import save_file

    described = _described(source)
    replaced = {described.state, described.weights if _holds_tensors(described.weights) else None}
    copy_files(source, out, ("__pycache__", ".*", DESCRIPTION, *filter(None, replaced)))
    # copies: tied weights share memory, which a file of tensors cannot say
    save_file({key: value.detach().clone().contiguous() for key, value in module.state_dict().items()}, out / STATE)
    weights = None if described.weights in replaced else described.weights
    if entry:
        written = Description(entry=entry, state=STATE)
        (out / DESCRIPTION).write_text(written.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return
    grown = {**described.sizes, **{name: {**described.sizes.get(name, {}), **own} for name, own in sizes.items()}}
    written = Description(entry=described.entry, weights=weights, state=STATE, sizes=grown)
    (out / DESCRIPTION).write_text(written.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _holds_tensors(weights: str | None) -> bool:
    return weights is not None and Path(weights).suffix in (".safetensors", *_PICKLED)


def input_names(module: Any) -> tuple[str, ...]:
    """The names of `forward`'s required parameters, in order."""
    parameters = inspect.signature(module.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(each.name for each in parameters if each.kind in positional and each.default is each.empty)


def called(module: Any, *inputs: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
    """The module's outputs by name, as float32; the first axis of every array is the batch."""
    import torch

    with torch.inference_mode():
        result = outputs(module(*(torch.from_numpy(np.ascontiguousarray(each)) for each in inputs)))
        return {name: value.float().numpy() for name, value in result.items()}


def outputs(result: Any) -> dict[str, Any]:
    """What `forward` returned, by name: keys of a mapping, `output` of a tensor, `output_0` and so on of a tuple.

    Raises:
        Refused: it is none of these.
    """
    import torch

    if isinstance(result, torch.Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items() if isinstance(value, torch.Tensor)}
    if isinstance(result, tuple | list) and all(isinstance(value, torch.Tensor) for value in result):
        return {f"output_{index}": value for index, value in enumerate(result)}
    raise Refused(f"the module returns {type(result).__name__}", "return a tensor, or a tuple or mapping of tensors")


def _described(folder: Path) -> Description:
    try:
        return Description.model_validate(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Refused(
            f"{DESCRIPTION} does not describe a torch module: {error}", "name the source as `python: model.py:build`"
        ) from error


def _function(folder: Path, entry: str) -> Callable[..., Any]:
    where, _, name = entry.partition(":")
    with _on_path(folder):
        module = _file(folder / where) if where.endswith(".py") else _package(where)
    found = getattr(module, name, None)
    if not callable(found):
        functions = sorted(key for key, value in vars(module).items() if inspect.isfunction(value))
        raise Refused(f"`{where}` has no function `{name}`", f"it has {', '.join(functions) or 'no function at all'}")
    function: Callable[..., Any] = found
    return function


@contextmanager
def _on_path(folder: Path) -> Any:
    """The file may import what lies beside it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _file(path: Path) -> ModuleType:
    """Import a file under a name of its own, so that a `model.py` takes nobody's place."""
    if not path.is_file():
        raise Refused(f"there is no `{path.name}` in the model's folder", "write the path relative to the config")
    name = f"_tapeout_model_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise _not_imported(path.name, error) from error
    return module


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise _not_imported(name, error) from error


def _not_imported(what: str, error: Exception) -> Refused:
    return Refused(
        f"`{what}` cannot be imported: {error}", "it runs in the environment `onnx`: see envs/onnx.in for what is there"
    )


def _built(build: Callable[..., Any], entry: str, arguments: dict[str, Path]) -> Any:
    import torch

    try:
        inspect.signature(build).bind(**arguments)
    except TypeError as error:
        takes = "`weights`, a path" if arguments else "no argument"
        raise Refused(
            f"`{entry}` is called with {takes}: {error}",
            "a function gets `weights` where the weights are no .safetensors, .pt, .pth or .bin",
        ) from error
    try:
        built = build(**arguments)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise Refused(f"`{entry}` failed: {type(error).__name__}: {error}", "call it by hand to see where") from error
    if not isinstance(built, torch.nn.Module):
        raise Refused(f"`{entry}` returned {type(built).__name__}", "return a torch.nn.Module")
    return built


def _tensors(weights: Path) -> Mapping[str, Any]:
    """The tensors of a file by name; nothing pickled but tensors is read."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if weights.suffix == ".safetensors":
            held: Any = load_file(weights)
        else:
            held = torch.load(weights, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise Refused(f"{weights.name} is damaged: {error}", "fetch the model again") from error
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        what = str(error).splitlines()[0]
        raise Refused(
            f"{weights.name} does not hold tensors alone: {what}",
            "where you trust it, save its state_dict as safetensors",
        ) from error
    held = held.get("state_dict", held) if isinstance(held, Mapping) else held
    if not isinstance(held, Mapping) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise Refused(f"{weights.name} holds no state_dict", "save `module.state_dict()`")
    return held


def _fill(module: Any, tensors: Mapping[str, Any], file: str) -> None:
    way_out = "the function must build the architecture that the weights were trained in"
    try:
        fit = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise Refused(f"{file}: {' '.join(str(error).split())}", way_out) from error
    for kind, keys in (("missing", fit.missing_keys), ("not in the module", fit.unexpected_keys)):
        if keys:
            more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
            names = ", ".join(f"`{key}`" for key in keys[:_NAMED])
            raise Refused(f"{file}: {names}{more}: {kind}", way_out)


def _of_transformers(folder: Path) -> bool:
    return (folder / _hf_model.CONFIG).is_file() and not (folder / DESCRIPTION).is_file()


def _finite(module: Any) -> Any:
    import torch

    for name, weights in module.state_dict().items():
        # one pass with no copy; NaN propagates through aminmax
        if weights.is_floating_point() and weights.numel() and not torch.stack(weights.aminmax()).isfinite().all():
            raise Refused(f"the weights of `{name}` hold NaN or infinity", "train or convert the model again")
    return module
