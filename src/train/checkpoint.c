#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/ckpt.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/model.h"
#include "earshot/weights.h"
#include "run_files.h"

int train_open_log(const char *dir, struct es_err *err) {
    char path[600];
    snprintf(path, sizeof path, "%s/log.txt", dir);
    return es_log_open(path, err);
}

int train_write_config(const char *dir, const struct es_config *cfg, struct es_err *err) {
    char path[600];
    snprintf(path, sizeof path, "%s/config.yaml", dir);
    return es_config_write_yaml(cfg, path, err);
}

/* ---- the trainer's state as the lists that ckpt.h wants */
struct lists {
    struct es_ckpt_array *student, *teacher;
    struct es_ckpt_param *param;
    struct es_ckpt_segment *segment;
    struct es_ckpt_state state;
};

static void lists_free(struct lists *l) {
    es_free(&l->segment);
    es_free(&l->param);
    es_free(&l->teacher);
    es_free(&l->student);
}

static struct es_ckpt_array *arrays(struct es_params *p, struct es_err *err) {
    struct es_ckpt_array *a = es_alloc((size_t)es_params_count(p), sizeof *a, err);
    for (int i = 0; a && i < es_params_count(p); i++) {
        const struct es_param *e = es_params_at(p, i);
        a[i] = (struct es_ckpt_array){
            .name = e->name, .type = ES_H5_F32, .ndim = e->ndim, .data = es_params_data(p, i)};
        for (int d = 0; d < e->ndim; d++) a[i].dim[d] = e->shape[d];
    }
    return a;
}

static int lists_new(struct lists *l, struct es_trainer *t, struct es_err *err) {
    struct es_params *student = es_trainer_student(t), *teacher = es_trainer_teacher(t);
    struct es_reducer *r = es_trainer_reducer(t);
    int n = es_params_count(student), n_segments = es_reducer_n_segments(r), n_params = 0;
    *l = (struct lists){0};
    l->student = arrays(student, err);
    if (teacher) l->teacher = arrays(teacher, err);
    l->param = es_alloc((size_t)n, sizeof *l->param, err);
    l->segment = es_alloc((size_t)n_segments, sizeof *l->segment, err);
    if (!l->student || (teacher && !l->teacher) || !l->param || !l->segment) {
        lists_free(l);
        return -ES_EIO;
    }
    for (int i = 0; i < n; i++) {
        const struct es_param *e = es_params_at(student, i);
        if (e->trainable) l->param[n_params++] = (struct es_ckpt_param){e->name, e->n, e->offset};
    }
    for (int s = 0; s < n_segments; s++) {
        struct es_segment seg = es_reducer_segment(r, s);
        l->segment[s] = (struct es_ckpt_segment){seg.offset, seg.n, es_optim_m(es_trainer_optim(t), s),
                                                 es_optim_v(es_trainer_optim(t), s)};
    }
    l->state = (struct es_ckpt_state){n,          teacher ? n : 0, n_params, n_segments,
                                      l->student, l->teacher,      l->param, l->segment};
    return 0;
}

/* w NULL: at once; else in the background. */
static int save(const struct es_comm *c, struct es_ckpt_writer *w, struct es_trainer *t,
                const struct train_state *s, const char *dir, const char *name, struct es_err *err) {
    struct lists l;
    char *text = NULL, path[700], prev[700];
    struct es_ckpt_meta meta = {.step = s->step,
                                .seed = s->seed,
                                .config_digest = es_config_digest(s->config),
                                .store_digest = s->store_digest,
                                .parameters_digest = es_params_digest(es_trainer_student(t)),
                                .best_metric = s->best,
                                .n_classes = s->n_classes,
                                .class_name = s->class_name};
    int rc = lists_new(&l, t, err);
    if (rc == 0) rc = es_config_to_yaml(s->config, &text, err);
    ES_GO(es_err_agree_all(c, rc, err));
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(prev, sizeof prev, "%s/%s", dir, ES_CKPT_PREV);
    const char *keep = strcmp(name, ES_CKPT_LAST) == 0 ? prev : NULL;
    rc = w ? es_ckpt_begin_all(w, c, path, keep, &l.state, &meta, text, err)
           : es_ckpt_save_all(c, path, keep, &l.state, &meta, text, err);
    if (rc == 0 && !w) es_log(ES_LOG_INFO, "checkpoint %s step=%lld", name, (long long)s->step);
done:
    es_free(&text);
    lists_free(&l);
    return rc;
}

