/* Preparing a store: tables -> files -> lengths -> splits and exclusions -> description -> samples. */
#include "earshot/prepare.h"

#include <stdio.h>
#include <string.h>

#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/resample.h"
#include "earshot/text.h"

#include "prepare_impl.h"

void es_prepare_params_default(struct es_prepare_params *p) {
    *p = (struct es_prepare_params){.weak_fraction = 0.9,
                                    .maestro_fraction = 0.9,
                                    .split_seed = 42,
                                    .overlap_exclude = true,
                                    .min_share = 0.5,
                                    .float32_times = true,
                                    .threads = 1,
                                    .max_local_samples = 100000000};
}

const char *prep_name(const struct prep *x, int source) {
    const struct es_prepare_source *s = &x->p->source[source];
    return s->name ? s->name : es_subset_name(s->subset);
}

int prep_problem(struct prep *x, int rc, struct es_err *err) {
    if (rc >= 0) return 0;
    if (rc != -ES_EDATA || x->p->strict) return rc;
    if (es_names_add(x->problem, err->msg, err) < 0) return -ES_EIO;
    es_err_clear(err);
    return 1;
}

static void prep_fini(struct prep *x) {
    prep_responses_close(x);
    es_free(&x->file);
    es_free(&x->mark);
    es_free(&x->event);
    es_free(&x->clip);
    es_free(&x->mid_label);
    es_names_free(&x->problem);
    es_names_free(&x->file_key);
    es_names_free(&x->mids);
    es_names_free(&x->classes);
    es_names_free(&x->text);
}

static int prep_init(struct prep *x, const struct es_comm *comm, const struct es_prepare_params *p,
                     struct es_err *err) {
    *x = (struct prep){.comm = comm, .p = p};
    ES_TRY(es_names_new(&x->text, err));
    ES_TRY(es_names_new(&x->classes, err));
    ES_TRY(es_names_new(&x->mids, err));
    ES_TRY(es_names_new(&x->problem, err));
    return es_names_new(&x->file_key, err);
}

/* ---- splits, and what stays */

static int split_weak(struct prep *x, struct es_err *err) {
    int64_t n = 0, at = 0;
    for (int64_t i = 0; i < x->n_clips; i++)
        n += x->clip[i].subset == ES_SUBSET_WEAK && x->clip[i].split == 0;
    int64_t *perm = es_alloc((size_t)n, sizeof *perm, err);
    uint8_t *split = es_alloc((size_t)n, sizeof *split, err);
    int rc = perm && split ? 0 : -ES_EIO;
    if (rc == 0) es_split_weak(n, x->p->weak_fraction, x->p->split_seed, perm, split);
    for (int64_t i = 0; rc == 0 && i < x->n_clips; i++)
        if (x->clip[i].subset == ES_SUBSET_WEAK && x->clip[i].split == 0) x->clip[i].split = split[at++];
    es_free(&split);
    es_free(&perm);
    return rc;
}

/* Clips whose file is missing or damaged, and windows that do not fit their recording, are left out. */
static int settle(struct prep *x, struct es_err *err) {
    for (int64_t i = 0; i < x->n_clips; i++) {
        struct prep_clip *c = &x->clip[i];
        int64_t first, n;
        if (c->out != ES_PREPARE_STAYS) continue;
        if (x->file[c->file].found == PREP_MISSING) c->out = ES_PREPARE_NO_AUDIO;
        if (x->file[c->file].found == PREP_DAMAGED) c->out = ES_PREPARE_BAD_AUDIO;
        if (c->out != ES_PREPARE_STAYS) continue;
        int rc = prep_problem(x, prep_window(x, c, &first, &n, err), err);
        if (rc < 0) return rc;
        if (rc > 0) c->out = ES_PREPARE_BAD_ROW;
    }
    return 0;
}

