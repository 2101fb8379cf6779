/* Results of an evaluation as JSON and as a table. */
#include <math.h>
#include <string.h>

#include "earshot/evaluate_files.h"

/* ---- JSON */

static void put_interval(struct es_json *j, const char *key, struct es_interval v) {
    es_json_key(j, key);
    es_json_begin_array(j);
    es_json_number(j, v.mean);
    es_json_number(j, v.low);
    es_json_number(j, v.high);
    es_json_end_array(j);
}

static void put_row(struct es_json *j, const struct es_evaluation *e, int r, const struct es_bootstrap *b) {
    const struct es_evaluation_row *row = &e->rows[r];
    es_json_key(j, row->name);
    es_json_begin_object(j);
    es_json_put_number(j, "value", row->value);
    if (row->extra_name) es_json_put_number(j, row->extra_name, row->extra);
    es_json_key(j, "classes");
    es_json_begin_object(j);
    for (int k = 0; k < e->n_classes; k++) es_json_put_number(j, e->class_name[k], row->class_value[k]);
    es_json_end_object(j);
    if (b) {
        es_json_put_int(j, "samples", b->n_samples);
        put_interval(j, "interval", b->rows[r].interval);
        es_json_key(j, "class_intervals");
        es_json_begin_object(j);
        for (int k = 0; k < e->n_classes; k++)
            put_interval(j, e->class_name[k], b->rows[r].class_interval[k]);
        es_json_end_object(j);
    }
    es_json_end_object(j);
}

static const struct missing_field {
    const char *name, *text;
    size_t offset;
} missing_fields[] = {
    {"labels", "labels without a score column", offsetof(struct es_evalset_missing, labels)},
    {"label_events", "events of those labels", offsetof(struct es_evalset_missing, label_events)},
    {"classes", "classes without column or event", offsetof(struct es_evalset_missing, classes)},
    {"clips_without_scores", "clips without scores",
     offsetof(struct es_evalset_missing, clips_without_scores)},
    {"clips_without_truth", "clips without ground truth",
     offsetof(struct es_evalset_missing, clips_without_truth)},
    {"clips_without_duration", "clips without duration",
     offsetof(struct es_evalset_missing, clips_without_duration)},
    {"empty_events", "events of length 0", offsetof(struct es_evalset_missing, empty_events)},
    {"joined_events", "events joined with one they overlap or touch",
     offsetof(struct es_evalset_missing, joined_events)},
};
enum { N_MISSING = sizeof missing_fields / sizeof *missing_fields };

static int64_t missing_value(const struct es_evalset_missing *m, int i) {
    int64_t v;
    memcpy(&v, (const char *)m + missing_fields[i].offset, sizeof v);
    return v;
}

static void put_system(struct es_json *j, const struct es_evaluate_result *r, int i) {
    for (int k = 0; k < r->system[i]->n_rows; k++) put_row(j, r->system[i], k, r->bootstrap[i]);
    if (!r->counts_missing) return;
    es_json_key(j, "missing");
    es_json_begin_object(j);
    for (int q = 0; q < N_MISSING; q++)
        es_json_put_int(j, missing_fields[q].name, missing_value(&r->missing[i], q));
    es_json_end_object(j);
}

static void put_difference(struct es_json *j, const struct es_evaluate_result *r) {
    const struct es_bootstrap *d = r->difference;
    es_json_key(j, "difference");
    es_json_begin_object(j);
    for (int q = 0; q < d->n_rows; q++) {
        const struct es_bootstrap_row *row = &d->rows[q];
        es_json_key(j, row->name);
        es_json_begin_object(j);
        es_json_put_number(j, "value", r->system[1]->rows[q].value - r->system[0]->rows[q].value);
        es_json_put_int(j, "samples", d->n_samples);
        put_interval(j, "interval", row->interval);
        es_json_put_number(j, "better", row->better);
        es_json_key(j, "classes");
        es_json_begin_object(j);
        for (int k = 0; k < d->n_classes; k++)
            es_json_put_number(j, d->class_name[k],
                               r->system[1]->rows[q].class_value[k] - r->system[0]->rows[q].class_value[k]);
        es_json_end_object(j);
        es_json_key(j, "class_intervals");
        es_json_begin_object(j);
        for (int k = 0; k < d->n_classes; k++) put_interval(j, d->class_name[k], row->class_interval[k]);
        es_json_end_object(j);
        es_json_end_object(j);
    }
    es_json_end_object(j);
}

