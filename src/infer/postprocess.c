#include "earshot/postprocess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/labels.h"
#include "earshot/median.h"
#include "earshot/mem.h"
#include "earshot/text.h"
#include "earshot/yamlrows.h"

const char *const es_postprocess_names[4] = {"none", "median_frames", "median_seconds", "csebb"};

static int make(struct es_postprocess **p, enum es_postprocess_kind kind, int n, struct es_err *err) {
    *p = es_alloc(1, sizeof **p, err);
    if (!*p) return -ES_EIO;
    (*p)->kind = kind;
    (*p)->classes = es_alloc((size_t)n, sizeof *(*p)->classes, err);
    if ((*p)->classes) return 0;
    es_postprocess_free(p);
    return -ES_EIO;
}

static struct es_postprocess_class *add(struct es_postprocess *p, const char *name, struct es_err *err) {
    struct es_postprocess_class *c = &p->classes[p->n_classes];
    *c = (struct es_postprocess_class){.name = es_strdup(name, err),
                                       .frames = 1,
                                       .csebb = es_csebb_params_default(),
                                       .threshold = (double)NAN};
    if (!c->name) return NULL;
    p->n_classes++;
    return c;
}

void es_postprocess_free(struct es_postprocess **p) {
    if (!*p) return;
    for (int k = 0; k < (*p)->n_classes; k++) es_free(&(*p)->classes[k].name);
    es_free(&(*p)->classes);
    es_free(p);
}

int es_postprocess_find(const struct es_postprocess *p, const char *name) {
    for (int k = 0; k < p->n_classes; k++)
        if (strcmp(p->classes[k].name, name) == 0) return k;
    return -1;
}

int es_postprocess_default(struct es_postprocess **p, enum es_postprocess_kind kind,
                           const struct es_scores *scores, struct es_err *err) {
    ES_TRY(make(p, kind, scores->n_classes, err));
    for (int k = 0; k < scores->n_classes; k++) {
        const int known = es_class_find(scores->classes[k]);
        if (kind == ES_POST_MEDIAN_FRAMES && known < 0) continue; /* no window for it */
        struct es_postprocess_class *c = add(*p, scores->classes[k], err);
        if (!c) {
            es_postprocess_free(p);
            return -ES_EIO;
        }
        if (known >= 0) c->frames = es_classes[known].median_frames;
    }
    return 0;
}

int es_postprocess_from_tuning(struct es_postprocess **p, const struct es_tuning *t, struct es_err *err) {
    ES_TRY(make(p, t->csebb ? ES_POST_CSEBB : ES_POST_MEDIAN_SECONDS, t->n_classes, err));
    for (int k = 0; k < t->n_classes; k++) {
        struct es_postprocess_class *c = add(*p, t->class_name[k], err);
        if (!c) {
            es_postprocess_free(p);
            return -ES_EIO;
        }
        if (t->csebb) c->csebb = t->csebb[k];
        if (t->length_s) c->length_s = t->length_s[k];
        c->threshold = t->threshold[k];
    }
    return 0;
}

/* ---- YAML */

static bool number(const char *text, double *v) {
    if (strcmp(text, ".inf") == 0) return *v = HUGE_VAL, true;
    if (strcmp(text, "-.inf") == 0) return *v = -HUGE_VAL, true;
    if (strcmp(text, ".nan") == 0) return *v = (double)NAN, true;
    return es_number_from_text(text, v);
}