/* Is something sensible left of every set? */
static int check_sets(const struct prep *x, const struct es_prepare_report *r, struct es_err *err) {
    int64_t n_problems = es_names_count(x->problem);
    for (int s = 0; s < r->n_sets; s++) {
        const struct es_prepare_set *set = &r->set[s];
        const struct es_prepare_source *source = &x->p->source[s];
        const char *where = source->labels && source->labels[0] ? source->labels : source->audio;
        int64_t wanted = set->clips - set->out[ES_PREPARE_EMPTY], bad = set->out[ES_PREPARE_NO_AUDIO] +
                                                                        set->out[ES_PREPARE_BAD_AUDIO] +
                                                                        set->out[ES_PREPARE_BAD_ROW];
        char first[300] = "";
        if (n_problems > 0) snprintf(first, sizeof first, "; first problem: %s", es_names_get(x->problem, 0));
        if (set->out[ES_PREPARE_STAYS] == 0)
            return es_err_set(
                err, ES_EDATA,
                "%s: set %s: no clip is left of %lld (%lld without audio, %lld damaged, %lld with bad "
                "rows, %lld excluded)%s",
                where, set->name, (long long)set->clips, (long long)set->out[ES_PREPARE_NO_AUDIO],
                (long long)set->out[ES_PREPARE_BAD_AUDIO], (long long)set->out[ES_PREPARE_BAD_ROW],
                (long long)(set->out[ES_PREPARE_LISTED] + set->out[ES_PREPARE_OVERLAP]), first);
        if ((double)(wanted - bad) < x->p->min_share * (double)wanted)
            return es_err_set(
                err, ES_EDATA,
                "%s: set %s: %lld of %lld clips have sound audio and rows, want at least %g of them; a "
                "download that failed? (prepare.min_share)%s",
                where, set->name, (long long)(wanted - bad), (long long)wanted, x->p->min_share, first);
    }
    return 0;
}

/* ---- the description of the store */

struct built {
    struct es_store_desc desc;
    int64_t n;    /* clips kept */
    int64_t *row; /* of each clip in the store, -1: left out */
    const char **class_name, **clip_name, **recording;
    uint8_t *subset, *split, *weak;
    int64_t *reserved, *index;
    double *duration_s;
    struct es_event *event;
};

static void built_free(struct built *b) {
    es_free(&b->row);
    es_free(&b->class_name);
    es_free(&b->clip_name);
    es_free(&b->recording);
    es_free(&b->subset);
    es_free(&b->split);
    es_free(&b->weak);
    es_free(&b->reserved);
    es_free(&b->index);
    es_free(&b->duration_s);
    es_free(&b->event);
}

static int built_alloc(struct built *b, const struct prep *x, struct es_err *err) {
    size_t n = (size_t)b->n, k = (size_t)es_names_count(x->classes);
    bool ok = (b->class_name = es_alloc(k, sizeof *b->class_name, err)) != NULL;
    ok = ok && (b->clip_name = es_alloc(n, sizeof *b->clip_name, err)) != NULL;
    ok = ok && (b->recording = es_alloc(n, sizeof *b->recording, err)) != NULL;
    ok = ok && (b->subset = es_alloc(n, 1, err)) != NULL && (b->split = es_alloc(n, 1, err)) != NULL;
    ok = ok && (b->weak = es_alloc(n * k, 1, err)) != NULL;
    ok = ok && (b->reserved = es_alloc(n, sizeof *b->reserved, err)) != NULL;
    ok = ok && (b->duration_s = es_alloc(n, sizeof *b->duration_s, err)) != NULL;
    ok = ok && (b->index = es_alloc(n + 1, sizeof *b->index, err)) != NULL;
    ok = ok && (b->event = es_alloc((size_t)x->n_events, sizeof *b->event, err)) != NULL;
    return ok ? 0 : -ES_EIO;
}

/* Events of the clips that stay, clip by clip, in the order of the tables; AudioSet's are merged. */
static void build_events(struct built *b, const struct prep *x) {
    for (int64_t i = 0; i < x->n_events; i++)
        if (b->row[x->event[i].clip] >= 0) b->index[b->row[x->event[i].clip] + 1]++;
    for (int64_t r = 0; r < b->n; r++) b->index[r + 1] += b->index[r];
    for (int64_t i = 0; i < x->n_events; i++)
        if (b->row[x->event[i].clip] >= 0) b->event[b->index[b->row[x->event[i].clip]]++] = x->event[i].e;
    for (int64_t r = b->n; r > 0; r--) b->index[r] = b->index[r - 1];
    b->index[0] = 0;
    int64_t to = 0;
    for (int64_t r = 0; r < b->n; r++) {
        int64_t from = b->index[r], n = b->index[r + 1] - from;
        if (prep_is_audioset((enum es_subset)b->subset[r]))
            n = es_labels_merge(b->event + from, es_int_from_i64(n));
        memmove(b->event + to, b->event + from, (size_t)n * sizeof *b->event);
        b->index[r] = to;
        to += n;
    }
    b->index[b->n] = to;
}

/* Files that changed since an interrupted run are read again, all of them. */
static int inputs(const struct prep *x, uint64_t *digest, struct es_err *err) {
    struct es_hash *h = NULL;
    ES_TRY(es_hash_new(&h, err));
    for (int64_t i = 0; i < x->n_files; i++) es_hash_update(h, &x->file[i].stamp, sizeof x->file[i].stamp);
    prep_responses_digest(x, h);
    *digest = es_hash_value(h);
    es_hash_free(&h);
    return 0;
}