int train_save_all(const struct es_comm *c, struct es_trainer *t, const struct train_state *s,
                   const char *dir, const char *name, struct es_err *err) {
    return save(c, NULL, t, s, dir, name, err);
}

int train_save_begin_all(const struct es_comm *c, struct es_ckpt_writer *w, struct es_trainer *t,
                         const struct train_state *s, const char *dir, const char *name, struct es_err *err) {
    return save(c, w, t, s, dir, name, err);
}

/* Same configuration and data as those the checkpoint was written with? */
static int check_config(const char *path, const struct train_state *s, const struct es_ckpt_meta *meta,
                        struct es_err *err) {
    struct es_config *old = NULL;
    struct es_ckpt_meta again;
    char *text = NULL, names[400];
    int rc = 0;
    if (meta->config_digest != es_config_digest(s->config)) {
        ES_GO(es_ckpt_read_meta(path, &again, &text, err));
        ES_GO(es_config_new(&old, err));
        ES_GO(es_config_load_text(old, path, text, err));
        ES_GO(es_config_finish(old, err));
        if (es_config_diff(old, s->config, names, sizeof names) > 0)
            rc = es_err_set(err, ES_EUSAGE,
                            "%s: this run was started with other values of %s; use them, another run.dir, or "
                            "--resume never",
                            path, names);
    }
    if (rc == 0 && meta->store_digest != s->store_digest)
        rc = es_err_set(
            err, ES_EDATA,
            "%s: trained on other stores (digest %016llx, now %016llx); use the same, or --resume never",
            path, (unsigned long long)meta->store_digest, (unsigned long long)s->store_digest);
done:
    es_config_free(&old);
    es_free(&text);
    return rc;
}

int train_resume_all(const struct es_comm *c, struct es_trainer *t, struct train_state *s, const char *dir,
                     const char *resume, struct es_err *err) {
    struct lists l;
    struct es_ckpt_meta meta;
    char path[700];
    bool automatic = strcmp(resume, "auto") == 0;
    s->step = 0;
    if (strcmp(resume, "never") == 0) return 0;
    int rc = lists_new(&l, t, err);
    ES_GO(es_err_agree_all(c, rc, err));
    if (automatic)
        snprintf(path, sizeof path, "%s/%s", dir, ES_CKPT_LAST);
    else
        snprintf(path, sizeof path, "%s", resume);
    /* another configuration first: its message is better than that of arrays that do not fit */
    struct es_ckpt_meta before;
    if (access(path, R_OK) == 0 && es_ckpt_read_meta(path, &before, NULL, NULL) == 0)
        rc = check_config(path, s, &before, err);
    ES_GO(es_err_agree_all(c, rc, err));
    if (automatic) {
        ES_GO(es_ckpt_resume_all(c, dir, &l.state, &meta, err));
        if (rc == 0) goto done;
        es_comm_barrier_all(c); /* a damaged last has been renamed: what was loaded then is prev */
        if (access(path, R_OK) != 0) snprintf(path, sizeof path, "%s/%s", dir, ES_CKPT_PREV);
    } else {
        ES_GO(es_ckpt_load_all(c, path, ES_CKPT_ALL, &l.state, &meta, err));
    }
    ES_GO(es_err_agree_all(c, check_config(path, s, &meta, err), err));
    s->step = meta.step;
    s->best = meta.best_metric;
    rc = 0;
done:
    lists_free(&l);
    return rc;
}

