/* Checkpoints: loading, fallback to the previous one, meta data. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/ckpt.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/tsv.h"

#include "ckpt_impl.h"

static int read_meta(const struct es_h5 *f, struct es_ckpt_meta *m, struct es_err *err) {
    int64_t complete = 0;
    ES_TRY(es_h5_attr_get_i64(f, "/meta", "complete", &complete, err));
    if (complete != 1)
        return es_err_set(err, ES_EDATA, "%s: unfinished checkpoint (complete is %lld)", es_h5_path(f),
                          (long long)complete);
    ES_TRY(es_h5_attr_get_i64(f, "/meta", "step", &m->step, err));
    ES_TRY(es_h5_attr_get_i64(f, "/meta", "epoch", &m->epoch, err));
    ES_TRY(es_h5_attr_get_u64(f, "/meta", "seed", &m->seed, err));
    ES_TRY(es_h5_attr_get_u64(f, "/meta", "config_digest", &m->config_digest, err));
    ES_TRY(es_h5_attr_get_u64(f, "/meta", "store_digest", &m->store_digest, err));
    ES_TRY(es_h5_attr_get_u64(f, "/meta", "parameters_digest", &m->parameters_digest, err));
    ES_TRY(es_h5_attr_get_f64(f, "/meta", "best_metric", &m->best_metric, err));
    return es_h5_attr_get_text(f, "/", "commit", m->commit, sizeof m->commit, err);
}

int es_ckpt_read_meta(const char *path, struct es_ckpt_meta *meta, char **config, struct es_err *err) {
    struct es_h5 *f = NULL;
    struct es_h5_names text = {0};
    int rc;
    if (config) *config = NULL;
    ES_GO(es_h5_open(&f, path, "checkpoint", ES_CKPT_VERSION, err));
    ES_GO(read_meta(f, meta, err));
    if (config) {
        ES_GO(es_h5_read_strings(f, "/config", &text, err));
        *config = es_strdup(text.n ? text.name[0] : "", err);
        if (!*config) rc = -ES_EIO;
    }
done:
    es_h5_names_free(&text);
    es_h5_close(&f);
    return rc;
}

/* ---- is it this model's? */

struct problems {
    int n;
    char text[700];
};

static void problem(struct problems *p, const char *what, const char *group, const char *name,
                    const char *detail) {
    size_t at = strlen(p->text);
    if (p->n++ < 5)
        snprintf(p->text + at, sizeof p->text - at, "%s%s %s/%s%s", at ? "; " : "", what, group, name,
                 detail);
}

static void shape_text(enum es_h5_type type, int ndim, const int64_t *dim, char out[96]) {
    int at = snprintf(out, 96, "%s[", es_h5_type_name(type));
    for (int i = 0; i < ndim && at < 80; i++)
        at += snprintf(out + at, (size_t)(96 - at), i ? ",%lld" : "%lld", (long long)dim[i]);
    snprintf(out + at, (size_t)(96 - at), "]");
}

static int compare_group(const struct es_h5 *f, const char *group, const struct es_ckpt_array *a, int n,
                         struct problems *p, struct es_err *err) {
    struct es_names *known = NULL;
    struct es_h5_names have = {0};
    char path[512];
    int rc = es_names_new(&known, err);
    for (int i = 0; i < n && rc == 0; i++) {
        struct es_h5_info info;
        snprintf(path, sizeof path, "%s/%s", group, a[i].name);
        if (es_names_add(known, a[i].name, err) < 0) ES_GO(-ES_EIO);
        if (!es_h5_has(f, path)) {
            problem(p, "missing", group, a[i].name, "");
            continue;
        }
        ES_GO(es_h5_info(f, path, &info, err));
        bool same = info.type == a[i].type && info.ndim == a[i].ndim;
        for (int d = 0; same && d < info.ndim; d++) same = info.dim[d] == a[i].dim[d];
        if (!same) {
            char got[96], want[96], detail[220];
            shape_text(info.type, info.ndim, info.dim, got);
            shape_text(a[i].type, a[i].ndim, a[i].dim, want);
            snprintf(detail, sizeof detail, " (%s, model has %s)", got, want);
            problem(p, "shape of", group, a[i].name, detail);
        }
    }
    if (rc < 0) goto done;
    if (es_h5_has(f, group)) ES_GO(es_h5_list(f, group, false, &have, err));
    for (int64_t i = 0; i < have.n; i++)
        if (es_names_find(known, have.name[i]) < 0) problem(p, "unknown", group, have.name[i], "");
done:
    es_h5_names_free(&have);
    es_names_free(&known);
    return rc;
}

