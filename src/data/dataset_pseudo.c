/* Pseudo-labels of a dataset: which file serves which clip, and reading them (spec/training.md section 7). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"

#include "dataset_impl.h"

#define SHOWN 5
#define DIGEST_BYTES ((int64_t)4 << 30) /* of rows; of larger files every k-th row */

/* The files of the published pipeline; set -1: none that trains. external_strong_train holds the clips of external evaluation,
 * too: rows are asked for by training clips only (pitfall 35). */
static const struct {
    const char *stem;
    int set;
} published[] = {{"synth_train", ES_SET_S},
                 {"weak_train", ES_SET_W},
                 {"strong_train", ES_SET_R},
                 {"external_strong_train", ES_SET_R},
                 {"unlabeled_train", ES_SET_U},
                 {"maestro_real_train", ES_SET_M},
                 {"synth_val", -1},
                 {"weak_val", -1},
                 {"devtest", -1},
                 {"maestro_real_dev", -1},
                 {"eval_public", -1},
                 {"eval_private", -1}};

/* Whether clips of this set are looked up in a file. */
static bool serves(const char *path, int set) {
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t n = strcspn(name, ".");
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (strlen(published[i].stem) == n && strncmp(published[i].stem, name, n) == 0)
            return published[i].set == set;
    return true;
}

static const char *key(const struct es_dataset *d) {
    return d->p.pretrain ? "pretrain.pseudo" : "data.pseudo";
}

/* The row of a clip, -1: none. Upstream strips the characters of ".mp3" from the end of AudioSet names, whatever they belong to. */
static int64_t find(const struct es_predictions *p, const char *name, bool pretrain) {
    int64_t row = es_predictions_find(p, name);
    char other[256];
    if (row >= 0 || !pretrain || strlen(name) + 5 > sizeof other) return row;
    snprintf(other, sizeof other, "%s.mp3", name);
    row = es_predictions_find(p, other);
    size_t n = strlen(name);
    while (n > 0 && strchr(".mp3", name[n - 1])) n--;
    if (row >= 0 || n == 0 || n == strlen(name)) return row;
    other[n] = 0;
    return es_predictions_find(p, other);
}

static int check(const struct es_dataset *d, const struct es_predictions *p, const char *path,
                 struct es_err *err) {
    const char *const *own = es_store_classes(d->store[0]), *const *names = es_predictions_classes(p);
    if (es_predictions_n_frames(p) != d->p.n_frames || es_predictions_n_classes(p) != d->n_classes)
        return es_err_set(
            err, ES_EDATA, "%s:/strong_logits: %d frames x %d classes, want %d x %d; re-run earshot predict",
            path, es_predictions_n_frames(p), es_predictions_n_classes(p), d->p.n_frames, d->n_classes);
    for (int k = 0; names && k < d->n_classes; k++)
        if (strcmp(names[k], own[k]) != 0)
            return es_err_set(err, ES_EDATA, "%s:/classes: class %d is %s, want %s as in %s", path, k,
                              names[k], own[k], es_store_path(d->store[0]));
    return 0;
}

static void look_up(struct es_dataset *d, int file, const char *path) {
    for (int s = 0; s < ES_N_SETS; s++)
        for (int64_t i = 0; serves(path, s) && i < d->count[s]; i++) {
            struct clip *c = &d->clip[s][i];
            if (c->file >= 0) continue;
            c->row = find(d->pseudo[file], es_store_name(d->store[c->store], c->id), d->p.pretrain);
            if (c->row >= 0) c->file = file;
        }
}

static int check_missing(const struct es_dataset *d, struct es_err *err) {
    int64_t missing = 0, total = 0;
    char list[400] = "";
    for (int s = 0; s < ES_N_SETS; s++)
        for (int64_t i = 0; i < d->count[s]; i++) {
            const struct clip *c = &d->clip[s][i];
            total++;
            if (c->file >= 0) continue;
            size_t used = strlen(list);
            if (missing++ < SHOWN)
                snprintf(list + used, sizeof list - used, " %s", es_store_name(d->store[c->store], c->id));
        }
    if (missing == 0) return 0;
    return es_err_set(err, ES_EDATA, "%s: %lld of %lld clips have no pseudo-labels:%s%s; predict them first",
                      key(d), (long long)missing, (long long)total, list, missing > SHOWN ? " ..." : "");
}

int dataset_pseudo_open(struct es_dataset *d, struct es_err *err) {
    static const char *const extensions[] = {".h5", ".hdf5", ".hdf", NULL};
    struct es_names *files = NULL;
    int rc = 0;
    if (d->p.n_pseudo == 0) return 0;
    ES_GO(es_names_new(&files, err));
    for (int i = 0; i < d->p.n_pseudo; i++) {
        ES_GO(dataset_files(files, d->p.pseudo[i], extensions, 0, err));
        if (es_names_count(files) == 0)
            ES_GO(es_err_set(err, ES_EDATA, "%s: %s: no prediction files (h5, hdf5, hdf)", key(d),
                             d->p.pseudo[i]));
    }
    if (es_names_count(files) > ES_DATASET_PSEUDO)
        ES_GO(es_err_set(err, ES_EUSAGE, "%s: got %lld files, want at most %d", key(d),
                         (long long)es_names_count(files), ES_DATASET_PSEUDO));
    for (int f = 0; f < (int)es_names_count(files); f++) {
        const char *path = es_names_get(files, f);
        ES_GO(es_predictions_open(&d->pseudo[f], path, err));
        d->n_pseudo++;
        ES_GO(check(d, d->pseudo[f], path, err));
        look_up(d, f, path);
    }
    rc = check_missing(d, err);
done:
    es_names_free(&files);
    return rc;
}

void dataset_pseudo_close(struct es_dataset *d) {
    for (int f = 0; f < d->n_pseudo; f++) es_predictions_close(&d->pseudo[f]);
}

int dataset_pseudo_read(const struct es_dataset *d, const struct clip *c, float *q, struct es_err *err) {
    ES_TRY(es_predictions_read(d->pseudo[c->file], c->row, 1, q, err));
    for (int64_t k = 0; k < (int64_t)d->p.n_frames * d->n_classes; k++) q[k] = 1.0f / (1.0f + expf(-q[k]));
    return 0;
}

int dataset_pseudo_digest(const struct es_dataset *d, struct es_hash *h, struct es_err *err) {
    size_t row = (size_t)d->p.n_frames * (size_t)d->n_classes;
    int64_t total = 0, n = 0;
    if (d->n_pseudo == 0) return 0;
    float *q = es_alloc(row, sizeof *q, err);
    if (!q) return -ES_EIO;
    for (int s = 0; s < ES_N_SETS; s++) total += d->count[s];
    int64_t every = total * (int64_t)(row * sizeof *q) / DIGEST_BYTES + 1;
    int rc = 0;
    for (int s = 0; rc == 0 && s < ES_N_SETS; s++)
        for (int64_t i = 0; rc == 0 && i < d->count[s]; i++) {
            const struct clip *c = &d->clip[s][i];
            int64_t where[2] = {c->file, c->row};
            if (every > 1) es_hash_update(h, where, sizeof where);
            if (n++ % every != 0) continue;
            rc = dataset_pseudo_read(d, c, q, err);
            if (rc == 0) es_hash_update(h, q, row * sizeof *q);
        }
    es_free(&q);
    return rc;
}
