# TIMEOUT 600
"""Import and export through the program: every way in which public files hold a network, in every format, bit for bit; what does
not fit is refused in one line. Files are made with the standard library (tests/torch_files.py)."""
import collections
import json
import os
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import zipfile

import h5py
import numpy as np

SOURCE = pathlib.Path(os.environ.get("EARSHOT_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(SOURCE / "tests"))
import public_names  # noqa: E402
import torch_files as tf  # noqa: E402
from torch_files import AnyClass, Tensor  # noqa: E402

EARSHOT = os.environ["EARSHOT_BUILD"] + "/earshot"
DIM, DEPTH, HEADS, MLP = 16, 2, 2, 24
SMALL = [f"model.dim={DIM}", f"model.depth={DEPTH}", f"model.heads={HEADS}", f"model.mlp={MLP}", "model.audioset_classes=6"]
CRNN = ["crnn.filters=[3,3,3,3,3,3,5]", "crnn.rnn_cells=4"]
BEATS = ["model.arch=beats", "beats.patch_embed=6", "beats.conv_taps=4", "beats.conv_groups=4", "beats.buckets=8", "beats.max_distance=5"]
rng = np.random.default_rng(5)
failures = checks = 0


def check(good, what):
    global failures, checks
    checks += 1
    if not good:
        failures += 1
        print("FAILED:", what)
    return good


def run(*args, np_=1):
    launch = ["mpiexec", "--oversubscribe", "--bind-to", "none", "-n", str(np_)] if np_ > 1 else []
    r = subprocess.run([*launch, EARSHOT, *map(str, args)], capture_output=True, text=True, timeout=300)
    lines = r.stderr.splitlines()
    mine = [x for x in lines if x.startswith(("earshot", "hint"))]
    return r.returncode, mine if np_ > 1 else lines


class Driver:
    """Many imports in one process (tests/e2e/import_driver.c): also sees memory that is not given back."""
    def __init__(self):
        self.process = subprocess.Popen([os.environ["EARSHOT_BUILD"] + "/tests/import_driver"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        self.peak_mb = 0

    def __call__(self, *words):
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            check(False, f"the driver died on {words}: {self.process.wait()}")
            self.__init__()
            return 70, ["died"]
        code, blocks, peak, message = answer.rstrip("\n").split("\t")
        self.peak_mb = int(peak)
        check(blocks == "0", f"{blocks} blocks of memory left behind by {words}")
        return int(code), [message] if message else []


driver = None


def do_import(model, source, *more, np_=0, size=SMALL):
    """np_ 0: in the driver; else the program on so many ranks. Exit code and lines on stderr."""
    sets = size + (CRNN if model == "sed" else []) + (BEATS if model == "beats" else [])
    if os.path.exists("w.h5"):
        os.remove("w.h5")
    if np_:
        return run("import", "--model", model, "--from", source, "--out", "w.h5", *(x for s in sets for x in ("--set", s)), *more, np_=np_)
    which = more[1] if more[:1] == ("--which",) else "student"
    return driver("import", model, source, "w.h5", which, "check" if "--check" in more else "-", *sets)


def do_export(source, to, np_=0):
    return run("export", "--from", source, "--to", to, np_=np_) if np_ else driver("export", source, to, "-")


def tensors(names, dtype="float32"):
    out = collections.OrderedDict()
    for name, shape in names:
        counter = name.endswith("num_batches_tracked")
        values = np.array(rng.integers(0, 99)) if counter else rng.standard_normal(shape)
        if dtype == "bfloat16" and not counter:
            values = (values.astype("<f4").view("<u4") >> 16).astype("<u2").reshape(shape)
        out[name] = Tensor(values, "int64" if counter else dtype)
        out[name].shape = tuple(shape)
    return out


def compare(want, got, what):
    check(list(got) == list(want), f"{what}: names: {list(got)[:3]}... want {list(want)[:3]}...")
    check(all(n in got and tf.same(got[n], want[n]) for n in want), f"{what}: values")


def weights(path):
    """Entries of a weights file in creation order, as Tensors; and who is whose alias."""
    out, alias = collections.OrderedDict(), {}
    with h5py.File(path, "r", track_order=True) as f:
        by_order = []
        f.id.links.iterate(lambda n: by_order.append(n.decode()), idx_type=h5py.h5.INDEX_CRT_ORDER)
        for n in by_order:
            d = f[n]
            dtype = d.attrs["torch_dtype"] if "torch_dtype" in d.attrs else str(d.dtype)
            dtype = dtype.decode() if isinstance(dtype, bytes) else dtype
            out[n] = Tensor(d[()], dtype)
            if "alias_of" in d.attrs:
                a = d.attrs["alias_of"]
                alias[n] = a.decode() if isinstance(a, bytes) else a
    return out, alias


def round_trip(model, want, source, what, *more, np_=0, size=SMALL):
    r = do_import(model, source, *more, np_=np_, size=size)
    if not check(r == (0, []), f"{what}: import: {r}"):
        return
    got, alias = weights("w.h5")
    compare(want, got, what)
    for to, load in (("o.pt", tf.load_zip), ("o.safetensors", tf.load_safetensors)):
        r = do_export("w.h5", to, np_)
        if check(r == (0, []), f"{what}: export {to}: {r}"):
            out = load(to)
            compare(want, out, f"{what} {to}")
            if to == "o.pt":
                check(all(out[a].storage is out[b].storage for a, b in alias.items()), f"{what}: aliases")
                check(len({id(t.storage) for t in out.values()}) == len(out) - len(alias), f"{what}: one storage a tensor")


def refuse(model, source, words, what, *more, np_=0, code=65):
    got, lines = do_import(model, source, *more, np_=np_)
    left = os.path.exists("w.h5")
    good = got == code and len(lines) == 1 and all(w in lines[0] for w in words) and not left
    check(good, f"{what}: want {code} and {words}, got {got} {lines} {'(a file is left)' if left else ''}")


# ---- the names themselves
def test_names():
    golden = pathlib.Path(os.environ.get("EARSHOT_SHARED", SOURCE / "../shared")) / "golden/models"
    tables = {"atst_full": public_names.atst(), "fpasst_full": public_names.fpasst(), "beats_full": public_names.beats()}
    for name, want in tables.items():
        path = golden / f"params_{name}.tsv"
        if not path.exists():
            print(f"(no {path}: names are not compared with the golden ones)")
            continue
        rows = [x.split("\t") for x in path.read_text().splitlines() if not x.startswith("#")]
        got = [(r[0], tuple(int(n) for n in r[1].split("x"))) for r in rows]
        check(got == want, f"names of {name}")


def prefixed(entries, cut, prefix):
    return collections.OrderedDict((prefix + n[len(cut):], t) for n, t in entries.items())


SAVE = [tf.save_zip, tf.save_legacy, lambda o, p: tf.save_zip(o, p, deflate=True), lambda o, p: tf.save_zip(o, p, protocol=4),
        lambda o, p: tf.save_zip(o, p, folder="archive", extra=[("byteorder", "little")]), lambda o, p: tf.save_legacy(o, p, 3)]


def test_atst():
    want = tensors(public_names.atst(DIM, DEPTH, MLP))
    junk = {"x.y": Tensor(np.zeros(3)), "net.z": Tensor(np.zeros(2))}
    head = tensors([("head_linear_layer.weight", (6, DIM)), ("head_linear_layer.bias", (6,))])
    p = lambda prefix: prefixed(want, "atst.", prefix)
    teacher = p("model.teacher.encoder.")
    teacher = collections.OrderedDict((n.replace("encoder.norm_frame.", "encoder.norm."), t) for n, t in teacher.items())
    teacher["model.teacher.encoder.cls_token"] = Tensor(np.zeros((1, 1, DIM)))
    teacher.update(prefixed(tensors(public_names.atst(DIM, DEPTH, MLP)), "atst.", "model.student.encoder."))
    psed_heads = {"strong_head.weight": Tensor(np.zeros((447, DIM))), "weak_head.bias": Tensor(np.zeros(527)),
                  "seq_model.rnn.weight_ih_l0": Tensor(np.zeros((3, 3)))}
    cases = {
        "flat": p("atst."), "bare": p(""), "teacher": {"state_dict": teacher},
        "as2m": {"state_dict": {**p("encoder.encoder."), **junk, "encoder.encoder.teacher_module.a": Tensor(np.zeros(2))},
                 "epoch": 3, "hyper_parameters": AnyClass(lr=1e-3)},
        "c2f": {"state_dict": {**p("encoder.encoder.frame_encoder."), "encoder.encoder.teacher_module.a": Tensor(np.zeros(2))}},
        "strong": {"state_dict": {**p("net_strong.model.atst."), "net_strong.rnn.weight": Tensor(np.zeros(2)), **junk}},
        "psed": {**p("model.atst."), **psed_heads, "model.atst_mel.mel_transform.a": Tensor(np.zeros(2))},
        "ddp": p("module.atst."), "compiled": {"model": p("_orig_mod.atst.")},
        "stage": {"state_dict": {**p("student.as_model.model.atst."), **p("teacher.as_model.model.atst."), **junk}},
    }
    for i, (name, o) in enumerate(cases.items()):
        SAVE[i % len(SAVE)](o, "in.ckpt")
        round_trip("atst", want, "in.ckpt", f"atst {name}", np_=(1, 2, 0)[min(i, 2)])
    heads = collections.OrderedDict([*want.items(), *head.items()])
    tf.save_zip({"state_dict": {**p("net_strong.model.model.atst."), **prefixed(head, "", "net_strong.model.")}}, "in.pt")
    round_trip("atst", heads, "in.pt", "atst with the trained head")
    tf.save_zip({"state_dict": {**p("net.model.atst."), **prefixed(head, "", "net."), "net.att_linear_layer.bias": Tensor([0.0])}},
                "in.pt")
    round_trip("atst", heads, "in.pt", "atst weak")
    tf.save_safetensors(p("model.atst."), "in.safetensors", lambda t: {"__metadata__": {"format": "pt"}, **t})
    round_trip("atst", want, "in.safetensors", "atst safetensors")


def test_fpasst():
    want = tensors(public_names.fpasst(DIM, DEPTH, MLP))
    head = tensors([("head_linear_layer.weight", (6, DIM)), ("head_linear_layer.bias", (6,))])
    p = lambda prefix: prefixed(want, "", prefix)
    for i, prefix in enumerate(("", "model.", "model.fpasst.", "net_strong.model.", "net_strong.model.model.", "net.model.",
                                "as_model.model.", "module.model.")):
        SAVE[i % len(SAVE)]({"state_dict": p(prefix)}, "in.pt")
        round_trip("fpasst", want, "in.pt", f"fpasst {prefix}")
    tf.save_zip({"state_dict": {**p("net_strong.model.model."), **prefixed(head, "", "net_strong.model."),
                                "net_strong.sigmoid_dense.bias": Tensor([0.0])}}, "in.ckpt")
    round_trip("fpasst", collections.OrderedDict([*want.items(), *head.items()]), "in.ckpt", "fpasst with the trained head")


def test_deit():
    names = [("cls_token", (1, 1, DIM)), ("dist_token", (1, 1, DIM)), ("pos_embed", (1, 2 + 9, DIM)), ("patch_embed.proj.weight", (DIM, 3, 16, 16)),
             ("patch_embed.proj.bias", (DIM,)), *public_names.vit(DIM, DEPTH, MLP, True), *public_names.norm("norm", DIM),
             ("head.weight", (1000, DIM)), ("head_dist.bias", (1000,))]
    deit = tensors(names)
    tf.save_zip({"model": deit}, "in.pth")
    r = do_import("fpasst", "in.pth")
    if not check(r == (0, []), f"DeiT: {r}"):
        return
    got, _ = weights("w.h5")
    check(list(got) == [n for n, _ in public_names.fpasst(DIM, DEPTH, MLP)], "DeiT: names")
    check(all(tf.same(got[n], t) for n, t in deit.items() if n.startswith(("blocks.", "norm.", "cls_", "dist_"))), "DeiT: copies")
    patch = deit["patch_embed.proj.weight"].values()[:, np.arange(16) % 3].reshape(DIM, 16, 128, 2) * np.float32(3 / 16)
    check(np.allclose(got["patch_embed.proj.weight"].values(), patch, rtol=1e-6), "DeiT: patch")
    check((got["new_pos_embed"].values() == deit["pos_embed"].values()[:, :2]).all(), "DeiT: positions of tokens")
    mean = got["time_new_pos_embed"].values().mean(axis=3, dtype="f8", keepdims=True)
    check(np.allclose(got["freq_new_pos_embed"].values(), mean, atol=1e-5) and np.abs(mean).max() > 0.01, "DeiT: positions")
    deit["blocks.0.norm1.weight"] = Tensor(np.full(DIM, np.nan))
    tf.save_zip({"model": deit}, "in.pth")
    refuse("fpasst", "in.pth", ["in.pth", "blocks.0.norm1.weight", "not finite"], "DeiT with NaN")
    del deit["blocks.0.norm1.weight"]
    tf.save_zip({"model": deit}, "in.pth")
    refuse("fpasst", "in.pth", ["in.pth", "blocks.0.norm1.weight", "missing"], "DeiT without a tensor")


def beats_names(prefix="model."):
    return public_names.beats(DIM, DEPTH, MLP, HEADS, 6, 4, 4, 8, prefix)


def with_aliases(entries, prefix="model."):
    """As a state_dict has them: the table of layer 0 under every layer's name."""
    out = collections.OrderedDict()
    alias = {after: (name, of) for name, after, of in public_names.beats_aliases(DEPTH, prefix)}
    for n, t in entries.items():
        out[n] = t
        if n in alias:
            out[alias[n][0]] = entries[alias[n][1]]
    return out


def test_beats():
    short = tensors(beats_names())
    want = with_aliases(short)
    p = lambda prefix, entries: prefixed(entries, "model.", prefix)
    for i, prefix in enumerate(("", "model.", "model.model.", "model.beats.", "as_model.model.", "net_strong.model.model.")):
        SAVE[i % len(SAVE)]({"state_dict": p(prefix, want)}, "in.pt")
        round_trip("beats", want, "in.pt", f"beats {prefix}", np_=0 if i else 2)
    # Microsoft's file: cfg, old names of weight norm, the predictor of a fine-tuned model
    old = collections.OrderedDict((n.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"), t)
                                  for n, t in p("", want).items())
    old["predictor.weight"] = Tensor(np.zeros((527, DIM)))
    cfg = {"encoder_layers": DEPTH, "encoder_embed_dim": DIM, "encoder_attention_heads": HEADS, "num_buckets": 8, "max_distance": 5, "embed_dim": 6,
           "deep_norm": True, "layer_norm_first": False, "dropout": 0.1, "finetuned_model": True, "activation_fn": "gelu"}
    tf.save_zip({"cfg": cfg, "model": old}, "in.pt")
    round_trip("beats", want, "in.pt", "beats as published", "--json", "r.json", np_=1)
    check(json.load(open("r.json"))["cfg"]["dropout"] == 0.1, "--json has cfg")
    tf.save_zip(p("", short), "in.pt")
    round_trip("beats", want, "in.pt", "beats without aliases")
    alias, _, of = public_names.beats_aliases(DEPTH)[0]
    copy = collections.OrderedDict(want)
    copy[alias] = Tensor(want[of].values())
    tf.save_zip(copy, "in.pt")
    round_trip("beats", want, "in.pt", "beats with a copy as alias")
    tf.save_safetensors(copy, "in.safetensors")
    round_trip("beats", want, "in.safetensors", "beats safetensors")
    copy[alias] = Tensor(want[of].values() + 1)
    tf.save_zip(copy, "in.pt")
    refuse("beats", "in.pt", [alias, "differs"], "an alias that differs")
    copy[alias] = Tensor(want[of].values(), "float64")
    tf.save_zip(copy, "in.pt")
    refuse("beats", "in.pt", [alias, "another type"], "an alias of another type")
    for key, value in (("max_distance", 1280), ("deep_norm", False), ("layer_norm_first", True), ("encoder_layers", 3), ("conv_pos", 8)):
        tf.save_zip({"cfg": {**cfg, key: value}, "model": old}, "in.pt")
        refuse("beats", "in.pt", [f"cfg.{key}", f"got {int(value)}"], f"cfg.{key}")
    both = {**old, "encoder.pos_conv.0.parametrizations.weight.original0": Tensor(np.zeros((1, 1, 4)))}
    tf.save_zip({"model": both}, "in.pt")
    refuse("beats", "in.pt", ["original0", "twice"], "weight norm under both names")


def test_types():
    for dtype in ("float64", "float16", "bfloat16"):
        want = tensors(public_names.atst(DIM, DEPTH, MLP), dtype)
        for save in (tf.save_zip, tf.save_legacy, tf.save_safetensors):
            save(want, "in.x")
            round_trip("atst", want, "in.x", f"{dtype} {save.__name__}")
    want = tensors(public_names.atst(DIM, DEPTH, MLP))
    for i, name in enumerate(want):  # one of each
        want[name] = tensors([(name, want[name].shape)], ("float32", "float64", "float16", "bfloat16")[i % 4])[name]
    tf.save_zip(want, "in.pt")
    round_trip("atst", want, "in.pt", "mixed types")


def test_views():
    """Storages shared between tensors, offsets, strides, parameters."""
    names = public_names.atst(DIM, DEPTH, MLP)
    want = tensors(names)
    flat = tf.Storage("float32", rng.standard_normal(20000))
    at = 0
    for name in list(want)[:12]:  # one behind the other in one storage
        n = int(np.prod(want[name].shape))
        want[name] = Tensor(np.empty(want[name].shape), storage=flat, offset=at)
        at += n
    for name, t in list(want.items())[12:]:
        if len(t.shape) == 2:  # transposed
            s = tf.Storage("float32", rng.standard_normal(t.shape[::-1]))
            want[name] = Tensor(np.empty(t.shape), storage=s, stride=(1, t.shape[0]), parameter=True)
        elif name.endswith("norm1.bias"):  # every third element; one element many times
            want[name] = Tensor(np.empty(t.shape), storage=tf.Storage("float32", rng.standard_normal(200)), offset=5, stride=(3,))
        elif name.endswith("norm2.bias"):
            want[name] = Tensor(np.empty(t.shape), storage=tf.Storage("float32", [1.5, 2.5]), offset=1, stride=(0,))
    for save in SAVE:
        save({"state_dict": want}, "in.pt")
        round_trip("atst", want, "in.pt", f"views {save}")


def sed_entries(arch):
    if arch == "none":  # the CRNN alone: its RNN reads the last block, nothing is fused
        entries = tensors(public_names.sed([], 6, None, (3, 3, 3, 3, 3, 3, 5), 4))
        for way in ("", "_reverse"):
            entries[f"rnn.rnn.weight_ih_l0{way}"] = Tensor(rng.standard_normal((12, 5)))
        del entries["cat_tf.weight"], entries["cat_tf.bias"]
        return entries
    # bare transformer names; the wrapper's head for atst and fpasst
    inner = {"atst": public_names.atst(DIM, DEPTH, MLP, "model.atst."), "fpasst": public_names.fpasst(DIM, DEPTH, MLP, "model."),
             "beats": beats_names("model.")}[arch]
    if arch == "beats":
        return with_aliases(tensors(public_names.sed(inner, DIM, None, (3, 3, 3, 3, 3, 3, 5), 4)), "as_model.model.")
    return tensors(public_names.sed(inner, 6, DIM, (3, 3, 3, 3, 3, 3, 5), 4))


def test_sed():
    for arch in ("atst", "fpasst", "beats", "none"):
        size = SMALL + (BEATS if arch == "beats" else [])
        student, teacher = sed_entries(arch), sed_entries(arch)
        both = {**prefixed(student, "", "student."), **prefixed(teacher, "", "teacher."), "crnn_mel.spectrogram.window": Tensor([1.0]),
                "mel.mel_transform.fb": Tensor([1.0])}
        lightning = {"state_dict": both, "student": student, "teacher": teacher, "epoch": 7, "global_step": 12, "loops": {"a": [None]},
                     "hyper_parameters": AnyClass(config=AnyClass(x=1), sizes={1, 2}, big=1 << 90, rate=0.5, raw=b"\x00\xff"),
                     "optimizer_states": [{"state": {0: {"step": Tensor(np.array(3.0)), "exp_avg": Tensor(np.zeros(4))}}}],
                     "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": float("nan")}}}
        for i, o in enumerate((lightning, {"state_dict": both}, {"student": student, "teacher": teacher})):
            SAVE[i](o, "in.ckpt")
            round_trip("sed", student, "in.ckpt", f"sed {arch} student {i}", np_=0 if i else 2, size=size)
            round_trip("sed", teacher, "in.ckpt", f"sed {arch} teacher {i}", "--which", "teacher", size=size)
        if arch == "none":
            continue
        tf.save_zip({**student, "as_model.att_linear_layer.bias": Tensor([0.0])}, "in.pt")
        round_trip("sed", student, "in.pt", f"sed {arch} flat", size=size)
        bare = prefixed(collections.OrderedDict((n, t) for n, t in student.items() if n.startswith("as_model.model")),
                        "as_model.model.", "model." if arch == "beats" else "")
        heads = prefixed(collections.OrderedDict((n, t) for n, t in student.items() if "head_linear" in n), "as_model.", "")
        round_trip(arch, {**bare, **heads}, "in.pt", f"{arch} out of a sed net", size=SMALL)


# ---- what does not fit
def test_mismatch():
    good = tensors(public_names.atst(DIM, DEPTH, MLP))

    def changed(change):
        o = collections.OrderedDict(good)
        change(o)
        tf.save_zip(o, "in.pt")

    first, second = list(good)[4], list(good)[7]
    changed(lambda o: o.pop(first))
    refuse("atst", "in.pt", ["in.pt", "1 entries", first, "missing"], "missing", np_=2)
    changed(lambda o: o.update({"atst.more.weight": Tensor([1.0])}))
    refuse("atst", "in.pt", ["atst.more.weight", "not of this model"], "extra")
    changed(lambda o: o.update({first: Tensor(np.zeros(DIM + 1))}))
    refuse("atst", "in.pt", [first, f"[{DIM + 1}], want [{DIM}]"], "shape")
    changed(lambda o: o.update({first: Tensor(np.zeros((1, DIM)))}))
    refuse("atst", "in.pt", [first, f"[1,{DIM}], want [{DIM}]"], "dimensions")
    for dtype in ("int64", "int32", "int16", "int8", "uint8", "bool"):
        changed(lambda o: o.update({first: Tensor(np.zeros(DIM), dtype)}))
        refuse("atst", "in.pt", [first, dtype, "want float32"], "type " + dtype)
    for dtype, bits in (("float32", np.nan), ("float32", -np.inf), ("float16", np.nan), ("float64", np.inf), ("bfloat16", 0x7FC0)):
        values = np.zeros(DIM)
        values[3] = bits
        changed(lambda o: o.update({first: Tensor(values, dtype)}))
        refuse("atst", "in.pt", [first, "not finite", "element 3"], f"not finite {dtype}")
    changed(lambda o: o.update({second: AnyClass(a=1)}))
    refuse("atst", "in.pt", [second, "somebody_else.AnyClass"], "an object in the state dict", np_=2)
    changed(lambda o: o.update({second: [1, 2]}))
    refuse("atst", "in.pt", [second, "a list"], "a list in the state dict")
    changed(lambda o: o.update({"module.atst.pos_embed": o["atst.pos_embed"], "atst.b": AnyClass()}))
    refuse("atst", "in.pt", ["module.atst.pos_embed", "atst.b"], "two layouts")
    tf.save_zip({"state_dict": AnyClass(x=1)}, "in.pt")
    refuse("atst", "in.pt", ["state_dict is an object of somebody_else.AnyClass"], "state_dict is an object")
    tf.save_zip(AnyClass(x=good), "in.pt")
    refuse("atst", "in.pt", ["holds an object of somebody_else.AnyClass"], "the file is an object")
    tf.save_zip([good], "in.pt")
    refuse("atst", "in.pt", ["holds a list"], "the file is a list")
    tf.save_zip(good, "in.pt")
    refuse("fpasst", "in.pt", ["no fpasst in it"], "another model")
    refuse("sed", "in.pt", ["no sed in it"], "another model")
    sed = sed_entries("atst")
    sed["cnn.cnn.batchnorm0.num_batches_tracked"] = Tensor(np.array(1.0))
    tf.save_zip(sed, "in.pt")
    refuse("sed", "in.pt", ["batchnorm0.num_batches_tracked", "float32, want int64"], "a counter that is a float")
    # the whole list goes to --json
    bad = {n: t for n, t in good.items() if "norm" not in n}
    tf.save_zip(bad, "in.pt")
    refuse("atst", "in.pt", ["10 entries do not fit", ", ..."], "many", "--json", "r.json", np_=1)
    report = json.load(open("r.json"))
    check(sorted(x["name"] for x in report["missing"]) == sorted(set(good) - set(bad)), f"--json: {report}")
    check(report["out"] is None and not report["extra"], f"--json: {report}")
    # --check writes nothing; a name outside the choices, a missing option
    tf.save_zip(good, "in.pt")
    r = do_import("atst", "in.pt", "--check", np_=1)
    check(r == (0, []) and not os.path.exists("w.h5"), f"--check: {r}")
    check(run("import", "--model", "vit", "--from", "in.pt", "--out", "w.h5")[0] == 64, "--model vit")
    check(run("import", "--model", "atst", "--from", "in.pt")[0] == 64, "no --out")
    refuse("atst", "nowhere.pt", ["nowhere.pt", "No such file"], "no file", code=74, np_=2)
    refuse("atst", ".", ["not a file"], "a folder", code=74)
    check(run("export", "--from", "in.pt", "--to", "x.pt", np_=2)[0] == 65, "export of what is not HDF5")
    check(run("export", "--from", "w.h5", "--to", "x.bin")[0] == 64, "export to an unknown type")


# ---- damaged and hostile files
def rewrite_zip(source, to, name=None, data=None, **change):
    """Copies an archive, with another content of one entry."""
    with zipfile.ZipFile(source) as a, zipfile.ZipFile(to, "w") as b:
        for i in a.infolist():
            b.writestr(i.filename, data if i.filename == name else a.read(i.filename))


def patch(source, to, *edits):
    raw = bytearray(open(source, "rb").read())
    for at, new in edits:
        at = at if at >= 0 else len(raw) + at
        raw[at:at + len(new)] = new
    open(to, "wb").write(raw)


def pickled_file(program, storages=()):
    """A zip file around a pickle made by hand."""
    with zipfile.ZipFile("in.pt", "w") as z:
        z.writestr("x/data.pkl", program)
        for i, s in enumerate(storages):
            z.writestr(f"x/data/{i}", s)


def test_damage():
    good = tensors(public_names.atst(DIM, DEPTH, MLP))
    tf.save_zip({"state_dict": good}, "good.pt")
    raw = open("good.pt", "rb").read()
    for n in (0, 1, 3, 4, 15, 100, len(raw) // 2, len(raw) - 23, len(raw) - 1):
        open("in.pt", "wb").write(raw[:n])
        refuse("atst", "in.pt", ["in.pt"], f"zip cut to {n}")
    tf.save_legacy({"state_dict": good}, "legacy.pt")
    whole = open("legacy.pt", "rb").read()
    for n in (2, 14, 15, 40, 200, 2000, len(whole) // 2, len(whole) - 1):
        open("in.pt", "wb").write(whole[:n])
        refuse("atst", "in.pt", ["in.pt"], f"legacy cut to {n}")
    with zipfile.ZipFile("good.pt") as z:
        e = z.getinfo("x/data/3")
        data = e.header_offset + 30 + len(e.filename)
    patch("good.pt", "in.pt", (data + 5, b"\xaa\x55"))
    refuse("atst", "in.pt", ["x/data/3", "checksum"], "a changed byte")
    patch("good.pt", "in.pt", (e.header_offset, b"XX"))
    refuse("atst", "in.pt", ["x/data/3", "header"], "a broken local header")
    rewrite_zip("good.pt", "in.pt", "x/data/3", b"short")
    refuse("atst", "in.pt", ["x/data/3", "5 bytes"], "a short storage")
    with zipfile.ZipFile("in.pt", "w") as z:
        z.writestr("x/readme", "hello")
    refuse("atst", "in.pt", ["data.pkl"], "a zip archive of something else")
    with zipfile.ZipFile("in.pt", "w") as z:
        z.writestr("x/data.pkl", tf.pickled(good)[0])
        z.writestr("x/constants.pkl", "")
    refuse("atst", "in.pt", ["TorchScript"], "TorchScript")
    tf.save_zip(good, "in.pt", extra=[("byteorder", "big")])
    refuse("atst", "in.pt", ["big-endian"], "big-endian")
    with zipfile.ZipFile("in.pt", "w") as z:
        z.writestr("x/data.pkl", tf.pickled(good)[0])
    refuse("atst", "in.pt", ["no entry x/data/0"], "no storages")
    # random damage: never a crash, one line
    rnd = random.Random(7)
    for source in ("good.pt", "legacy.pt"):
        size = os.path.getsize(source)
        for i in range(100):
            patch(source, "in.pt", *[(rnd.randrange(min(size, 4000)) if i % 2 else -1 - rnd.randrange(4000), bytes([rnd.randrange(256)]))
                                     for _ in range(3)])
            code, lines = do_import("atst", "in.pt")
            check(code in (0, 65) and len(lines) == (code != 0), f"random damage {i}: {code} {lines}")


def test_hostile():
    # callables: nothing runs, and what they make is refused when it is wanted
    marker = os.path.abspath("executed")
    call = b"cos\nsystem\n(X" + struct.pack("<I", len(marker) + 6) + f"touch {marker}".encode() + b"tR"
    pickled_file(b"\x80\x02" + call + b".")
    refuse("atst", "in.pt", ["an object of os.system"], "os.system")
    pickled_file(b"\x80\x02}X\x0a\x00\x00\x00state_dict}X\x0e\x00\x00\x00atst.pos_embed" + call + b"ss.")
    refuse("atst", "in.pt", ["atst.pos_embed", "os.system"], "os.system in the state dict")
    check(not os.path.exists(marker), "a pickle was executed")
    programs = {
        "depth": b"\x80\x02" + b"(" * 200000 + b"t" * 200000 + b".",
        "depth of lists": b"\x80\x02" + b"]" * 100000 + b"a" * 99999 + b".",
        "list in itself": b"\x80\x02]q\x00h\x00a.",
        "laughs": b"\x80\x02]q\x00" + b"".join(b"](" + b"h\x00" * 10 + b"eq\x00" for _ in range(100)) + b".",
        "no stop": b"\x80\x02}", "nothing": b"", "underflow": b"\x80\x02a.", "two values": b"\x80\x02}}.", "no mark": b"\x80\x02t.",
        "memo far away": b"\x80\x02}r\xff\xff\xff\xff.", "memo not set": b"\x80\x02h\x07.", "protocol": b"\x80\x63}.",
        "unknown operation": b"\x80\x02\xfe.", "long text": b"\x80\x02X\xff\xff\xff\x7fabc.", "long bytes": b"\x80\x05\x8e" + b"\xff" * 8 + b".",
        "frame": b"\x80\x04\x95" + b"\xff" * 8 + b"}.", "extension": b"\x80\x02\x82\x07.", "no pair": b"\x80\x02}}s.",
    }
    for name, program in programs.items():
        pickled_file(program)
        refuse("atst", "in.pt", ["in.pt"], "pickle: " + name)

    def tensor(storage, offset, size, stride):
        number = lambda i: b"\x8a\x08" + struct.pack("<q", i)
        t = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        t += number(storage) + b"tQ" + number(offset) + b"(" + b"".join(map(number, size)) + b"t(" + b"".join(map(number, stride))
        return b"\x80\x02}X\x0e\x00\x00\x00atst.pos_embed" + t + b"t\x89}tRs."

    big = 1 << 62
    for name, t in {"beyond": (4, 0, [5], [1]), "offset": (4, 4, [1], [1]), "negative offset": (4, -1, [1], [1]), "negative size": (4, 0, [-1], [1]),
                    "negative stride": (4, 3, [2], [-1]), "stride": (4, 0, [3], [2]), "overflow": (4, 0, [big, big], [big, big]),
                    "overflow of n": (4, 0, [big, big], [0, 0]), "huge storage": (big, 0, [4], [1]), "rank": (4, 0, [1] * 9, [1] * 9),
                    "no stride": (4, 0, [4], [])}.items():
        pickled_file(tensor(*t), [b"\0" * 16])
        refuse("atst", "in.pt", ["in.pt"], "tensor: " + name)
    pickled_file(tensor(4, 0, [1, 251, DIM], [0, 0, 0]), [b"\0" * 16])
    refuse("atst", "in.pt", ["entries do not fit"], "a tensor of one element, expanded, and nothing else")
    # a bomb: 300 MB of zeros in 300 kB, and a pickle that is one
    with zipfile.ZipFile("in.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        z.writestr("x/data.pkl", b"\x80\x02" + b"N0" * (20 << 20) + b"}.")
    refuse("atst", "in.pt", ["pickle of"], "a pickle that grows")
    many = tensors(public_names.atst(DIM, DEPTH, MLP))
    many["atst.pos_embed"] = Tensor(np.empty((1, 251, DIM)), storage=tf.Storage("float32", np.zeros(75 << 20, "f4")))
    tf.save_zip(many, "in.pt", deflate=True)
    refuse("atst", "in.pt", ["grow too much"], "a storage that grows")
    # directory entries that point at each other's data
    tf.save_zip(many and {"a": Tensor([1.0])}, "z.pt")
    raw = bytearray(open("z.pt", "rb").read())
    end = raw.rfind(b"PK\5\6")
    for edit in ((end + 10, b"\xff\xff"), (end + 12, b"\xff\xff\xff\x7f"), (end + 16, b"\xff\xff\xff\x7f"), (end + 20, b"\x01\x00")):
        patch("z.pt", "in.pt", edit)
        refuse("atst", "in.pt", ["zip archive"], f"end record {edit}")
    entry = raw.find(b"PK\1\2")
    for at, new, word in ((10, b"\x0c\x00", "neither stored nor deflated"), (8, b"\x01\x00", "encrypted"), (20, b"\xff\xff\xff\x7f", "zip archive"),
                          (24, bytes([raw[entry + 24] + 1]), "two lengths"), (28, b"\xff\xff", "zip archive"), (42, b"\xff\xff\xff\x7f", "zip archive")):
        patch("z.pt", "in.pt", (entry + at, new))
        refuse("atst", "in.pt", [word], f"directory entry {at}")
    check(driver.peak_mb < 300, f"{driver.peak_mb} MB at the peak; the largest file has 20 MB, the net 0.1 MB")


def test_safetensors():
    good = tensors(public_names.atst(DIM, DEPTH, MLP))
    name, other = "atst.norm_frame.bias", "atst.norm_frame.weight"

    def changed(what, change, words=("safetensors",)):
        def header(t):
            change(t)
            return t
        tf.save_safetensors(good, "in.safetensors", header)
        refuse("atst", "in.safetensors", list(words), "safetensors: " + what)

    def offsets(d):
        return lambda t: t[name]["data_offsets"].__setitem__(slice(None), [x + d for x in t[name]["data_offsets"]])

    changed("overlap", offsets(-4), ["overlap"])
    changed("gap at the end", lambda t: t.pop(name), ["more data than tensors"])
    changed("beyond the file", offsets(1 << 40), [name, "beyond the file"])
    changed("negative", lambda t: t[name].update(data_offsets=[-64, 0]), [name])
    changed("backwards", lambda t: t[name].update(data_offsets=t[name]["data_offsets"][::-1]), [name])
    changed("length", lambda t: t[name]["data_offsets"].__setitem__(1, t[name]["data_offsets"][0] + 4), [name, "do not fit"])
    changed("two tensors in one place", lambda t: t[name].update(data_offsets=t[other]["data_offsets"]), ["overlap"])
    changed("overflow", lambda t: t[name].update(shape=[1 << 52, 1 << 52]), [name, "shape"])
    changed("negative shape", lambda t: t[name].update(shape=[-4, -4]), [name])
    changed("many dimensions", lambda t: t[name].update(shape=[1] * 9), [name])
    changed("type", lambda t: t[name].update(dtype="F8_E4M3"), [name, "dtype"])
    changed("no type", lambda t: t[name].pop("dtype"), [name])
    changed("not an object", lambda t: t.update({name: 3}), [name])
    changed("fraction", lambda t: t[name].update(shape=[16.5]), [name])
    tf.save_safetensors(good, "good.safetensors")
    raw = open("good.safetensors", "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    texts = {"twice": raw[8:8 + n].replace(other.encode(), name.encode()), "not JSON": raw[8:8 + n - 1] + b",",
             "more": raw[8:8 + n] + b"{}", "not UTF-8": raw[8:8 + n].replace(b"atst.m", b"\xff\xfeat.", 1),
             "deep": b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}", "empty": b"{}", "number": b"{ 7"}
    for what, text in texts.items():
        open("in.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + raw[8 + n:])
        refuse("atst", "in.safetensors", ["in.safetensors"], "safetensors: " + what)
    for length in (1 << 63, (1 << 64) - 1, len(raw), len(raw) - 7):
        open("in.safetensors", "wb").write(struct.pack("<Q", length) + raw[8:])
        refuse("atst", "in.safetensors", ["header of"], f"safetensors: header of {length} bytes")
    for cut in (7, 8, 9, 8 + n - 1, len(raw) - 1):
        open("in.safetensors", "wb").write(raw[:cut])
        refuse("atst", "in.safetensors", ["in.safetensors"], f"safetensors: cut to {cut}")


def main():
    global driver
    tests = [f for n, f in sorted(globals().items()) if n.startswith("test_") and (len(sys.argv) < 2 or n in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        driver = Driver()
        for test in tests:
            before = failures
            test()
            print(f"{test.__name__}: {'ok' if failures == before else 'FAILED'}")
        os.chdir("/")
    print(f"{checks} checks, {failures} failures")
    return failures > 0 or checks == 0


sys.exit(main())
