"""The contents of the pickles of CIFAR-10, read without running any code.

`pickle` builds an array by calling what the file names with arguments that the file chooses, and some of these follow pointers.
Here the file's instructions only stack up plain values and descriptions of calls. Of these calls three are understood (text to
bytes, a dtype, an array of bytes and a shape), and what they mean is made by code of this module from checked values.
"""

import math
import pickletools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_plain_pickle"]

Array = NDArray[Any]
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
# Python 2's text is bytes, and pickletools shows it as Latin-1.
_BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_DTYPES = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"}
_RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}


class _Name(NamedTuple):
    """Something to call or to make one of."""

    name: str


class _Dtype:
    def __init__(self, code: Any) -> None:
        self.code, self.order = code, "="


class _Array:
    def __init__(self) -> None:
        self.state: Any = None


def read_plain_pickle(content: bytes) -> Any:
    """Dictionaries, lists, tuples, numbers, text, bytes and arrays of numbers.

    Raises
    ------
    ValueError and others
        Anything else is asked for, or the content is no pickle.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for instruction, argument, _ in pickletools.genops(content):
        name = instruction.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _BYTES:
            stack.append(argument.encode("latin-1"))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in _IGNORED:
            _act(name, argument, stack)
    if len(stack) != 1:
        raise ValueError(f"{len(stack)} values are left")
    return _finished(stack[0])


def _act(name: str, argument: Any, stack: list[Any]) -> None:
    """Instructions that take values from the stack."""
    if name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        stack.append(tuple(_last(stack, int(name[-1]))))
    elif name in ("TUPLE", "LIST"):
        found = _since_mark(stack)
        stack.append(tuple(found) if name == "TUPLE" else found)
    elif name == "DICT":
        found = _since_mark(stack)
        stack.append({})
        _set(stack[-1], found)
    elif name in ("APPEND", "APPENDS"):
        found = _last(stack, 1) if name == "APPEND" else _since_mark(stack)
        _of_kind(stack, list).extend(found)
    elif name in ("SETITEM", "SETITEMS"):
        found = _last(stack, 2) if name == "SETITEM" else _since_mark(stack)
        _set(_of_kind(stack, dict), found)
    elif name == "GLOBAL":
        stack.append(_Name(argument.replace(" ", ".")))
    elif name == "STACK_GLOBAL":
        stack.append(_Name(".".join(map(_text, _last(stack, 2)))))
    elif name == "REDUCE":
        called, arguments = _last(stack, 2)
        stack.append(_described(called, arguments))
    elif name == "BUILD":
        (state,) = _last(stack, 1)
        _build(stack[-1], state)
    else:
        raise ValueError(f"it has the instruction {name}")


def _last(stack: list[Any], count: int) -> list[Any]:
    found = stack[-count:]
    if len(found) < count or any(value is _MARK for value in found):
        raise ValueError("values are missing")
    del stack[-count:]
    return found


def _since_mark(stack: list[Any]) -> list[Any]:
    found: list[Any] = []
    while stack:
        value = stack.pop()
        if value is _MARK:
            return found[::-1]
        found.append(value)
    raise ValueError("a mark is missing")


def _of_kind(stack: list[Any], kind: type) -> Any:
    if not stack or type(stack[-1]) is not kind:
        raise ValueError(f"a {kind.__name__} is missing")
    return stack[-1]


def _set(mapping: dict[Any, Any], found: list[Any]) -> None:
    if len(found) % 2:
        raise ValueError("a key has no value")
    for key, value in zip(found[::2], found[1::2], strict=True):
        if not isinstance(key, str | bytes | int | None):  # others may be nested so deeply that to hash them ends the process
            raise ValueError(f"a key is a {type(key).__name__}")
        mapping[key] = value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a name is a {type(value).__name__}")
    return value


def _described(called: Any, arguments: Any) -> Any:
    """What a call would make, if it is one of the three."""
    if not isinstance(called, _Name) or not isinstance(arguments, tuple):
        raise ValueError("it calls what is no name")
    if called.name == "_codecs.encode" and len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
        return _text(arguments[0]).encode("latin-1")
    if called.name in ("builtins.bytes", "__builtin__.bytes") and arguments == ():
        return b""
    if called.name == "numpy.dtype" and len(arguments) in (1, 2, 3):
        return _Dtype(arguments[0])
    if called.name in _RECONSTRUCT and len(arguments) == 3 and arguments[0] == _Name("numpy.ndarray"):
        return _Array()
    raise ValueError(f"it asks for {called.name}")


def _build(target: Any, state: Any) -> None:
    if not isinstance(state, tuple):
        raise ValueError("it sets what is no array")
    if isinstance(target, _Dtype):
        order = _plain(state[1]) if len(state) > 1 else ""
        if order not in ("<", ">", "|", "=") or any(value is not None for value in state[2:5]):
            raise ValueError("it asks for a dtype of parts")
        target.order = order
    elif isinstance(target, _Array) and target.state is None:
        target.state = state
    else:
        raise ValueError("it sets what is no array")


def _plain(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _finished(value: Any) -> Any:
    """Descriptions of arrays at the top and in a dictionary, made into arrays."""
    if isinstance(value, dict):
        return {key: _array(inner) if isinstance(inner, _Array) else inner for key, inner in value.items()}
    return _array(value) if isinstance(value, _Array) else value


def _array(described: _Array) -> Array:
    state = described.state
    if not isinstance(state, tuple) or len(state) != 5:
        raise ValueError("an array has no values")
    _, shape, kind, fortran, values = state
    code = _plain(kind.code) if isinstance(kind, _Dtype) else None
    if not isinstance(code, str) or code not in _DTYPES or not isinstance(kind, _Dtype):
        raise ValueError("an array is not of numbers")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("an array has no shape")
    if not isinstance(values, bytes | bytearray):
        raise ValueError("an array has no bytes")
    dtype = np.dtype(code).newbyteorder(kind.order if kind.order != "|" else "=")  # type: ignore[arg-type]
    if len(values) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array has {len(values)} bytes for the shape {str(shape)[:80]} of {dtype}")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran is True or fortran == 1 else "C")