/* One "classes: name: key: value". */
static const char *set(struct es_postprocess_class *c, enum es_postprocess_kind kind, const char *key,
                       const char *text) {
    double v;
    if (!number(text, &v)) return "a number";
    if (strcmp(key, "threshold") == 0) return c->threshold = v, NULL;
    if (kind == ES_POST_MEDIAN_FRAMES && strcmp(key, "frames") == 0)
        return v >= 1 && v <= 1e6 && v == rint(v) ? (c->frames = (int)v, NULL)
                                                  : "a whole number of frames from 1 on";
    if (kind == ES_POST_MEDIAN_SECONDS && strcmp(key, "length_s") == 0)
        return v >= 0 && isfinite(v) ? (c->length_s = v, NULL) : "a length of 0 s or more";
    if (kind == ES_POST_CSEBB && strcmp(key, "step_filter_s") == 0)
        return v > 0 && isfinite(v) ? (c->csebb.step_filter_s = v, NULL) : "a length above 0 s";
    if (kind == ES_POST_CSEBB && strcmp(key, "merge_abs") == 0)
        return v >= 0 ? (c->csebb.merge_abs = v, NULL) : "0 or more";
    if (kind == ES_POST_CSEBB && strcmp(key, "merge_rel") == 0)
        return v >= 0 ? (c->csebb.merge_rel = v, NULL) : "0 or more";
    return kind == ES_POST_CSEBB ? "step_filter_s, merge_abs, merge_rel or threshold"
                                 : "frames (median_frames), length_s (median_seconds) or threshold";
}

int es_postprocess_load(struct es_postprocess **out, const char *path, struct es_err *err) {
    struct es_yaml_rows rows;
    int kind = -1;
    *out = NULL;
    ES_TRY(es_yaml_rows_load(&rows, path, err));
    int rc = make(out, ES_POST_NONE, rows.n, err);
    for (int i = 0; i < rows.n && rc == 0; i++) {
        const struct es_yaml_row *r = &rows.row[i];
        if (r->depth == 1 && strcmp(r->key[0], "postprocess") == 0) {
            for (int q = 1; q < 4; q++)
                if (strcmp(r->value, es_postprocess_names[q]) == 0) kind = q;
            if (kind < 0)
                rc = es_err_set(err, ES_EDATA,
                                "%s:%d: postprocess: got '%s', want csebb, median_frames or median_seconds",
                                path, r->line, r->value);
            else
                (*out)->kind = (enum es_postprocess_kind)kind;
            continue;
        }
        if (kind < 0 || r->depth != 3 || strcmp(r->key[0], "classes") != 0) {
            rc = es_err_set(err, ES_EDATA,
                            "%s:%d: got '%s', want 'postprocess:', then 'classes:' with a mapping each", path,
                            r->line, r->key[0]);
            continue;
        }
        int k = es_postprocess_find(*out, r->key[1]);
        struct es_postprocess_class *c = k >= 0 ? &(*out)->classes[k] : add(*out, r->key[1], err);
        const char *want = c ? set(c, (*out)->kind, r->key[2], r->value) : NULL;
        rc = !c     ? -ES_EIO
             : want ? es_err_set(err, ES_EDATA, "%s:%d: %s: got '%s', want %s", path, r->line, r->key[2],
                                 r->value, want)
                    : 0;
    }
    if (rc == 0 && (*out)->n_classes == 0) rc = es_err_set(err, ES_EDATA, "%s: got no class", path);
    es_yaml_rows_free(&rows);
    if (rc < 0) es_postprocess_free(out);
    return rc;
}

static void put(struct es_text *t, const char *before, double v) {
    char digits[32];
    es_text_from_double(v, digits);
    es_text_add(t, "%s%s", before,
                isnan(v)         ? ".nan"
                : v == HUGE_VAL  ? ".inf"
                : v == -HUGE_VAL ? "-.inf"
                                 : digits);
}

