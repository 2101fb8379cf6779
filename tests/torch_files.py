"""PyTorch's file formats with the standard library and numpy: what tests of import and export write and read.

A Tensor names its storage, so that files with shared storages, strides and offsets can be made; dtype is PyTorch's name. Pickles are
made by Python's own pickler with stand-ins for torch's functions and classes.
"""
import collections
import contextlib
import io
import json
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

# torch's name -> storage class, numpy type, name in safetensors
TYPES = {
    "float32": ("FloatStorage", "<f4", "F32"), "float64": ("DoubleStorage", "<f8", "F64"), "float16": ("HalfStorage", "<f2", "F16"),
    "bfloat16": ("BFloat16Storage", "<u2", "BF16"), "int64": ("LongStorage", "<i8", "I64"), "int32": ("IntStorage", "<i4", "I32"),
    "int16": ("ShortStorage", "<i2", "I16"), "int8": ("CharStorage", "<i1", "I8"), "uint8": ("ByteStorage", "<u1", "U8"),
    "bool": ("BoolStorage", "?", "BOOL"),
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Storage:
    def __init__(self, dtype, array):
        self.dtype, self.array = dtype, np.ascontiguousarray(array, dtype=TYPES[dtype][1]).reshape(-1)


class Tensor:
    def __init__(self, array, dtype="float32", storage=None, offset=0, stride=None, parameter=False):
        """array gives the shape; its values are the storage's unless there is one (then they must agree)."""
        array = np.asarray(array)
        self.dtype, self.shape, self.offset, self.parameter = dtype, array.shape, offset, parameter
        self.storage = storage or Storage(dtype, array)
        if stride is None:
            stride, n = [], 1
            for s in reversed(array.shape):
                stride.insert(0, n)
                n *= s
        self.stride = tuple(stride)

    def values(self):
        a = self.storage.array
        return np.lib.stride_tricks.as_strided(a[self.offset:], self.shape, [s * a.itemsize for s in self.stride]).copy()


class AnyClass:
    """Stands for a class that nobody but the author of a checkpoint has."""
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def stand_ins():
    """torch, torch._utils and somebody_else as modules that a pickler finds names in."""
    torch, utils, other = types.ModuleType("torch"), types.ModuleType("torch._utils"), types.ModuleType("somebody_else")
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        f = lambda *a: None
        f.__module__, f.__name__, f.__qualname__ = "torch._utils", name, name
        setattr(utils, name, f)
    for cls, _, _ in TYPES.values():
        setattr(torch, cls, type(cls, (), {"__module__": "torch"}))
    AnyClass.__module__ = "somebody_else"
    other.AnyClass = AnyClass
    return {"torch": torch, "torch._utils": utils, "somebody_else": other}


@contextlib.contextmanager
def pretending():
    old = {k: sys.modules.get(k) for k in stand_ins()}
    modules = stand_ins()
    sys.modules.update(modules)
    try:
        yield modules
    finally:
        for k, v in old.items():
            if v is None:
                del sys.modules[k]
            else:
                sys.modules[k] = v


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol, modules, legacy):
        super().__init__(file, protocol)
        self.modules, self.legacy, self.keys = modules, legacy, {}

    def persistent_id(self, o):
        if not isinstance(o, Storage):
            return None
        key = self.keys.setdefault(id(o), (str(len(self.keys)), o))[0]
        id5 = ("storage", getattr(self.modules["torch"], TYPES[o.dtype][0]), key, "cpu", o.array.size)
        return id5 + (None,) if self.legacy else id5

    def reducer_override(self, o):
        utils = self.modules["torch._utils"]
        if not isinstance(o, Tensor):
            return NotImplemented
        if o.parameter:
            plain = Tensor(np.empty(o.shape), o.dtype, o.storage, o.offset, o.stride)
            return utils._rebuild_parameter, (plain, True, collections.OrderedDict())
        return utils._rebuild_tensor_v2, (o.storage, o.offset, o.shape, o.stride, False, collections.OrderedDict())


def pickled(o, protocol=2, legacy=False):
    """Bytes and the storages in the order of their keys."""
    with pretending() as modules:
        f = io.BytesIO()
        p = Pickler(f, protocol, modules, legacy)
        p.dump(o)
    return f.getvalue(), [s for _, s in p.keys.values()]


def save_zip(o, path, deflate=False, protocol=2, folder="x", extra=()):
    data, storages = pickled(o, protocol)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as z:
        z.writestr(f"{folder}/data.pkl", data)
        for name, content in extra:
            z.writestr(f"{folder}/{name}", content)
        for i, s in enumerate(storages):
            z.writestr(f"{folder}/data/{i}", s.array.tobytes())
        z.writestr(f"{folder}/version", "3\n")


def save_legacy(o, path, protocol=2):
    data, storages = pickled(o, protocol, legacy=True)
    machine = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as f:
        for x in (MAGIC, PROTOCOL, machine):
            pickle.dump(x, f, protocol=2)
        f.write(data)
        pickle.dump([str(i) for i in range(len(storages))], f, protocol=2)
        for s in storages:
            f.write(struct.pack("<q", s.array.size) + s.array.tobytes())


def save_safetensors(entries, path, header=None):
    """header: a function that changes the dict before it is written."""
    table, data, at = {}, b"", 0
    for name, t in entries.items():
        raw = t.values().tobytes()
        table[name] = {"dtype": TYPES[t.dtype][2], "shape": list(t.shape), "data_offsets": [at, at + len(raw)]}
        data, at = data + raw, at + len(raw)
    text = json.dumps(header(table) if header else table).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


# ---- reading, to judge exports
class Reader(pickle.Unpickler):
    def __init__(self, file, zipped, folder):
        super().__init__(file)
        self.zipped, self.folder, self.storages = zipped, folder, {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda s, offset, shape, stride, grad, hooks: Tensor(np.empty(shape), s.dtype, s, offset, stride)
        if module == "torch" and name.endswith("Storage"):
            return name
        raise ValueError(f"{module}.{name}")

    def persistent_load(self, o):
        kind, cls, key, place, n = o
        assert (kind, place) == ("storage", "cpu")
        if key not in self.storages:
            dtype = next(d for d, t in TYPES.items() if t[0] == cls)
            raw = self.zipped.read(f"{self.folder}/data/{key}")
            self.storages[key] = Storage(dtype, np.frombuffer(raw, TYPES[dtype][1]))
            assert self.storages[key].array.size == n
        return self.storages[key]


def load_zip(path):
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        folder = next(n for n in z.namelist() if n.endswith("/data.pkl")).split("/")[0]
        return Reader(io.BytesIO(z.read(f"{folder}/data.pkl")), z, folder).load()


def load_safetensors(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, e in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        dtype = next(d for d, t in TYPES.items() if t[2] == e["dtype"])
        a, b = e["data_offsets"]
        out[name] = Tensor(np.frombuffer(raw[8 + n + a:8 + n + b], TYPES[dtype][1]).reshape(e["shape"]), dtype)
    return out


def same(a, b):
    """Type, shape and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.values().tobytes() == b.values().tobytes()
