"""Writes golden_models/: the part of the shared golden data that travels with the repository, a directory for earshot-golden.

Usage: /usr/bin/python3 tests/data/make_golden_models.py [SHARED/golden/models]
Copies datasets unchanged (the source's README.md describes them), with one exception in the source's own manner: gradients
of parameters with more than LARGE elements become 256 samples, `grad/<name>.samples`, at floor(k (n-1) / 255), k = 0..255.
"""
import pathlib
import re
import shutil
import sys

import h5py
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
LARGE = 3000

# file: datasets to keep (first match of the whole path decides; "-" in front: left out)
WANTED = {
    "small_transformers.h5": ["-.*/R8/.*", "(atst|fpasst|beats)/.*"],
    "sed_full_small.h5": ["-.*/R8/.*", "-.*gradin/x", "(atst|fpasst|beats)/.*"],
    "sed_small.h5": ["-.*/R8/.*", "-aap_cg/train/gradin/x", "-.*/eval/gradin/.*", "-nearest.*gradin/.*", "-nearest.*/eval/.*", "x", "mask", "embeddings",
                     "cfg/.*", "aap_cg/.*", "nearest_exact_cg_nowrapper/.*"],
    "trajectory.h5": ["-.*_fp32", "batch_sizes", "in/step./(sed_mel|pt_feats_(atst|fpasst|beats)|labels|valid_class_mask|pseudo_strong_btc)",
                      "atst_(mt|ict|stage1)/.*", "fpasst_(mt|ict)/.*", "beats_(mt|ict)/.*"],
    "augment.h5": ["(mixup_strong|mixup_weak|mixstyle_pt|filt_aug_(4bands|narrow)|freq_warp_(b|min)|frame_shift|time_mask_b|wavmix_a|gain|dir_.*)/.*"],
    "losses.h5": ["batch_sizes", "bce_edge/.*", "s1_paper_nomask_ssl/.*", "s2_ict_joint_exclude_maestro_weak/.*",
                  "s2_mt_paper_step1000/.*"],
    "bigru.h5": [".*"],
    "labels.h5": [".*"],
    "optim.h5": ["-schedule_2/.*", ".*"],
    "frontends.h5": ["aug_.*", "(short|batch)/.*", "synth/(wave|atst_mel|fpasst_mel|beats_fbank)"],
    "heads_cpjku.h5": ["-.*/R8/.*", "(audioset_attention_up|audioset_logits_down|task4rnn_down)/.*"],
    "heads_pretrainedsed.h5": ["-.*/R8/.*", "(linear_interp_up|attention_bigru_pool_down|linear_bilstm|nohead_interp_up|as_strong_loss_1)/.*"],
}
TEXTS = ["tolerances.tsv", "alias_tables.txt", "params_bigru_one_layer.tsv", "params_bigru_two_layers.tsv", "params_sed_small_wrapper.tsv", "params_sed_small_nowrapper.tsv"]
TEXTS += [name % arch for arch in ("atst", "fpasst", "beats")
          for name in ("params_%s_small.tsv", "params_sed_full_small_%s.tsv", "params_trajectory_%s.tsv", "trajectory_names_%s.tsv")]
TEXTS += ["params_heads_%s.tsv" % name for name in ("audioset_wrapper", "task4rnn", "pred_linear_interp_up",
                                                    "pred_attention_bigru_pool_down", "pred_linear_bilstm")]
# Optimiser groups: stage 2 with the wrapper (BEATs: without) and a factor from layer to layer.
GROUPS = re.compile(r"#|2\t(atst_frame\t0|fpasst\t0|beats\t1)\tall\t0\.5\t")


def excerpt(rows, out):
    """Rows of cases.tsv whose case has something in golden_models/: datasets below its group, or rows of a text."""
    kept, last, there = [], None, False
    for row in rows:
        file, group = row.split("\t")[:2]
        if file.startswith("#"):
            kept.append(row)
            continue
        if (file, group) != last:
            last, there = (file, group), (out / file).exists()
            if there and file.endswith(".h5") and group != ".":
                with h5py.File(out / file, "r") as f:
                    there = group in f
        if there:
            kept.append(row)
    return kept


def wanted(path, rules):
    for rule in rules:
        if re.fullmatch(rule.removeprefix("-"), path):
            return not rule.startswith("-")
    return False


def create(path):
    """Like h5py.File(path, "w"), without times: the file's bytes depend on its content alone."""
    access, plain = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    plain.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(str(path).encode(), h5py.h5f.ACC_TRUNC, fcpl=plain, fapl=access))


def make_groups(dst, path):
    """The groups above a dataset, without times."""
    plain = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    plain.set_obj_track_times(False)
    parts = path.split("/")[:-1]
    for i in range(1, len(parts) + 1):
        if "/".join(parts[:i]) not in dst:
            h5py.h5g.create(dst.id, "/".join(parts[:i]).encode(), gcpl=plain)


def copy(src, dst, rules):
    def visit(path, item):
        if not isinstance(item, h5py.Dataset) or not wanted(path, rules):
            return
        data = item[...]
        if "/grad/" in path and "/grad/student_" not in path and data.size > LARGE:
            flat = data.ravel()
            data = flat[np.arange(256) * (flat.size - 1) // 255]
            path += ".samples"
        make_groups(dst, path)
        small = data.ndim == 0 or data.nbytes < 2048
        dst.create_dataset(path, data=data, track_times=False, **({} if small else dict(compression=9, shuffle=True)))

    src.visititems(visit)


def main():
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "../../../shared/golden/models")
    out = HERE / "golden_models"
    out.mkdir(exist_ok=True)
    for name, rules in WANTED.items():
        with h5py.File(source / name, "r") as src, create(out / name) as dst:
            copy(src, dst, rules)
    for name in TEXTS:
        shutil.copyfile(source / name, out / name)
    rows = (source / "param_groups.tsv").read_text().splitlines(keepends=True)
    (out / "param_groups.tsv").write_text("".join(row for row in rows if GROUPS.match(row)))
    rows = (source / "cases.tsv").read_text().splitlines(keepends=True)
    (out / "cases.tsv").write_text("".join(excerpt(rows, out)))


if __name__ == "__main__":
    main()
