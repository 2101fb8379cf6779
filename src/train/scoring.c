/* Validation of a run, student and teacher, and the test of its best checkpoint. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/json.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/model.h"
#include "earshot/stage.h"
#include "earshot/timer.h"
#include "run_files.h"

static const char *const who_name[2] = {"student", "teacher"};

struct train_scoring {
    const struct es_comm *comm;
    const struct es_config *cfg;
    enum es_validation_kind kind;
    struct es_store **store; /* [n_stores] */
    int n_stores;
    struct es_forward *forward[2]; /* student, teacher; NULL: not validated */
    int *median_frames;            /* [classes] */
};

const char *const *train_validation_stores(const struct es_config *cfg, int *n) {
    const char *const *path = es_config_strings(cfg, "data.validation_stores", n);
    return *n > 0 ? path : es_config_strings(cfg, "data.stores", n);
}

enum es_validation_kind train_validation_kind(const struct es_config *cfg) {
    if (!es_config_is(cfg, "phase", "pretrain")) return ES_VALID_STAGES;
    return es_config_is(cfg, "pretrain.validation", "cpjku") ? ES_VALID_CPJKU : ES_VALID_PRETRAINEDSED;
}

static int new_forward(const struct train_scoring *s, struct es_forward **f, const struct es_net *net,
                       struct es_params *params, struct es_err *err) {
    struct es_frontend_params mel = es_model_frontend(s->cfg);
    return es_forward_new(f, net, params, es_config_int(s->cfg, "predict.block"), &mel, err);
}

static int set_up(struct train_scoring *s, struct es_trainer *t, struct es_err *err) {
    int n, K = s->n_stores > 0 ? es_store_n_classes(s->store[0]) : 0;
    const int *frames = es_config_ints(s->cfg, "evaluate.median_frames", &n);
    ES_TRY(new_forward(s, &s->forward[0], es_trainer_net(t), es_trainer_student(t), err));
    if (s->kind == ES_VALID_STAGES && es_config_bool(s->cfg, "train.validate_teacher"))
        ES_TRY(new_forward(s, &s->forward[1], es_trainer_net(t), es_trainer_teacher(t), err));
    for (int i = 0; i < s->n_stores; i++)
        if (es_store_n_classes(s->store[i]) != es_forward_classes(s->forward[0]))
            return es_err_set(err, ES_EDATA, "%s: %d classes, the model has %d", es_store_path(s->store[i]),
                              es_store_n_classes(s->store[i]), es_forward_classes(s->forward[0]));
    s->median_frames = es_alloc((size_t)K, sizeof(int), err);
    if (!s->median_frames) return -ES_EIO;
    for (int k = 0; k < K; k++)
        s->median_frames[k] =
            s->kind == ES_VALID_STAGES ? frames[k] : es_config_int(s->cfg, "pretrain.median_frames");
    return 0;
}

int train_scoring_open_all(struct train_scoring **out, const struct es_comm *c, const struct es_config *cfg,
                           struct es_trainer *t, struct es_err *err) {
    int n, rc = 0;
    const char *const *path = train_validation_stores(cfg, &n);
    struct train_scoring *s = *out = es_alloc(1, sizeof *s, err);
    if (s) s->store = es_alloc((size_t)n, sizeof *s->store, err);
    ES_GO(es_err_agree_all(c, s && s->store ? 0 : -ES_EIO, err));
    s->comm = c;
    s->cfg = cfg;
    s->kind = train_validation_kind(cfg);
    for (int i = 0; i < n; i++) {
        ES_GO(es_stage_open_all(&s->store[i], c, path[i], es_config_string(cfg, "data.stage_dir"), err));
        s->n_stores++;
    }
    ES_GO(es_err_agree_all(c, set_up(s, t, err), err));
done:
    if (rc < 0) train_scoring_close(out);
    return rc;
}

void train_scoring_close(struct train_scoring **out) {
    struct train_scoring *s = *out;
    if (!s) return;
    es_free(&s->median_frames);
    es_forward_free(&s->forward[1]);
    es_forward_free(&s->forward[0]);
    for (int i = 0; i < s->n_stores; i++) es_store_close(&s->store[i]);
    es_free(&s->store);
    es_free(out);
}

static void report(const char *what, int64_t step, int who, const struct es_validation *v, double seconds) {
    struct es_text t = {0};
    for (int i = 0; i < v->n; i++)
        if (!isnan(v->value[i])) es_text_add(&t, " %s=%.4f", v->name[i], v->value[i]);
    es_log(ES_LOG_INFO, "%s step=%lld of=%s clips=%lld%s objective=%.4f seconds=%.1f", what, (long long)step,
           who_name[who], (long long)v->n_clips, t.s ? t.s : "", v->objective, seconds);
    es_text_free(&t);
}

int train_scoring_validate_all(struct train_scoring *s, int64_t step, struct es_validation out[2],
                               struct es_err *err) {
    for (int who = 0; who < 2; who++) {
        double begin_s = es_now_s();
        es_validation_init(&out[who], s->kind);
        if (!s->forward[who]) continue;
        ES_TRY(es_validate_all(s->comm, s->forward[who], s->store, s->n_stores, s->kind, s->median_frames,
                               &out[who], err));
        report("validation", step, who, &out[who], es_now_s() - begin_s);
    }
    return 0;
}

/* ---- test */

static int test_one(struct train_scoring *s, const char *path, int who, struct es_validation *v,
                    struct es_err *err) {
    struct es_model *m = NULL;
    struct es_forward *f = NULL;
    double begin_s = es_now_s();
    int rc = 0;
    ES_GO(es_model_open_all(&m, s->comm, path, who_name[who], err));
    ES_GO(es_err_agree_all(s->comm, new_forward(s, &f, m->net, m->params, err), err));
    ES_GO(es_validate_all(s->comm, f, s->store, s->n_stores, ES_VALID_TEST, s->median_frames, v, err));
    report("test", m->step, who, v, es_now_s() - begin_s);
done:
    es_forward_free(&f);
    es_model_close(&m);
    return rc;
}

static int write_file(const char *dir, const struct es_validation v[2], struct es_err *err) {
    char path[700];
    struct es_json *j = NULL;
    snprintf(path, sizeof path, "%s/test.json", dir);
    ES_TRY(es_json_new(&j, path, err));
    es_json_begin_object(j);
    for (int who = 0; who < 2; who++) {
        if (v[who].n_clips == 0) continue;
        es_json_key(j, who_name[who]);
        es_json_begin_object(j);
        es_validation_write(&v[who], j);
        es_json_end_object(j);
    }
    es_json_end_object(j);
    return es_json_close(&j, err);
}

int train_scoring_test_all(struct train_scoring *s, const char *dir, struct es_validation out[2],
                           struct es_err *err) {
    char path[700];
    int64_t n = 0;
    es_validation_init(&out[0], ES_VALID_TEST);
    es_validation_init(&out[1], ES_VALID_TEST);
    for (int i = 0; i < s->n_stores; i++) n += es_validation_clips(s->store[i], ES_VALID_TEST);
    snprintf(path, sizeof path, "%s/checkpoint-best.h5", dir);
    uint8_t there = access(path, R_OK) == 0;
    es_comm_bcast_all(s->comm, &there, 1, 0);
    if (s->kind != ES_VALID_STAGES || n == 0 || !there) return 0;
    for (int who = 0; who < 2; who++)
        if (s->forward[who]) ES_TRY(test_one(s, path, who, &out[who], err));
    return es_err_agree_all(s->comm, es_comm_rank(s->comm) == 0 ? write_file(dir, out, err) : 0, err);
}
