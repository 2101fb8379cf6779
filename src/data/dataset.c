#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/audio.h"
#include "earshot/augment.h"
#include "earshot/mem.h"
#include "earshot/resample.h"
#include "earshot/stage.h"
#include "earshot/rng.h"

#include "dataset_impl.h"

#define MAX_EVENTS 512

static int set_of(const struct es_dataset *d, enum es_subset subset, int split) {
    if (split != 0) return -1;
    if (d->p.pretrain) return subset == ES_SUBSET_AS_TRAIN ? 0 : -1;
    switch (subset) {
    case ES_SUBSET_MAESTRO:
        return ES_SET_M;
    case ES_SUBSET_STRONG_REAL:
        return ES_SET_R;
    case ES_SUBSET_SYNTH:
        return ES_SET_S;
    case ES_SUBSET_WEAK:
        return ES_SET_W;
    case ES_SUBSET_UNLABELED:
        return ES_SET_U;
    default:
        return -1;
    }
}

/* Cuts the extension of an audio file; a time in a clip's name (..._10.000) is none. */
static void cut_extension(char *name) {
    static const char *const extension[] = {".wav", ".flac", ".mp3", ".ogg"};
    char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof extension / sizeof *extension; i++)
        if (strcmp(dot, extension[i]) == 0) *dot = 0;
}

/* Clip names of the exclusion lists. */
static int read_excluded(struct es_dataset *d, struct es_err *err) {
    static const char *const columns[1] = {"filename"};
    ES_TRY(es_names_new(&d->excluded, err));
    for (int f = 0; f < d->p.n_exclude; f++) {
        struct es_tsv *t = NULL;
        ES_TRY(es_tsv_open(&t, d->p.exclude[f], columns, 1, 0, err));
        int rc = 0;
        for (int64_t r = 0; rc == 0 && r < es_tsv_rows(t); r++) {
            char name[256];
            snprintf(name, sizeof name, "%s", es_tsv_text(t, r, 0));
            cut_extension(name);
            if (es_names_add(d->excluded, name, err) < 0) rc = -ES_EIO;
        }
        es_tsv_close(&t);
        if (rc < 0) return rc;
    }
    return 0;
}

static int list_clips(struct es_dataset *d, struct es_err *err) {
    for (int pass = 0; pass < 2; pass++) {
        int64_t n[ES_N_SETS] = {0};
        for (int s = 0; s < d->n_stores; s++)
            for (int64_t i = 0; i < es_store_n_clips(d->store[s]); i++) {
                int set = set_of(d, es_store_subset(d->store[s], i), es_store_split(d->store[s], i));
                if (set < 0 || es_names_find(d->excluded, es_store_name(d->store[s], i)) >= 0) continue;
                if (pass == 1) d->clip[set][n[set]] = (struct clip){s, i, -1, -1};
                n[set]++;
            }
        memcpy(d->count, n, sizeof n);
        for (int set = 0; pass == 0 && set < ES_N_SETS; set++) {
            d->clip[set] = es_alloc((size_t)n[set], sizeof(struct clip), err);
            if (!d->clip[set]) return -ES_EIO;
        }
    }
    return 0;
}

/* At the rate of the stores. */
static int load_responses(struct es_dataset *d, struct es_err *err) {
    int64_t longest = 0;
    if (d->p.n_dir == 0) return 0;
    int rc = responses_read(&d->response, &d->n_responses, "augment.dir_files", d->p.dir, d->p.n_dir, err);
    for (int i = 0; rc == 0 && i < d->n_responses; i++) {
        struct response h, *r = &d->response[i];
        rc = response_resample(r, ES_STORE_RATE_HZ, &h, err);
        if (rc < 0) break;
        es_free(&r->x);
        *r = h;
        if (h.n > longest) longest = h.n;
    }
    return rc == 0 ? es_convolve_new(&d->convolve, ES_DATASET_SAMPLES, longest, err) : rc;
}

static int open_local(struct es_dataset *d, struct es_err *err) {
    struct es_hash *h = NULL;
    d->n_classes = es_store_n_classes(d->store[0]);
    for (int s = 1; s < d->n_stores; s++)
        for (int k = 0; k < d->n_classes || k < es_store_n_classes(d->store[s]); k++)
            if (es_store_n_classes(d->store[s]) != d->n_classes ||
                strcmp(es_store_classes(d->store[s])[k], es_store_classes(d->store[0])[k]) != 0)
                return es_err_set(err, ES_EDATA,
                                  "%s: /classes differ from those of %s; prepare both with one class list",
                                  es_store_path(d->store[s]), es_store_path(d->store[0]));
    if (!d->p.pretrain && d->n_classes != ES_N_CLASSES)
        return es_err_set(err, ES_EDATA, "%s: /classes: got %d classes, want the %d of DCASE 2024 task 4",
                          es_store_path(d->store[0]), d->n_classes, ES_N_CLASSES);
    d->grid = d->p.pretrain ? es_grid_audioset : es_grid_task4;
    if (d->grid.n_frames != d->p.n_frames)
        return es_err_set(err, ES_EUSAGE, "%s: got %d, want %d",
                          d->p.pretrain ? "pretrain.frames" : "model.n_frames", d->p.n_frames,
                          d->grid.n_frames);
    ES_TRY(read_excluded(d, err));
    ES_TRY(list_clips(d, err));
    ES_TRY(dataset_pseudo_open(d, err));
    ES_TRY(load_responses(d, err));
    ES_TRY(es_hash_new(&h, err));
    for (int s = 0; s < d->n_stores; s++) {
        uint64_t v = es_store_digest(d->store[s]);
        es_hash_update(h, &v, sizeof v);
    }
    es_hash_update(h, d->count, sizeof d->count);
    for (int64_t i = 0; i < es_names_count(d->excluded); i++) es_hash_string(h, es_names_get(d->excluded, i));
    int rc = dataset_pseudo_digest(d, h, err);
    for (int i = 0; i < d->n_responses; i++)
        es_hash_update(h, d->response[i].x, (size_t)d->response[i].n * sizeof(float));
    d->digest = es_hash_value(h);
    es_hash_free(&h);
    return rc;
}