/* Rows in the order of the tables; of a set in two places (AudioSet), the clips of the first place come first. */
static void number_rows(struct built *b, const struct prep *x) {
    for (int64_t begin = 0, end; begin < x->n_clips; begin = end) {
        for (end = begin; end < x->n_clips && x->clip[end].source == x->clip[begin].source; end++)
            b->row[end] = -1;
        for (int place = 0; place < PREP_PLACES; place++)
            for (int64_t i = begin; i < end; i++)
                if (x->clip[i].out == ES_PREPARE_STAYS && x->file[x->clip[i].file].place == place)
                    b->row[i] = b->n++;
    }
}

static int build(struct built *b, const struct prep *x, struct es_err *err) {
    *b = (struct built){.row = es_alloc((size_t)x->n_clips, sizeof *b->row, err)};
    if (!b->row) return -ES_EIO;
    number_rows(b, x);
    ES_TRY(built_alloc(b, x, err));
    for (int64_t k = 0; k < es_names_count(x->classes); k++) b->class_name[k] = es_names_get(x->classes, k);
    for (int64_t i = 0; i < x->n_clips; i++) {
        const struct prep_clip *c = &x->clip[i];
        int64_t r = b->row[i], first, n;
        if (r < 0) continue;
        ES_TRY(prep_window(x, c, &first, &n, err));
        b->clip_name[r] = c->name;
        b->recording[r] = c->recording;
        b->subset[r] = c->subset;
        b->split[r] = c->split;
        b->reserved[r] = es_resample_length(n, x->file[c->file].rate_hz, ES_STORE_RATE_HZ);
        b->duration_s[r] = c->duration_s >= 0 ? c->duration_s : (double)n / x->file[c->file].rate_hz;
    }
    int64_t K = es_names_count(x->classes);
    for (int64_t i = 0; i < x->n_marks; i++)
        if (b->row[x->mark[i].clip] >= 0) b->weak[b->row[x->mark[i].clip] * K + x->mark[i].label] = 1;
    build_events(b, x);
    b->desc = (struct es_store_desc){.n_clips = b->n,
                                     .n_classes = es_int_from_i64(K),
                                     .class_name = b->class_name,
                                     .clip_name = b->clip_name,
                                     .recording = b->recording,
                                     .subset = b->subset,
                                     .split = b->split,
                                     .reserved = b->reserved,
                                     .duration_s = b->duration_s,
                                     .event_index = b->index,
                                     .event = b->event,
                                     .weak = b->weak};
    return inputs(x, &b->desc.inputs, err);
}

/* All ranks have read the same tables and folders? */
static int same_all(const struct es_comm *comm, const struct built *b, const struct es_prepare_params *p,
                    struct es_err *err) {
    struct es_hash *h = NULL;
    uint64_t mine = 0, first;
    int rc = es_hash_new(&h, err);
    if (rc == 0) {
        for (int64_t r = 0; r < b->n; r++) es_hash_string(h, b->clip_name[r]);
        es_hash_update(h, b->reserved, (size_t)b->n * sizeof *b->reserved);
        es_hash_update(h, b->split, (size_t)b->n);
        es_hash_update(h, b->event, (size_t)b->index[b->n] * sizeof *b->event);
        mine = es_hash_value(h);
    }
    es_hash_free(&h);
    first = mine;
    es_comm_bcast_all(comm, &first, sizeof first, 0);
    if (rc == 0 && first != mine)
        rc =
            es_err_set(err, ES_EDATA, "%s: the nodes do not see the same tables or folders of audio", p->out);
    return es_err_agree_all(comm, rc, err);
}

static int read_tables_all(struct prep *x, const struct es_comm *comm, const struct es_prepare_params *p,
                           struct es_err *err) {
    int rc = prep_init(x, comm, p, err);
    if (rc == 0) rc = prep_read_tables(x, err);
    return es_err_agree_all(comm, rc, err);
}

/* What the tables and the audio say, on every rank. */
static int decide(struct prep *x, struct es_prepare_report *r, struct es_err *err) {
    ES_TRY(prep_read_annotations(x, err));
    ES_TRY(split_weak(x, err));
    ES_TRY(prep_split_recordings(x, err));
    ES_TRY(settle(x, err));
    return prep_exclude(x, r, err);
}