/* A pre-training checkpoint with the same head: it gives everything. */
static bool same_head(const struct es_h5 *f, struct es_params *p) {
    for (int i = 0; i < es_params_count(p); i++) {
        char path[160];
        snprintf(path, sizeof path, "/student/%s", es_params_at(p, i)->name);
        if (!es_h5_has(f, path)) return false;
    }
    return true;
}

/* from: student, teacher or both (student to student, teacher to teacher). A pre-training checkpoint gives the transformer, and
 * the AudioSet map if it trained one. */
static int init_local(struct es_trainer *t, const char *path, const char *from, struct es_err *err) {
    struct es_h5 *f = NULL;
    int rc = 0;
    ES_TRY(es_h5_open(&f, path, NULL, 0, err));
    bool checkpoint = es_h5_has(f, "/student"), stage = es_h5_has(f, "/student/dense.weight"),
         weights = !checkpoint;
    bool have_teacher = checkpoint && es_h5_has(f, "/teacher");
    struct es_params *student = es_trainer_student(t), *teacher = es_trainer_teacher(t);
    const char *source = weights ? "/" : strcmp(from, "teacher") == 0 ? "/teacher" : "/student";
    bool all = stage || (weights && es_h5_has(f, "/dense.weight"));
    if (!teacher && checkpoint && same_head(f, student)) all = true;
    if (strcmp(source, "/teacher") == 0 && !have_teacher) {
        rc = es_err_set(err, ES_EDATA, "model.init: %s has no /teacher; set model.init_from: student", path);
        goto done;
    }
    ES_GO(es_model_fill(f, source, es_trainer_net(t), student, all, err));
    if (!teacher) goto done;
    bool own = strcmp(from, "both") == 0 && have_teacher && stage;
    ES_GO(es_model_fill(f, own ? "/teacher" : source, es_trainer_net(t), teacher, all, err));
done:
    es_h5_close(&f);
    return rc;
}

int train_init_all(const struct es_comm *c, struct es_trainer *t, const char *path, const char *from,
                   struct es_err *err) {
    int rc = es_err_agree_all(c, init_local(t, path, from, err), err);
    if (rc == 0) es_log(ES_LOG_INFO, "init from %s", path);
    return rc;
}

static int init_head_local(struct es_trainer *t, const char *path, struct es_err *err) {
    struct es_h5 *f = NULL;
    struct es_h5_names names = {0};
    struct es_params *of[2] = {es_trainer_student(t), es_trainer_teacher(t)};
    char model[32] = "";
    int rc = 0;
    ES_GO(es_h5_open(&f, path, "weights", ES_WEIGHTS_VERSION, err));
    ES_GO(es_h5_attr_get_text(f, "/", "model", model, sizeof model, err));
    if (strcmp(model, "head") != 0)
        ES_GO(es_err_set(err, ES_EDATA, "%s: weights of %s, want a head of earshot probe --init-head", path,
                         model));
    ES_GO(es_h5_list(f, "/", false, &names, err));
    for (int64_t i = 0; i < names.n; i++)
        for (int k = 0; k < 2 && of[k]; k++) {
            struct es_h5_info info;
            const int at = es_params_find(of[k], names.name[i]);
            ES_GO(es_h5_info(f, names.name[i], &info, err));
            const struct es_param *p = at >= 0 ? es_params_at(of[k], at) : NULL;
            bool same = p && p->ndim == info.ndim;
            for (int d = 0; same && d < p->ndim; d++) same = p->shape[d] == info.dim[d];
            if (!same)
                ES_GO(es_err_set(err, ES_EDATA,
                                 "%s:/%s: the model has no such entry of this shape (%lld elements)", path,
                                 names.name[i], (long long)info.n));
            ES_GO(es_weights_read(f, names.name[i], p->n, es_params_data(of[k], at), err));
        }
done:
    es_h5_names_free(&names);
    es_h5_close(&f);
    return rc;
}

int train_init_head_all(const struct es_comm *c, struct es_trainer *t, const char *path, struct es_err *err) {
    int rc = es_err_agree_all(c, init_head_local(t, path, err), err);
    if (rc == 0) es_log(ES_LOG_INFO, "head from %s", path);
    return rc;
}
