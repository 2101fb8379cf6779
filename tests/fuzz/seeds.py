#!/usr/bin/python3
"""Writes the seeds of the fuzz targets, FOLDER/<target>/*, and unpacks what fuzzing added: corpus/<target>.zip. usage: seeds.py FOLDER"""
import collections
import pathlib
import pickle
import struct
import sys
import zipfile

import numpy as np

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests"))
import torch_files as tf  # noqa: E402
from torch_files import AnyClass, Tensor  # noqa: E402


def put(folder, name, data):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def objects():
    t = Tensor(np.arange(6).reshape(2, 3))
    base = tf.Storage("float32", np.arange(12))
    yield "flat", collections.OrderedDict([("atst.pos_embed", t), ("b.num_batches_tracked", Tensor(np.array(3), "int64"))])
    yield "views", {"state_dict": {"a": Tensor(np.empty((2, 3)), storage=base, offset=2, stride=(1, 4)),
                                   "b": Tensor(np.empty((5,)), storage=base, stride=(0,)), "p": Tensor([1.0, 2.0], parameter=True)}}
    yield "types", {n: Tensor(np.zeros(2), n) for n in tf.TYPES}
    yield "lightning", {"state_dict": {"student.cat_tf.weight": t, "teacher.cat_tf.weight": t, "student.as_model.model.pos_conv.0.weight_g": t},
                        "hyper_parameters": AnyClass(a=1, b=[1.5, None, True, "x", b"y"]), "set": {1, 2}, "frozen": frozenset([3]),
                        "epoch": 7, "big": 1 << 80, "negative": -5, "int32": 70000, "long": 1 << 40, "text": "\u20ac" * 100,
                        "tuple": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "nested": {"a": {"b": {"c": []}}}}
    yield "beats", {"cfg": {"encoder_layers": 12, "deep_norm": True, "dropout": 0.1},
                    "model": {"post_extract_proj.weight": t, "encoder.pos_conv.0.weight_v": t,
                              "encoder.layers.1.self_attn.grep_linear.bias": t}}
    yield "class", AnyClass(x=t)


def tensorfiles(out):
    path = out / "tmp"
    out.mkdir(parents=True, exist_ok=True)
    for name, o in objects():
        tf.save_zip(o, path)
        put(out, f"{name}.zip", path.read_bytes())
        tf.save_zip(o, path, deflate=True, extra=[("byteorder", "little")])
        put(out, f"{name}-deflated.zip", path.read_bytes())
        tf.save_legacy(o, path)
        put(out, f"{name}.legacy", path.read_bytes())
    flat = {"atst.pos_embed": Tensor(np.arange(6).reshape(2, 3)), "h": Tensor(np.zeros(3), "float16"), "n": Tensor(np.array(3), "int64")}
    tf.save_safetensors(flat, path, lambda t: {"__metadata__": {"format": "pt"}, **t})
    put(out, "flat.safetensors", path.read_bytes())
    tf.save_zip({"a": flat["h"]}, path)
    put(out, "zip64.zip", zip64(path.read_bytes()))
    tf.save_zip({}, path, extra=[("byteorder", "big")])
    put(out, "big-endian.zip", path.read_bytes())
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("x/data.pkl", pickle.dumps({}, 2))
        z.writestr("x/constants.pkl", "")
    put(out, "script.zip", path.read_bytes())
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("x/readme", "")
    put(out, "other.zip", path.read_bytes())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as z:
        z.writestr("x/data.pkl", pickle.dumps({}, 2))
    put(out, "bzip2.zip", path.read_bytes())
    path.unlink()


def zip64(raw):
    """The same archive with 64-bit fields throughout."""
    with_extra, at, end = b"", raw.find(b"PK\1\2"), raw.rfind(b"PK\5\6")
    begin, n = at, 0
    while at < end:
        name, extra, comment = struct.unpack("<HHH", raw[at + 28:at + 34])
        packed, size = struct.unpack("<II", raw[at + 20:at + 28])
        header = struct.unpack("<I", raw[at + 42:at + 46])[0]
        wide = struct.pack("<HHQQQ", 1, 24, size, packed, header)
        with_extra += (raw[at:at + 20] + b"\xff" * 8 + raw[at + 28:at + 30] + struct.pack("<HH", len(wide) + 4, 0) +
                       raw[at + 34:at + 42] + b"\xff" * 4 + raw[at + 46:at + 46 + name] + struct.pack("<HH", 7, 0) + wide)
        at, n = at + 46 + name + extra + comment, n + 1
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, n, n, len(with_extra), begin)
    where = struct.pack("<IIQI", 0x07064b50, 0, begin + len(with_extra), 1)
    return raw[:begin] + with_extra + end64 + where + b"PK\5\6" + b"\0" * 4 + b"\xff" * 12 + b"\0\0"


