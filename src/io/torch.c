/* PyTorch's files.
 *
 * Zip (since 1.6): an archive whose entries begin with one folder name: folder/data.pkl, folder/data/KEY for every storage,
 * folder/byteorder ("little", since 2.1), folder/version.
 *
 * Plain (before, and _use_new_zipfile_serialization=False): five pickles one after the other (a magic number, the protocol 1001,
 * a dict about the machine, the object, the list of storage keys), then for every key in this order the number of elements as
 * 8 bytes and the elements. */
#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/tsv.h"
#include "tensorfile_impl.h"

#define MAX_PICKLE ((int64_t)64 << 20)

static int new_places(struct es_tensorfile *f, struct es_err *err) {
    f->n_places = f->pickle.n_storages;
    f->place = es_alloc((size_t)f->n_places, sizeof *f->place, err);
    return f->place ? 0 : -ES_EIO;
}

static int64_t storage_bytes(const struct es_tensorfile *f, int i) {
    const struct es_pickle_storage *s = &f->pickle.storage[i];
    return s->n * (int64_t)es_dtype_bytes(s->dtype); /* the pickle's reader keeps n small enough */
}

/* ---- zip */
static int find_pickle(const struct es_tensorfile *f, char folder[256], struct es_err *err) {
    static const char tail[] = "/data.pkl";
    for (int i = 0; i < zip_count(f->zip); i++) {
        const char *name = zip_name(f->zip, i), *slash = strchr(name, '/');
        if (!slash || strcmp(slash, tail) != 0 || slash - name > 255) continue;
        snprintf(folder, 256, "%.*s", (int)(slash - name), name);
        char code[300];
        snprintf(code, sizeof code, "%s/constants.pkl", folder);
        if (zip_find(f->zip, code) >= 0)
            return es_err_set(err, ES_EDATA, "%s: a TorchScript program; want torch.save of a state_dict",
                              f->in.path);
        return i;
    }
    return es_err_set(err, ES_EDATA, "%s: a zip archive without data.pkl, not written by torch.save",
                      f->in.path);
}

static int check_byte_order(struct es_tensorfile *f, const char *folder, struct es_err *err) {
    char name[300], order[8] = "";
    snprintf(name, sizeof name, "%s/byteorder", folder);
    int i = zip_find(f->zip, name);
    if (i < 0) return 0;
    int64_t n = zip_bytes(f->zip, i) < 7 ? zip_bytes(f->zip, i) : 7;
    ES_TRY(zip_read(f->zip, i, 0, n, order, err));
    if (strcmp(order, "little") == 0) return 0;
    return es_err_set(err, ES_EDATA, "%s: written by a big-endian machine; want little-endian numbers",
                      f->in.path);
}

static int place_entries(struct es_tensorfile *f, const char *folder, struct es_err *err) {
    char name[400];
    ES_TRY(new_places(f, err));
    for (int i = 0; i < f->n_places; i++) {
        snprintf(name, sizeof name, "%s/data/%.100s", folder, f->pickle.storage[i].key);
        int e = zip_find(f->zip, name);
        if (e < 0) return es_err_set(err, ES_EDATA, "%s: zip archive: no entry %s", f->in.path, name);
        if (zip_bytes(f->zip, e) != storage_bytes(f, i))
            return es_err_set(err, ES_EDATA, "%s: zip archive: entry %s: got %lld bytes, want %lld",
                              f->in.path, name, (long long)zip_bytes(f->zip, e),
                              (long long)storage_bytes(f, i));
        f->place[i] = (struct place){.entry = e, .bytes = zip_bytes(f->zip, e)};
    }
    return 0;
}