static int compare_adam(const struct es_h5 *f, const struct es_ckpt_state *s, struct problems *p,
                        struct es_err *err) {
    struct es_h5_names name = {0};
    void *block = NULL;
    struct es_h5_info info;
    int rc;
    ES_GO(es_h5_read_strings(f, "/adam/index/name", &name, err));
    ES_GO(es_h5_read_new(f, "/adam/index/n", ES_H5_I64, &block, &info, err));
    const int64_t *count = block;
    if (info.n != name.n)
        ES_GO(es_err_set(err, ES_EDATA, "%s:/adam/index: columns of different length", es_h5_path(f)));
    for (int i = 0; i < s->n_params && i < name.n; i++)
        if (strcmp(name.name[i], s->param[i].name) != 0 || count[i] != s->param[i].n) {
            char detail[300];
            snprintf(detail, sizeof detail, " [%lld] (model has %.100s [%lld] there)", (long long)count[i],
                     s->param[i].name, (long long)s->param[i].n);
            problem(p, "moments of", "/adam", name.name[i], detail);
        }
    if (name.n != s->n_params) {
        char detail[100];
        snprintf(detail, sizeof detail, " (%lld trainable parameters, model has %d)", (long long)name.n,
                 s->n_params);
        problem(p, "length of", "/adam", "index", detail);
    }
done:
    es_free(&block);
    es_h5_names_free(&name);
    return rc;
}

/* *other: the file is fine but belongs to another model. */
static int compare(const struct es_h5 *f, int parts, const struct es_ckpt_state *s, bool *other,
                   struct es_err *err) {
    struct problems p = {0};
    if (parts & ES_CKPT_STUDENT) ES_TRY(compare_group(f, "/student", s->student, s->n_student, &p, err));
    if (parts & ES_CKPT_TEACHER) ES_TRY(compare_group(f, "/teacher", s->teacher, s->n_teacher, &p, err));
    if (parts & ES_CKPT_ADAM) ES_TRY(compare_adam(f, s, &p, err));
    *other = p.n > 0;
    if (p.n == 0) return 0;
    return es_err_set(err, ES_EDATA, "%s: checkpoint of another model: %s%s", es_h5_path(f), p.text,
                      p.n > 5 ? "; and more" : "");
}

/* ---- contents */

static int damaged(const struct es_h5 *f, const char *name, struct es_err *err) {
    return es_err_set(err, ES_EDATA,
                      "%s:%s: damaged: the content does not have the digest it was written with",
                      es_h5_path(f), name);
}

static int read_arrays(const struct es_h5 *f, const char *group, const struct es_ckpt_array *a, int n,
                       struct es_err *err) {
    char path[512];
    for (int i = 0; i < n; i++) {
        uint64_t want;
        snprintf(path, sizeof path, "%s/%s", group, a[i].name);
        ES_TRY(es_h5_attr_get_u64(f, path, "digest", &want, err));
        ES_TRY(es_h5_read(f, path, a[i].type, ckpt_elements(&a[i]), a[i].data, err));
        if (ckpt_digest_array(&a[i]) != want) return damaged(f, path, err);
    }
    return 0;
}

static void share_arrays(const struct es_comm *comm, const struct es_ckpt_array *a, int n) {
    for (int i = 0; i < n; i++)
        es_comm_bcast_all(comm, a[i].data, (size_t)ckpt_elements(&a[i]) * es_h5_type_bytes(a[i].type), 0);
}

/* This rank's part of a moment; *digest its share of the digest. */
static int read_moment(const struct es_h5 *f, const struct es_ckpt_state *s, const struct ckpt_plan *plan,
                       bool second, uint64_t *digest, struct es_err *err) {
    const char *name = second ? "/adam/v" : "/adam/m";
    *digest = 0;
    for (int64_t piece = 0, skip = 0; piece < plan->n_pieces;) {
        struct ckpt_batch b = ckpt_batch_at(plan, piece, skip);
        ES_TRY(es_h5_read_rows(f, name, ES_H5_F32, b.file, b.n, plan->buffer, err));
        *digest += ckpt_digest_words(plan->buffer, b.file, b.n);
        ckpt_batch_copy(s, plan, &b, second, true);
        piece = b.next_piece;
        skip = b.next_skip;
    }
    return 0;
}