int es_dataset_open_all(struct es_dataset **d, const struct es_comm *c, const struct es_dataset_params *p,
                        struct es_err *err) {
    int rc = 0;
    *d = es_alloc(1, sizeof **d, err);
    ES_GO(es_err_agree_all(c, *d ? 0 : -ES_EIO, err));
    (*d)->p = *p;
    if (p->n_stores < 1 || p->n_stores > MAX_STORES) {
        rc = es_err_set(err, ES_EUSAGE, "data.stores: got %d stores, want 1..%d", p->n_stores, MAX_STORES);
        goto done;
    }
    for (int s = 0; s < p->n_stores; s++) {
        ES_GO(es_stage_open_all(&(*d)->store[s], c, p->store[s], p->stage_dir, err));
        (*d)->n_stores++;
    }
    ES_GO(es_err_agree_all(c, open_local(*d, err), err));
done:
    if (rc < 0) es_dataset_close(d);
    return rc;
}

void es_dataset_close(struct es_dataset **d) {
    if (!*d) return;
    for (int s = 0; s < (*d)->n_stores; s++) es_store_close(&(*d)->store[s]);
    for (int s = 0; s < ES_N_SETS; s++) es_free(&(*d)->clip[s]);
    es_convolve_free(&(*d)->convolve);
    responses_free(&(*d)->response, (*d)->n_responses);
    es_names_free(&(*d)->excluded);
    dataset_pseudo_close(*d);
    es_free(&(*d)->weight);
    es_free(d);
}

const int64_t *es_dataset_counts(const struct es_dataset *d) {
    return d->count;
}
const char *es_dataset_name(const struct es_dataset *d, int set, int64_t i) {
    ES_ASSERT(set >= 0 && set < ES_N_SETS && i >= 0 && i < d->count[set]);
    return es_store_name(d->store[d->clip[set][i].store], d->clip[set][i].id);
}
int es_dataset_classes(const struct es_dataset *d) {
    return d->n_classes;
}
int es_dataset_responses(const struct es_dataset *d) {
    return d->n_responses;
}
const char *const *es_dataset_class_names(const struct es_dataset *d) {
    return es_store_classes(d->store[0]);
}
int es_dataset_frames(const struct es_dataset *d) {
    return d->p.n_frames;
}
bool es_dataset_has_pseudo(const struct es_dataset *d) {
    return d->p.n_pseudo > 0;
}
uint64_t es_dataset_digest(const struct es_dataset *d) {
    return d->digest;
}

size_t es_dataset_convolve_floats(const struct es_dataset *d) {
    return d->convolve ? es_convolve_scratch(d->convolve) : 0;
}

bool es_dataset_threaded(const struct es_dataset *d) {
    for (int s = 0; s < d->n_stores; s++)
        if (!es_store_is_direct(d->store[s])) return false;
    for (int f = 0; f < d->n_pseudo; f++)
        if (!es_predictions_is_direct(d->pseudo[f])) return false;
    return true;
}

/* ---- one leaf */

/* The split whose rules a training clip's labels follow: without aliases a DESED clip is one to validate on. */
static int label_split(const struct es_dataset *d, const struct clip *c) {
    const struct es_store *s = d->store[c->store];
    return d->p.no_desed_alias && es_store_subset(s, c->id) != ES_SUBSET_MAESTRO ? 1
                                                                                 : es_store_split(s, c->id);
}

