/* What became of every clip: counts, the log, the table of clips left out. */
#include <stdio.h>
#include <string.h>

#include "earshot/comm.h"
#include "earshot/log.h"

#include "prepare_impl.h"

enum { SHOWN = 20 }; /* problems in the log; --json has all */

static const char *const why_names[] = {"in_store", "no_audio", "bad_audio", "bad_row",
                                        "empty",    "listed",   "overlap"};
_Static_assert(sizeof why_names / sizeof *why_names == ES_PREPARE_N_WHY, "a name for every reason");

const char *es_prepare_why_name(enum es_prepare_why why) {
    return why_names[why];
}

void prep_count(const struct prep *x, const int64_t *row, const int64_t *event_index,
                const double *duration_s, struct es_prepare_report *r) {
    r->n_sets = x->p->n_sources;
    for (int s = 0; s < r->n_sets; s++)
        r->set[s] = (struct es_prepare_set){.name = prep_name(x, s), .events_dropped = x->events_dropped[s]};
    for (int64_t i = 0; i < x->n_clips; i++) {
        const struct prep_clip *c = &x->clip[i];
        struct es_prepare_set *set = &r->set[c->source];
        set->clips++;
        set->out[c->out]++;
        if (c->out != ES_PREPARE_STAYS) continue;
        *(c->split ? &set->validation : &set->training) += 1;
        if (!row) continue;
        set->events += event_index[row[i] + 1] - event_index[row[i]];
        set->hours += duration_s[row[i]] / 3600;
    }
}

void prep_log_problems(const struct prep *x, int64_t first) {
    int64_t n = es_names_count(x->problem);
    for (int64_t i = first; i < n && i < first + SHOWN; i++)
        es_log(ES_LOG_WARN, "%s", es_names_get(x->problem, i));
    if (n > first + SHOWN)
        es_log(ES_LOG_WARN, "prepare: %lld problems more (all: --json)", (long long)(n - first - SHOWN));
}

void prep_log(const struct prep *x, const struct es_prepare_report *r) {
    bool some = false;
    for (int s = 0; s < r->n_sets; s++) {
        const struct es_prepare_set *set = &r->set[s];
        char left[200] = "";
        for (int w = 1; w < ES_PREPARE_N_WHY; w++) {
            size_t used = strlen(left);
            if (set->out[w])
                snprintf(left + used, sizeof left - used, " %s=%lld", why_names[w], (long long)set->out[w]);
            some = some || set->out[w];
        }
        if (set->events_dropped) {
            size_t used = strlen(left);
            snprintf(left + used, sizeof left - used, " events_dropped=%lld", (long long)set->events_dropped);
        }
        es_log(ES_LOG_INFO,
               "prepare set=%s clips=%lld training=%lld validation=%lld events=%lld hours=%.3g%s", set->name,
               (long long)set->clips, (long long)set->training, (long long)set->validation,
               (long long)set->events, set->hours, left);
    }
    for (int k = 0; k < r->n_overlaps; k++)
        es_log(ES_LOG_INFO, "prepare overlap %s %s names=%lld youtube_ids=%lld",
               prep_name(x, r->overlap[k].a), prep_name(x, r->overlap[k].b), (long long)r->overlap[k].names,
               (long long)r->overlap[k].ids);
    if (some) es_log(ES_LOG_INFO, "prepare: every clip that was left out, and why: --left-out FILE");
}

static void add_row(const struct prep *x, const struct prep_clip *c, struct es_text *t) {
    const struct es_prepare_source *s = &x->p->source[c->source];
    const char *table = s->labels && s->labels[0] ? s->labels : s->audio;
    es_text_add(t, "%s\t%s\t%s", c->name, prep_name(x, c->source), why_names[c->out]);
    if (c->out == ES_PREPARE_OVERLAP) es_text_add(t, ": also in %s", prep_name(x, c->other));
    if (c->out == ES_PREPARE_NO_AUDIO) es_text_add(t, ": none in %s", s->audio);
    es_text_add(t, "\t%s", table);
    if (c->line > 0) es_text_add(t, ":%lld", (long long)c->line);
    es_text_add(t, "\n");
}

/* Rank 0 writes. */
int prep_write_left_out(const struct prep *x, struct es_err *err) {
    struct es_text t = {0};
    if (!x->p->left_out || es_comm_rank(x->comm) != 0) return 0;
    es_text_add(&t, "filename\tset\treason\twhere\n");
    for (int64_t i = 0; i < x->n_clips; i++)
        if (x->clip[i].out != ES_PREPARE_STAYS) add_row(x, &x->clip[i], &t);
    int rc = es_text_check(&t, err);
    if (rc == 0) rc = es_text_save(x->p->left_out, t.s, t.n, err);
    es_text_free(&t);
    return rc;
}