static int load_adam_all(const struct es_comm *comm, const struct es_h5 *f, const struct es_ckpt_state *s,
                         struct es_err *err) {
    struct ckpt_plan plan = {0};
    uint64_t mine = 0, want = 0, *all = es_alloc((size_t)es_comm_size(comm), sizeof *all, err);
    int rc = ckpt_plan_new(s, &plan, err);
    if (!all) rc = -ES_EIO;
    ES_GO(es_err_agree_all(comm, rc, err));
    for (int second = 0; second < 2; second++) {
        const char *name = second ? "/adam/v" : "/adam/m";
        rc = read_moment(f, s, &plan, second, &mine, err);
        if (rc == 0) rc = es_h5_attr_get_u64(f, name, "digest", &want, err);
        ES_GO(es_err_agree_all(comm, rc, err));
        rc = ckpt_sum_all(comm, mine, all) == want ? 0 : damaged(f, name, err);
        ES_GO(es_err_agree_all(comm, rc, err));
    }
done:
    ckpt_plan_free(&plan);
    es_free(&all);
    return rc;
}

static int load_all(const struct es_comm *comm, const char *path, int parts, const struct es_ckpt_state *s,
                    struct es_ckpt_meta *meta, bool *other, struct es_err *err) {
    struct es_h5 *f = NULL;
    struct es_ckpt_meta own;
    *other = false;
    if (!meta) meta = &own;
    int rc = es_h5_open(&f, path, "checkpoint", ES_CKPT_VERSION, err);
    if (rc == 0) rc = read_meta(f, meta, err);
    if (rc == 0) rc = compare(f, parts, s, other, err);
    *other = es_comm_max_all(comm, *other) > 0;
    ES_GO(es_err_agree_all(comm, rc, err));
    if (es_comm_rank(comm) == 0) {
        if (parts & ES_CKPT_STUDENT) rc = read_arrays(f, "/student", s->student, s->n_student, err);
        if (rc == 0 && (parts & ES_CKPT_TEACHER))
            rc = read_arrays(f, "/teacher", s->teacher, s->n_teacher, err);
    }
    ES_GO(es_err_agree_all(comm, rc, err));
    if (parts & ES_CKPT_STUDENT) share_arrays(comm, s->student, s->n_student);
    if (parts & ES_CKPT_TEACHER) share_arrays(comm, s->teacher, s->n_teacher);
    if (parts & ES_CKPT_ADAM) ES_GO(load_adam_all(comm, f, s, err));
done:
    es_h5_close(&f);
    return rc;
}

int es_ckpt_load_all(const struct es_comm *comm, const char *path, int parts, const struct es_ckpt_state *s,
                     struct es_ckpt_meta *meta, struct es_err *err) {
    struct es_err own = {0};
    bool other;
    return load_all(comm, path, parts, s, meta, &other, err ? err : &own);
}

/* Rank 0 looks: all ranks take the same way, whatever their nodes' caches say. */
static bool exists_all(const struct es_comm *comm, const char *path) {
    int64_t there = es_comm_rank(comm) == 0 && access(path, F_OK) == 0;
    es_comm_bcast_all(comm, &there, sizeof there, 0);
    return there;
}

static void set_aside(const struct es_comm *comm, const char *path) {
    char bad[PATH_MAX];
    snprintf(bad, sizeof bad, "%s.bad", path);
    if (es_comm_rank(comm) == 0) rename(path, bad);
}

int es_ckpt_resume_all(const struct es_comm *comm, const char *dir, const struct es_ckpt_state *s,
                       struct es_ckpt_meta *meta, struct es_err *err) {
    char last[PATH_MAX], prev[PATH_MAX];
    struct es_err own = {0};
    bool other = false, tried = false;
    int rc = 0;
    if (!err) err = &own;
    snprintf(last, sizeof last, "%s/" ES_CKPT_LAST, dir);
    snprintf(prev, sizeof prev, "%s/" ES_CKPT_PREV, dir);
    if (exists_all(comm, last)) {
        tried = true;
        rc = load_all(comm, last, ES_CKPT_ALL, s, meta, &other, err);
        if (rc == 0) return 1;
        if (rc != -ES_EDATA || other) return rc;
    }
    if (!exists_all(comm, prev)) return tried ? rc : 0;
    if (tried)
        es_log(ES_LOG_WARN, "%s; going back to %s", err->msg, prev);
    else
        es_log(ES_LOG_WARN, "%s is missing; going back to %s", last, prev);
    ES_TRY(load_all(comm, prev, ES_CKPT_ALL, s, meta, &other, err));
    if (tried) set_aside(comm, last);
    es_err_clear(err);
    return 1;
}