/* One clip: 10 s of samples (cut at a drawn place when it is longer, silence behind when shorter) and its events. */
static int read_clip(struct es_dataset *d, const struct clip *c, struct es_rng *r, float *wave, int16_t *pcm,
                     struct es_event *events, int *n_events, struct es_err *err) {
    const struct es_store *s = d->store[c->store];
    int64_t length = es_store_length(s, c->id), spare = length - ES_DATASET_SAMPLES;
    int64_t drawn = spare > 0 ? (int64_t)es_rng_below(r, (uint64_t)(spare + 1)) : 0;
    struct es_label_window w = es_labels_window(length, ES_DATASET_SAMPLES, ES_STORE_RATE_HZ, drawn);
    ES_TRY(es_store_read_pcm(s, c->id, w.start, w.n, pcm, err));
    es_pcm_to_float(pcm, w.n, wave);
    memset(wave + w.n, 0, (size_t)(ES_DATASET_SAMPLES - w.n) * sizeof(float));
    int n_in;
    const struct es_event *in = es_store_events(s, c->id, &n_in);
    if (n_in > MAX_EVENTS / 2)
        return es_err_set(err, ES_EDATA, "%s: clip %s has %d events, want at most %d", es_store_path(s),
                          es_store_name(s, c->id), n_in, MAX_EVENTS / 2);
    enum es_subset subset = es_store_subset(s, c->id);
    int n_all = es_labels_alias(subset, label_split(d, c), in, n_in, events);
    double onset_s =
        d->p.pretrain ? 0.0 : w.onset_s; /* QUIRK: AudioSet's labels stay where they are (1.11) */
    *n_events = es_labels_process(events, n_all, onset_s, d->grid.clip_s, events);
    return 0;
}

struct item { /* where one clip's data go; scratch: T x K floats for pseudo-labels */
    float *wave, *labels, *pseudo, *scratch;
};

static int read_item(struct es_dataset *d, const struct clip *c, struct es_rng *r, struct item *out,
                     int16_t *pcm, struct es_err *err) {
    struct es_event events[MAX_EVENTS];
    int n_events = 0, K = d->n_classes, T = d->p.n_frames;
    ES_TRY(read_clip(d, c, r, out->wave, pcm, events, &n_events, err));
    int64_t stride_t = d->p.pretrain ? K : 1, stride_k = d->p.pretrain ? 1 : T;
    es_labels_encode(events, n_events, &d->grid, K, out->labels, stride_t, stride_k);
    if (out->pseudo && c->file >= 0) {
        const float *q = out->scratch;
        ES_TRY(dataset_pseudo_read(d, c, out->scratch, err));
        for (int t = 0; t < T; t++)
            for (int k = 0; k < K; k++) out->pseudo[t * stride_t + k * stride_k] = q[(int64_t)t * K + k];
    }
    return 0;
}

int es_dataset_read_leaf(struct es_dataset *d, int64_t step, const struct es_leaf_plan *plan,
                         struct es_dataset_leaf *out, struct es_err *err) {
    int K = d->n_classes;
    int64_t row = (int64_t)K * d->p.n_frames;
    for (int set = 0; set < ES_N_SETS; set++)
        for (int i = plan->first[set]; i < plan->first[set + 1]; i++) {
            const struct clip *c = &d->clip[set][plan->clip[i]];
            struct es_rng r =
                es_rng_make(d->p.seed, ES_RNG_AUGMENT, (uint32_t)step, (uint32_t)plan->leaf, (uint32_t)i);
            float *q = out->scratch + ES_DATASET_SAMPLES + 2 * row;
            struct item x = {out->wave + (int64_t)i * ES_DATASET_SAMPLES, out->labels + i * row,
                             out->pseudo ? out->pseudo + i * row : NULL, q};
            ES_TRY(read_item(d, c, &r, &x, out->pcm, err));
            if (plan->partner[i] >= 0) { /* wavmix: spec/training.md 3.2 */
                float *scratch = out->scratch;
                struct item y = {scratch, scratch + ES_DATASET_SAMPLES,
                                 x.pseudo ? scratch + ES_DATASET_SAMPLES + row : NULL, q};
                ES_TRY(read_item(d, &d->clip[set][plan->partner[i]], &r, &y, out->pcm, err));
                es_augment_wavmix(x.wave, y.wave, ES_DATASET_SAMPLES, plan->weight[i]);
                es_augment_blend(x.labels, y.labels, row, plan->weight[i]);
                if (x.pseudo) es_augment_blend(x.pseudo, y.pseudo, row, plan->weight[i]);
            }
            if (d->n_responses > 0 && plan->dir[i] >= 0) {
                const struct response *h = &d->response[plan->dir[i]];
                es_convolve_run(d->convolve, x.wave, h->x, h->n, es_augment_dir_offset(h->n), x.wave,
                                out->convolve);
            }
            if (plan->gain_db[i] != 0) es_augment_gain(x.wave, ES_DATASET_SAMPLES, plan->gain_db[i]);
            if (d->p.pretrain) continue;
            const struct es_store *s = d->store[c->store];
            uint32_t mask = es_labels_mask(es_store_subset(s, c->id), label_split(d, c));
            for (int k = 0; k < K; k++) out->mask[i * K + k] = (mask >> k) & 1;
            uint8_t weak[ES_N_CLASSES] = {0};
            if (set == ES_SET_W) {
                memcpy(weak, es_store_weak(s, c->id), (size_t)K);
                es_labels_alias_weak(ES_SUBSET_WEAK, label_split(d, c), weak);
            }
            for (int k = 0; k < K; k++) out->weak[i * K + k] = (float)weak[k];
        }
    return 0;
}