def pickles(out):
    for name, o in objects():
        for protocol in range(6):
            put(out, f"{name}-{protocol}", tf.pickled(o, protocol)[0])
    by_hand = {
        "text": b"I01\nI00\nF1.5\nS'a'\nL12L\nV\xc3\xa9\n(lp0\ng0\n(dp1\n(tcollections\nOrderedDict\n(tRq\x00h\x00r\x01\0\0\0j\x01\0\0\0.",
        "instance": b"(I1\nia\nb\n(cx\ny\nI2\no0(10N2\x8f(K\x01\x90(K\x02\x91\x94\x82\x01\x83\x01\0\x84\x01\0\0\0Pid\n.",
        "odict": b"\x80\x02ccollections\nOrderedDict\n(](X\x01\0\0\0aK\x01tat\x85R.",
        "newobj": b"\x80\x04\x8c\x01a\x8c\x01b\x93)\x81}\x92\x8d\x01" + b"\0" * 7 + b"zB\x01\0\0\0yC\x01x\x8e\x01" + b"\0" * 7 + b"w.",
        "size": b"\x80\x02ctorch\nSize\n(K\x01K\x02t\x85R.", "from_type": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cx\ny\ncx\nz\n)}tR.",
        "float": b"\x80\x02G?\xf8\0\0\0\0\0\0.", "longs": b"\x80\x02\x8a\x01\xff\x8b\x02\0\0\0\x01\x80\x86.",
        "parameter": b"\x80\x02ctorch._utils\n_rebuild_parameter\n(NNNtR.",
        "tensor9": b"\x80\x02ctorch._utils\n_rebuild_tensor\n(" + b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x09tQ"
                   + b"K\0(" + b"K\x01" * 9 + b"t(" + b"K\x01" * 9 + b"ttR.",
        "view": b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x09K\x01tQ.",
        "frame": b"\x80\x04\x95\x01\0\0\0\0\0\0\0}.",
    }
    for name, data in by_hand.items():
        put(out, "hand-" + name, data)


def main():
    out = pathlib.Path(sys.argv[1])
    tensorfiles(out / "tensorfile")
    pickles(out / "pickle")
    for i, text in enumerate(('{"a": [1, -2.5e3, true, false, null, "x\\n\\u20ac\\ud83d\\ude00"]}', "[]", "{}", '"\\"\\\\\\/\\b\\f\\r\\t"', " 12345678901234567890 ",
                              '{"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}', '"\\u00e9\\u0041"', "[[[[1]]]]", "0.5", "-0")):
        put(out / "json", str(i), text.encode())
    header = "filename\tonset\toffset\tevent_label"
    for i, text in enumerate((f"{header}\na.wav\t0.5\t1.5\tDog\n", f"\ufeff{header}\tconfidence\r\na.wav\t0\t1e1\tDog\t0.5\r\n\r\n", "a\t1\t2\tb\n",
                              f"{header}\na\t-1\t2\tb\n", f"{header}\na\t1\n", "")):
        put(out / "tsv", str(i), text.encode())
    for f in [*SOURCE.glob("configs/toy/*.yaml"), SOURCE / "configs/reference.yaml"]:
        put(out / "config", f.stem, f.read_bytes())
    put(out / "config", "lists", b"crnn:\n  filters: [1, 2]\n  dropout: 0.25\nrun.seed: 7 # x\nmodel: {dim: 32, init: '${HOME:-x}/a'}\n")
    refused = ("a: &x 1\nb: *x\n", "run: {seed: 'a\\0b'}\nrun.dir: \"a\\0b\"\n", "? ''\n: 1\n", "run:\n  seed: 1\nrun:\n  dir: a\n", "run.seed:\n  x: 1\n", "run: 3\n",
               "extends: [a]\n", "extends: a\nextends: b\n", "extends: base.yaml\nrun.seed: 3\n", "run.sead: 3\n", "nothing: {of: the, kind: 1}\n", "crnn: {filters: [[1], {a: b}]}\n",
               "- a\n- b\n", "word\n", "run:\n\tseed: 3\n", "run: {seed: \xe9}\n", "run: [1\n", "run: }\n", "run.dir: ${\n", "run.dir: ${}\n", "run.dir: ${NOT_SET_HERE}/a\n",
               "run.dir: \"$${a} \\x01 \\\" \\\\ ${HOME:-}\"\n", "run: {seed: }\n", "run.seed: " + "9" * 90 + "\n", "run.seed: fast\n", "crnn.dropout: fast\n", "crnn.dropout: 2\n",
               "train.precision: fp8\n", "augment.time_mask: maybe\n", "crnn.filters: [1, x]\n", "crnn.filters: 3\n", "run.seed: [3]\n", "data: {stores: [a, 'b: c', \"\"]}\n",
               "optimizer: {transformer_lr: 3e-4}\n", "phase: stage1\noptimizer: {transformer_lr: 3e-4}\n", "model: {dim: 30, heads: 7}\n", "crnn: {filters: [1, 2]}\n",
               "augment: {filter_bands: [5, 3]}\n", "augment: {time_mask_min: 0.5, time_mask_max: 0.1}\n", "train: {precision: bf16}\n", "prepare: {subsets: [a, b]}\n",
               "csebb:\n  Dog:\n    step_filter_length: 0.3\n  Cat: {a: b}\nx: y\n", "a: {b: {c: {d: e}}}\n", "a: !!str b\n", "...\n---\na: b\n---\nc: d\n")
    for i, text in enumerate(refused):
        put(out / "config", f"refused{i}", text.encode("latin-1"))
    for z in pathlib.Path(__file__).parent.glob("corpus/*.zip"):
        zipfile.ZipFile(z).extractall(out / z.stem)


main()