int es_postprocess_save(const struct es_postprocess *p, const char *path, struct es_err *err) {
    struct es_text t = {0};
    es_text_add(&t, "postprocess: %s\nclasses:\n", es_postprocess_names[p->kind]);
    for (int k = 0; k < p->n_classes; k++) {
        const struct es_postprocess_class *c = &p->classes[k];
        es_text_add(&t, "  \"");
        for (const char *s = c->name; *s; s++)
            es_text_add(&t, "%s%c", *s == '"' || *s == '\\' ? "\\" : "", *s);
        es_text_add(&t, "\": {");
        if (p->kind == ES_POST_MEDIAN_FRAMES) es_text_add(&t, "frames: %d", c->frames);
        if (p->kind == ES_POST_MEDIAN_SECONDS) put(&t, "length_s: ", c->length_s);
        if (p->kind == ES_POST_CSEBB) {
            put(&t, "step_filter_s: ", c->csebb.step_filter_s);
            put(&t, ", merge_abs: ", c->csebb.merge_abs);
            put(&t, ", merge_rel: ", c->csebb.merge_rel);
        }
        if (!isnan(c->threshold)) put(&t, ", threshold: ", c->threshold);
        es_text_add(&t, "}\n");
    }
    int rc = es_text_check(&t, err);
    if (rc == 0) rc = es_text_save(path, t.s, t.n, err);
    es_text_free(&t);
    return rc;
}

/* ---- applying */

/* By column: its class of p; -1: not wanted. */
static int match(int **out, const struct es_scores *in, const struct es_postprocess *p, const bool *wanted,
                 struct es_err *err) {
    int *at = *out = es_alloc((size_t)in->n_classes, sizeof *at, err);
    if (!at) return -ES_EIO;
    for (int c = 0; c < in->n_classes; c++) {
        at[c] = wanted && !wanted[c] ? -1 : es_postprocess_find(p, in->classes[c]);
        if (at[c] >= 0 || (wanted && !wanted[c])) continue;
        return es_err_set(err, ES_EUSAGE,
                          "postprocess %s: class '%s': got no %s for it; want parameters for every class",
                          es_postprocess_names[p->kind], in->classes[c],
                          p->kind == ES_POST_MEDIAN_FRAMES ? "window" : "parameters");
    }
    return 0;
}

int es_postprocess_boxes(struct es_truth **boxes, const struct es_scores *in, const struct es_postprocess *p,
                         const bool *wanted, struct es_err *err) {
    int *at = NULL;
    struct es_csebb_params *params = es_alloc((size_t)in->n_classes, sizeof *params, err);
    *boxes = NULL;
    int rc = params ? match(&at, in, p, wanted, err) : -ES_EIO;
    for (int c = 0; c < in->n_classes && rc == 0; c++)
        if (at[c] >= 0) params[c] = p->classes[at[c]].csebb;
    if (rc == 0) rc = es_csebb_boxes(boxes, in, params, err);
    es_free(&at);
    es_free(&params);
    return rc;
}

int es_postprocess_apply(struct es_scores **out, const struct es_scores *in, const struct es_postprocess *p,
                         const bool *wanted, struct es_err *err) {
    int rc = -ES_EIO, *at = NULL;
    const int K = in->n_classes;
    struct es_truth *boxes = NULL;
    int *frames = es_alloc((size_t)K, sizeof *frames, err);
    double *length_s = es_alloc((size_t)K, sizeof *length_s, err);
    *out = NULL;
    if (!frames || !length_s) goto done;
    ES_GO(match(&at, in, p, wanted, err));
    for (int c = 0; c < K; c++) {
        frames[c] = at[c] >= 0 ? p->classes[at[c]].frames : 1;
        length_s[c] = at[c] >= 0 ? p->classes[at[c]].length_s : 0;
    }
    if (p->kind == ES_POST_MEDIAN_SECONDS) {
        rc = es_scores_median_time(out, in, length_s, err);
    } else if (p->kind == ES_POST_CSEBB) {
        ES_GO(es_postprocess_boxes(&boxes, in, p, wanted, err));
        rc = es_scores_from_events(out, boxes, in, NULL, -HUGE_VAL, err);
    } else {
        rc = es_scores_median(out, in, frames, err);
    }
done:
    es_truth_free(&boxes);
    es_free(&at);
    es_free(&length_s);
    es_free(&frames);
    return rc;
}
