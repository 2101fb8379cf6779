# TIMEOUT 600
"""Against PyTorch itself: torch.save -> import -> export -> torch.load gives the same bits. Skipped without torch
(Debian: python3-torch)."""
import collections
import os
import pathlib
import sys
import tempfile

try:
    import torch
except ImportError:
    print("no torch: skipped")
    sys.exit(77)
SOURCE = pathlib.Path(os.environ.get("EARSHOT_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(SOURCE / "tests"))
import public_names  # noqa: E402
import subprocess  # noqa: E402

EARSHOT = os.environ["EARSHOT_BUILD"] + "/earshot"
DIM, DEPTH, MLP = 16, 2, 24
SMALL = ["model.dim=16", "model.depth=2", "model.heads=2", "model.mlp=24", "model.audioset_classes=6", "crnn.filters=[3,3,3,3,3,3,5]",
         "crnn.rnn_cells=4"]
failures = checks = 0


class Config:
    """A class that the importing side does not have."""
    def __init__(self):
        self.x = [1, 2]


def check(good, what):
    global failures, checks
    checks += 1
    if not good:
        failures += 1
        print("FAILED:", what)


def run(*args, np_=1):
    launch = ["mpiexec", "--oversubscribe", "--bind-to", "none", "-n", str(np_)] if np_ > 1 else []
    r = subprocess.run([*launch, EARSHOT, *args], capture_output=True, text=True, timeout=300)
    check(r.returncode == 0, f"{args}: {r.returncode} {r.stderr}")


def tensors(names, dtype=torch.float32):
    out = collections.OrderedDict()
    for name, shape in names:
        out[name] = torch.tensor(17) if name.endswith("num_batches_tracked") else torch.randn(shape).to(dtype)
    return out


def same(a, b):
    bits = lambda t: t.contiguous().view(torch.int16) if t.dtype in (torch.bfloat16, torch.float16) else t
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def round_trip(model, want, source, what, np_=1):
    sets = [x for s in SMALL for x in ("--set", s)]
    run("import", "--model", model, "--from", source, "--out", "w.h5", *sets, np_=np_)
    run("export", "--from", "w.h5", "--to", "o.pt", np_=np_)
    got = torch.load("o.pt")
    check(type(got) is collections.OrderedDict and list(got) == list(want), f"{what}: names")
    check(all(same(got[n], want[n]) for n in want), f"{what}: values")
    try:
        from safetensors.torch import load_file
    except ImportError:
        return
    run("export", "--from", "w.h5", "--to", "o.safetensors")
    got = load_file("o.safetensors")
    check(sorted(got) == sorted(want) and all(same(got[n], want[n]) for n in want), f"{what}: safetensors")


def main():
    torch.manual_seed(1)
    atst = public_names.atst(DIM, DEPTH, MLP)
    for zipped in (True, False):
        save = lambda o, p: torch.save(o, p, _use_new_zipfile_serialization=zipped)
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            want = tensors(atst, dtype)
            save({"state_dict": want}, "in.pt")
            round_trip("atst", want, "in.pt", f"{dtype} zip={zipped}", np_=2 if dtype is torch.bfloat16 else 1)
        want = tensors(atst)
        flat = torch.randn(5000)
        for n in want:  # views: slices of one storage, transposed, every other, expanded; parameters
            t = want[n]
            if t.ndim == 2:
                want[n] = torch.nn.Parameter(torch.randn(t.shape[::-1]).t())
            elif n.endswith("norm1.weight"):
                want[n] = flat[7:7 + DIM]
            elif n.endswith("norm2.weight"):
                want[n] = flat[100:100 + 2 * DIM:2]
            elif n.endswith("norm2.bias"):
                want[n] = flat[:1].expand(DIM)
        save(want, "in.pt")
        round_trip("atst", want, "in.pt", f"views zip={zipped}")
        student = tensors(public_names.sed(public_names.atst(DIM, DEPTH, MLP, "model.atst."), 6, DIM, (3, 3, 3, 3, 3, 3, 5), 4))
        model = torch.nn.Linear(3, 3)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        save({"state_dict": {"student." + n: t for n, t in student.items()}, "student": student, "teacher": student, "epoch": 3,
              "hyper_parameters": Config(), "optimizer_states": [optimizer.state_dict()], "rng": torch.get_rng_state(),
              "other": [torch.tensor([True]), torch.ones(2, dtype=torch.complex64), torch.float32, torch.Size([1, 2])]}, "in.ckpt")
        round_trip("sed", student, "in.ckpt", f"lightning zip={zipped}")
    module = torch.nn.ModuleDict({"bn": torch.nn.BatchNorm1d(3)})  # a state_dict with _metadata
    save = module.state_dict()
    check(hasattr(save, "_metadata"), "torch writes _metadata")
    for n, t in tensors(atst).items():
        save[n] = t
    del save["bn.weight"], save["bn.bias"], save["bn.running_mean"], save["bn.running_var"], save["bn.num_batches_tracked"]
    torch.save(save, "in.pt")
    round_trip("atst", save, "in.pt", "a module's state_dict")
    print(f"{checks} checks, {failures} failures")
    return failures > 0 or checks == 0


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    code = main()
    os.chdir("/")
sys.exit(code)