void es_evaluate_write(const struct es_evaluate_result *r, struct es_json *j) {
    if (!r->system[1]) {
        put_system(j, r, 0);
        return;
    }
    for (int i = 0; i < 2; i++) {
        es_json_key(j, i ? "b" : "a");
        es_json_begin_object(j);
        put_system(j, r, i);
        es_json_end_object(j);
    }
    put_difference(j, r);
}

/* ---- tables */

static int name_width(const struct es_evaluation *e) {
    int width = (int)strlen("all classes");
    for (int k = 0; k < e->n_classes; k++)
        if ((int)strlen(e->class_name[k]) > width) width = (int)strlen(e->class_name[k]);
    return width;
}

void es_evaluation_print(const struct es_evaluation *e, struct es_text *text) {
    const int width = name_width(e);
    es_text_add(text, "%-*s", width, "");
    for (int i = 0; i < e->n_rows; i++) es_text_add(text, "  %7s", e->rows[i].name);
    for (int k = -1; k < e->n_classes; k++) {
        es_text_add(text, "\n%-*s", width, k < 0 ? "all classes" : e->class_name[k]);
        for (int i = 0; i < e->n_rows; i++) {
            const struct es_evaluation_row *row = &e->rows[i];
            const int n = (int)strlen(row->name);
            es_text_add(text, "  %*.4f", n > 7 ? n : 7, k < 0 ? row->value : row->class_value[k]);
        }
    }
    es_text_add(text, "\n%lld of %lld clips, %.1f s\n", (long long)e->n_clips, (long long)e->n_clips_scored,
                e->dur_s);
}

static void print_intervals(const struct es_bootstrap *b, struct es_text *text) {
    es_text_add(text, "%.0f%% of %d samples:\n", 100 * b->confidence, b->n_samples);
    for (int r = 0; r < b->n_rows; r++)
        es_text_add(text, "  %-22s %7.4f .. %.4f, mean %.4f\n", b->rows[r].name, b->rows[r].interval.low,
                    b->rows[r].interval.high, b->rows[r].interval.mean);
}

static void print_missing(const struct es_evalset_missing *m, struct es_text *text) {
    for (int i = 0; i < N_MISSING; i++)
        if (missing_value(m, i) > 0)
            es_text_add(text, "left out: %lld %s\n", (long long)missing_value(m, i), missing_fields[i].text);
}

void es_evaluate_print(const struct es_evaluate_result *r, struct es_text *text) {
    for (int i = 0; i < 2 && r->system[i]; i++) {
        if (r->system[1]) es_text_add(text, "%s: %s\n", i ? "B" : "A", r->path[i]);
        es_evaluation_print(r->system[i], text);
        if (r->counts_missing) print_missing(&r->missing[i], text);
        if (r->bootstrap[i]) print_intervals(r->bootstrap[i], text);
    }
    if (!r->difference) return;
    es_text_add(text, "B - A, %.0f%% of %d paired samples:\n", 100 * r->difference->confidence,
                r->difference->n_samples);
    for (int q = 0; q < r->difference->n_rows; q++) {
        const struct es_bootstrap_row *row = &r->difference->rows[q];
        es_text_add(text, "  %-22s %+7.4f  %+.4f .. %+.4f, B above A in %.0f%%\n", row->name,
                    r->system[1]->rows[q].value - r->system[0]->rows[q].value, row->interval.low,
                    row->interval.high, 100 * row->better);
    }
}
