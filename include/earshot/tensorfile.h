/* Files of named tensors that other programs write and read: PyTorch's .pt and .ckpt (zip and the older plain format) and
 * .safetensors. What is inside decides, not the file's name.
 *
 * Reading: the tree of values (value.h) with tensors as views; bytes are read when asked for, so that memory is bounded by the
 * pickle or header and by the tensors one wants. Corrupt, truncated and hostile files are ES_EDATA: checked are all lengths and
 * offsets, checksums of zip entries, overlap in safetensors, how far an entry may grow when inflated (64 MiB + 16 times the file).
 * Big-endian files, TorchScript and torch.save of before 2017 (tar) are refused.
 *
 *     struct es_tensorfile *f = NULL;
 *     ES_GO(es_tensorfile_open(&f, "x.ckpt", err));
 *     const struct es_value *dict = es_value_get(es_tensorfile_root(f), "state_dict");
 *     ES_GO(es_tensorfile_read(f, es_value_get(dict, "dense.bias")->view, out, err));
 *
 * Writing: whole files through a temporary name, the same bytes for the same tensors. Zip is stored, entries aligned to 64 bytes;
 * the pickle is an OrderedDict, protocol 2, so that torch.load(weights_only=True) takes it. In safetensors, which has no
 * sharing, an alias is written out.
 *
 * Collectivity: none. Errors: ES_EDATA, ES_EIO; messages begin with the path.
 */
#ifndef EARSHOT_TENSORFILE_H
#define EARSHOT_TENSORFILE_H

#include "earshot/value.h"

struct es_tensorfile;
int es_tensorfile_open(struct es_tensorfile **f, const char *path, struct es_err *err);
/* Of n bytes in memory, borrowed until close. */
int es_tensorfile_open_bytes(struct es_tensorfile **f, const char *name, const void *bytes, size_t n,
                             struct es_err *err);
void es_tensorfile_close(struct es_tensorfile **f);
const struct es_value *es_tensorfile_root(const struct es_tensorfile *f); /* safetensors: a dict of tensors */
const char *es_tensorfile_path(const struct es_tensorfile *f);
/* The view's elements, in C order, own type, into out [n]. */
int es_tensorfile_read(struct es_tensorfile *f, const struct es_view *view, void *out, struct es_err *err);

/* ---- writing */
struct es_tensor_entry {
    const char *name;
    enum es_dtype dtype;
    int ndim;
    int64_t shape[ES_VIEW_MAX_DIM];
    int alias_of; /* index of the entry before whose storage it shares, same type and shape; -1: none */
};
/* Fills out with entry i, C order, its own type; called once per entry that is no alias, in order. */
typedef int (*es_tensor_fill_fn)(void *arg, int i, void *out, struct es_err *err);

/* By the end of the path: .safetensors, else zip. At most 4 GiB. */
int es_tensorfile_write(const char *path, int n, const struct es_tensor_entry *entry, es_tensor_fill_fn fill,
                        void *arg, struct es_err *err);

#endif