static int describe(struct built *b, const struct prep *x, struct es_prepare_report *r, struct es_err *err) {
    prep_count(x, NULL, NULL, NULL, r);
    ES_TRY(check_sets(x, r, err));
    ES_TRY(build(b, x, err));
    prep_count(x, b->row, b->index, b->duration_s, r);
    return 0;
}

/* One pass over the audio. PREP_AGAIN: some of it was damaged. */
static int write_store_all(struct prep *x, struct es_prepare_report *r, uint64_t *digest,
                           struct es_err *err) {
    const struct es_prepare_params *p = x->p;
    struct built b = {0};
    struct es_store_writer *w = NULL;
    int rc;
    ES_GO(es_err_agree_all(x->comm, describe(&b, x, r, err), err));
    ES_GO(same_all(x->comm, &b, p, err));
    prep_log(x, r);
    rc = prep_write_left_out(x, err);
    if (rc == 0) rc = prep_write_exclude(x, err);
    ES_GO(es_err_agree_all(x->comm, rc, err));
    ES_GO(es_store_create_all(&w, x->comm, p->out, &b.desc, err));
    rc = prep_write_all(x, w, b.row, err);
    if (rc == PREP_AGAIN) { /* the part file goes away: it describes clips that do not exist */
        struct es_err again = {0};
        es_err_set(&again, ES_EDATA, "%s: written anew", p->out);
        es_store_commit_all(&w, -ES_EDATA, NULL, &again);
    } else {
        rc = es_store_commit_all(&w, rc, digest, err);
    }
done:
    built_free(&b);
    return rc;
}

void es_prepare_report_free(struct es_prepare_report *r) {
    es_names_free(&r->problem);
}

/* The problems go over to the report. */
static void end_report(struct prep *x, struct es_prepare_report *r) {
    r->problem = x->problem;
    x->problem = NULL;
    r->files = x->files_done;
    r->seconds = x->seconds;
    r->peak_rss_bytes = es_comm_max_all(x->comm, es_mem_peak_rss());
}

int es_prepare_all(const struct es_comm *comm, const struct es_prepare_params *p,
                   struct es_prepare_report *report, uint64_t *digest, struct es_err *err) {
    struct es_err own = {0};
    struct es_prepare_report unseen = {0}, *r = report ? report : &unseen;
    struct prep x;
    bool damaged;
    int rc;
    if (!err) err = &own;
    *r = (struct es_prepare_report){0};
    ES_GO(read_tables_all(&x, comm, p, err));
    ES_GO(prep_probe_all(&x, err));
    ES_GO(es_err_agree_all(comm, prep_responses_open(&x, err), err));
    ES_GO(es_err_agree_all(comm, decide(&x, r, err), err));
    prep_log_problems(&x, 0);
    do {
        int64_t known = es_names_count(x.problem);
        damaged = false;
        ES_GO(write_store_all(&x, r, digest, err));
        if (rc == PREP_AGAIN) {
            prep_log_problems(&x, known);
            es_log(ES_LOG_WARN,
                   "prepare: damaged files came to light: the store is written anew without them");
            ES_GO(es_err_agree_all(comm, settle(&x, err), err));
            damaged = true;
        }
    } while (damaged);
done:
    end_report(&x, r);
    if (!report) es_prepare_report_free(&unseen);
    prep_fini(&x);
    return rc;
}

int es_prepare_check_all(const struct es_comm *comm, const struct es_prepare_params *p,
                         struct es_prepare_report *report, int64_t *n_clips, struct es_err *err) {
    struct es_err own = {0};
    struct es_prepare_report unseen = {0}, *r = report ? report : &unseen;
    struct prep x;
    *r = (struct es_prepare_report){0};
    if (!err) err = &own;
    int rc = read_tables_all(&x, comm, p, err);
    if (rc == 0) {
        prep_log_problems(&x, 0);
        prep_count(&x, NULL, NULL, NULL, r);
        for (int s = 0; n_clips && s < r->n_sets; s++)
            *n_clips = (s ? *n_clips : 0) + r->set[s].out[ES_PREPARE_STAYS];
        for (int64_t f = 0; f < x.n_files; f++) { /* a recording stands for its windows */
            r->set[x.file[f].source].clips += x.file[f].annotated;
            r->set[x.file[f].source].out[ES_PREPARE_STAYS] += x.file[f].annotated;
        }
        rc = check_sets(&x, r, err);
        if (rc == 0) rc = es_err_agree_all(comm, prep_responses_open(&x, err), err);
    }
    end_report(&x, r);
    if (!report) es_prepare_report_free(&unseen);
    prep_fini(&x);
    return rc;
}