int torch_zip_open(struct es_tensorfile *f, struct es_err *err) {
    char folder[256];
    size_t used;
    ES_TRY(zip_open(&f->zip, &f->in, err));
    int i = find_pickle(f, folder, err);
    if (i < 0) return i;
    ES_TRY(check_byte_order(f, folder, err));
    int64_t n = zip_bytes(f->zip, i), most = ((int64_t)1 << 20) + 4 * f->in.n;
    if (n > (most < MAX_PICKLE ? most : MAX_PICKLE))
        return es_err_set(err, ES_EDATA, "%s: pickle of %lld bytes in a file of %lld", f->in.path,
                          (long long)n, (long long)f->in.n);
    uint8_t *bytes = es_alloc((size_t)n, 1, err);
    if (!bytes) return -ES_EIO;
    int rc = zip_read(f->zip, i, 0, n, bytes, err);
    if (rc == 0) rc = es_pickle_read(&f->pickle, bytes, (size_t)n, &used, &f->root, err);
    es_free(&bytes);
    return rc < 0 ? rc : place_entries(f, folder, err);
}

/* ---- plain */
static const uint8_t magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

/* Storages in the order of the list of keys, which is the fifth pickle. */
static int place_plain(struct es_tensorfile *f, const struct es_value *keys, int64_t at, struct es_err *err) {
    ES_TRY(new_places(f, err));
    for (int i = 0; i < f->n_places; i++) f->place[i].offset = -1;
    if (keys->kind != ES_VALUE_LIST) return es_err_set(err, ES_EDATA, "%s: no list of storages", f->in.path);
    for (uint32_t k = 0; k < keys->n; k++) {
        const struct es_value *key = keys->item[k];
        uint8_t count[8];
        int64_t i = key->kind == ES_VALUE_TEXT ? es_names_find(f->pickle.keys, key->text) : -1;
        if (i < 0 || f->place[i].offset >= 0)
            return es_err_set(err, ES_EDATA,
                              "%s: its list of storages has one that is unknown or given twice", f->in.path);
        ES_TRY(input_read(&f->in, at, 8, count, err));
        int64_t bytes = storage_bytes(f, (int)i);
        if (input_u(count, 8) != (uint64_t)f->pickle.storage[i].n || bytes > f->in.n - at - 8)
            return es_err_set(err, ES_EDATA, "%s: storage %.40s: the file is damaged or cut short",
                              f->in.path, key->text);
        f->place[i] = (struct place){.entry = -1, .offset = at + 8, .bytes = bytes};
        at += 8 + bytes;
    }
    for (int i = 0; i < f->n_places; i++)
        if (f->place[i].offset < 0)
            return es_err_set(err, ES_EDATA, "%s: storage %.40s is not in the file", f->in.path,
                              f->pickle.storage[i].key);
    return 0;
}

int torch_legacy_open(struct es_tensorfile *f, struct es_err *err) {
    struct es_value *ignored, *keys = NULL;
    int64_t window = (int64_t)1 << 20, most = f->in.n < MAX_PICKLE ? f->in.n : MAX_PICKLE;
    uint8_t *bytes = NULL;
    int rc = 0;
    /* where the pickles end is known only afterwards: read the beginning, and more of it while they do not fit */
    for (;; window *= 4) {
        int64_t n = window < most ? window : most;
        struct es_err why = {0};
        size_t at = 0, used = 0;
        es_free(&bytes);
        bytes = es_alloc((size_t)n, 1, err);
        if (!bytes) return -ES_EIO;
        ES_GO(input_read(&f->in, 0, n, bytes, err));
        if (n < 15 || memcmp(bytes + 2, magic, sizeof magic) != 0)
            ES_GO(es_err_set(err, ES_EDATA, "%s: a pickle, but not one of torch.save", f->in.path));
        at = 2 + sizeof magic;
        struct es_value **part[] = {&ignored, &ignored, &f->root,
                                    &keys}; /* protocol, machine, object, keys */
        rc = 0;
        for (int i = 0; i < 4 && rc == 0; i++) {
            rc = es_pickle_read(&f->pickle, bytes + at, (size_t)n - at, &used, part[i], &why);
            at += used;
        }
        if (rc == 0) {
            rc = place_plain(f, keys, (int64_t)at, err);
            break;
        }
        if (n == most || rc != -ES_EDATA) {
            if (err) *err = why;
            break;
        }
        es_pickle_free(&f->pickle); /* again, with more of the file */
        f->pickle = (struct es_pickle){.heap = f->heap, .name = f->in.path};
    }
done:
    es_free(&bytes);
    return rc;
}
