/* Counts of one class at every level: sort the scores, sweep each clip downwards, add up (spec section 3).
 *
 * Only frames that can change a count are sorted. Where a clip has no event that matters, the number of runs
 * is all there is, and its change at frame i is (s[i] > s[i-1]) - (s[i+1] > s[i]). Elsewhere frames are
 * activated in order of their level; each level removes the runs it touches and adds the ones it makes.
 * Levels are indices, so clips add their changes into arrays. */
#include <math.h>
#include <string.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

/* Order-preserving: ascending key = descending score. narrow: the value is a float. */
uint64_t stat_key(double v, bool narrow) {
    v += 0.0; /* -0 is 0 */
    if (narrow) {
        float f = (float)v;
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        u ^= u >> 31 ? UINT32_MAX : UINT32_C(1) << 31;
        return ~u;
    }
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    u ^= u >> 63 ? UINT64_MAX : UINT64_C(1) << 63;
    return ~u;
}

double stat_score(uint64_t key, bool narrow) {
    if (narrow) {
        uint32_t u = ~(uint32_t)key;
        u ^= u >> 31 ? UINT32_C(1) << 31 : UINT32_MAX;
        float f;
        memcpy(&f, &u, sizeof f);
        return (double)f;
    }
    uint64_t u = ~key;
    u ^= u >> 63 ? UINT64_C(1) << 63 : UINT64_MAX;
    double v;
    memcpy(&v, &u, sizeof v);
    return v;
}

int stat_ws_init(struct stat_ws *ws, const struct es_evalset *set, int64_t cap, struct es_err *err) {
    *ws = (struct stat_ws){.cap = cap, .cap_ct = 1024};
    if (cap >= INT32_MAX / 2)
        return es_err_set(err, ES_EDATA, "evaluation: got %lld frames a class, want less than 2^30",
                          (long long)cap);
    const size_t n = (size_t)cap;
    ws->item = es_alloc(n + 1, sizeof *ws->item, err);
    ws->spare = es_alloc(n + 1, sizeof *ws->spare, err);
    ws->frames = es_alloc(n, sizeof *ws->frames, err);
    ws->clip_at = es_alloc((size_t)set->n_clips, sizeof *ws->clip_at, err);
    ws->column = es_alloc((size_t)set->n_frames_max, sizeof *ws->column, err);
    ws->other_end = es_alloc((size_t)set->n_frames_max, sizeof *ws->other_end, err);
    ws->score = es_alloc(n, sizeof *ws->score, err);
    ws->tp = es_alloc(n, sizeof *ws->tp, err);
    ws->fp = es_alloc(n, sizeof *ws->fp, err);
    ws->change = es_alloc(n, sizeof *ws->change, err);
    ws->bins = es_alloc(STAT_DIGITS, sizeof *ws->bins, err);
    ws->ct = es_alloc((size_t)ws->cap_ct, sizeof *ws->ct, err);
    ws->ct_spare = es_alloc((size_t)ws->cap_ct, sizeof *ws->ct_spare, err);
    ws->ct_at = es_alloc(n, sizeof *ws->ct_at, err);
    if (ws->item && ws->spare && ws->frames && ws->clip_at && ws->column && ws->other_end && ws->score &&
        ws->tp && ws->fp && ws->change && ws->bins && ws->ct && ws->ct_spare && ws->ct_at)
        return 0;
    stat_ws_fini(ws);
    return -ES_EIO;
}

void stat_ws_fini(struct stat_ws *ws) {
    es_free(&ws->ct_at);
    es_free(&ws->ct_spare);
    es_free(&ws->ct);
    es_free(&ws->bins);
    es_free(&ws->change);
    es_free(&ws->fp);
    es_free(&ws->tp);
    es_free(&ws->score);
    es_free(&ws->other_end);
    es_free(&ws->column);
    es_free(&ws->clip_at);
    es_free(&ws->frames);
    es_free(&ws->spare);
    es_free(&ws->item);
}

/* Radix sort, least significant digit first; digits that are the same in all keys cost nothing. */
struct stat_item *stat_sort(struct stat_ws *ws, int64_t n, bool narrow) {
    const int n_digits = narrow ? (32 + STAT_DIGIT_BITS - 1) / STAT_DIGIT_BITS : STAT_DIGITS;
    struct stat_item *from = ws->item, *to = ws->spare;
    memset(ws->bins, 0, STAT_DIGITS * sizeof *ws->bins);
    for (int64_t i = 0; i < n; i++)
        for (int d = 0; d < n_digits; d++)
            ws->bins[d][(from[i].key >> (STAT_DIGIT_BITS * d)) & (STAT_BINS - 1)]++;
    for (int d = 0; d < n_digits && n > 0; d++) {
        uint32_t *at = ws->bins[d], sum = 0;
        if (at[(from[0].key >> (STAT_DIGIT_BITS * d)) & (STAT_BINS - 1)] == (uint32_t)n) continue;
        for (int b = 0; b < STAT_BINS; b++) {
            const uint32_t here = at[b];
            at[b] = sum;
            sum += here;
        }
        for (int64_t i = 0; i < n; i++)
            to[at[(from[i].key >> (STAT_DIGIT_BITS * d)) & (STAT_BINS - 1)]++] = from[i];
        struct stat_item *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

int stat_reserve_ct(struct stat_ws *ws, int64_t n, struct es_err *err) {
    if (ws->n_ct + n <= ws->cap_ct) return 0;
    const int64_t cap = 2 * (ws->n_ct + n);
    struct es_curve_ct *more = es_alloc((size_t)cap, sizeof *more, err);
    if (!more) return -ES_EIO;
    memcpy(more, ws->ct, (size_t)ws->n_ct * sizeof *more);
    es_free(&ws->ct);
    es_free(&ws->ct_spare);
    ws->ct = more;
    ws->cap_ct = cap;
    ws->ct_spare = es_alloc((size_t)cap, sizeof *more, err);
    return ws->ct_spare ? 0 : -ES_EIO;
}

static void find_own(struct stat_sweep *s, const struct eval_clip *clip) {
    int64_t i = clip->ev_begin;
    while (i < clip->ev_end && s->set->events[i].i_class < s->i_class) i++;
    int64_t j = i;
    while (j < clip->ev_end && s->set->events[j].i_class == s->i_class) j++;
    s->clip = clip;
    s->own = s->set->events + i;
    s->n_own = (int)(j - i);
}

/* Frames that matter as items; returns their number. Clips to sweep get a place in ws->frames. */
static int64_t collect(struct stat_sweep *s, const struct stat_counter *counter) {
    struct stat_ws *ws = s->ws;
    const struct es_evalset *set = s->set;
    const bool narrow = !set->scores->is_double;
    int64_t n = 0, n_swept = 0;
    for (int64_t i = 0; i < set->n_clips; i++) {
        const struct eval_clip *clip = &set->clips[i];
        const int N = clip->n_frames;
        const double *v = ws->column;
        es_scores_column(set->scores, clip->source, set->column[s->i_class], ws->column);
        find_own(s, clip);
        if (counter->only_runs(s)) {
            ws->clip_at[i] = -1;
            double before = -HUGE_VAL;
            for (int j = 0; j < N; j++) {
                double after = j + 1 < N ? v[j + 1] : -HUGE_VAL;
                int change = (v[j] > before) - (after > v[j]);
                before = v[j];
                ws->item[n] =
                    (struct stat_item){.key = stat_key(v[j], narrow), .owner = STAT_TALLY, .value = change};
                n += change != 0;
            }
        } else {
            ws->clip_at[i] = n_swept;
            n_swept += N;
            for (int j = 0; j < N; j++)
                ws->item[n++] =
                    (struct stat_item){.key = stat_key(v[j], narrow), .owner = (uint32_t)i, .value = j};
        }
    }
    return n;
}

/* Sorted items to levels: tallies are added up, frames go to their clip in order of level. */
static void levels_from_items(struct stat_ws *ws, const struct stat_item *item, int64_t n, bool narrow) {
    int64_t level = -1;
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || item[i].key != item[i - 1].key) {
            level++;
            ws->score[level] = stat_score(item[i].key, narrow);
            ws->change[level] = (struct stat_change){0};
        }
        if (item[i].owner == STAT_TALLY) {
            ws->change[level].fp_kept = (ws->change[level].fp_kept + 2 * item[i].value) | 1;
        } else {
            ws->frames[ws->clip_at[item[i].owner]++] =
                (struct stat_frame){.level = (uint32_t)level, .frame = item[i].value};
        }
    }
    ws->n_levels = level + 1;
}

/* Cross triggers in order of level, as indices among the kept levels. */
static void order_ct(struct stat_ws *ws) {
    uint32_t *at = ws->ct_at, sum = 0;
    if (ws->n_ct == 0) return;
    memset(at, 0, (size_t)ws->n_levels * sizeof *at);
    for (int64_t i = 0; i < ws->n_ct; i++) at[ws->ct[i].level]++;
    for (int64_t i = 0; i < ws->n_levels; i++) {
        const uint32_t here = at[i];
        at[i] = sum;
        sum += here;
    }
    for (int64_t i = 0; i < ws->n_ct; i++) ws->ct_spare[at[ws->ct[i].level]++] = ws->ct[i];
    struct es_curve_ct *swap = ws->ct;
    ws->ct = ws->ct_spare;
    ws->ct_spare = swap;
    int64_t level = -1, kept = -1;
    for (int64_t i = 0; i < ws->n_ct; i++) {
        while (level < (int64_t)ws->ct[i].level) kept += ws->change[++level].fp_kept & 1;
        ws->ct[i].level = (uint32_t)kept;
    }
}

/* Changes to counts, kept levels only. */
static void accumulate(struct stat_ws *ws) {
    int32_t tp = 0, fp = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < ws->n_levels; i++) {
        const int32_t kept = ws->change[i].fp_kept & 1;
        tp += ws->change[i].tp;
        fp += (ws->change[i].fp_kept - kept) / 2;
        ws->score[n] = ws->score[i];
        ws->tp[n] = tp;
        ws->fp[n] = fp;
        n += kept;
    }
    ws->n_levels = n;
}

int stat_class(struct stat_ws *ws, const struct es_evalset *set, int i_class,
               const struct stat_counter *counter, const struct es_f1_params *params, struct es_err *err) {
    struct stat_sweep s = {.set = set, .params = params, .ws = ws, .i_class = i_class};
    ws->n_ct = 0;
    int rc = counter->open(&s, err);
    if (rc < 0) goto done;
    int64_t n = collect(&s, counter);
    levels_from_items(ws, stat_sort(ws, n, !set->scores->is_double), n, !set->scores->is_double);
    for (int64_t i = 0; i < set->n_clips; i++) {
        if (ws->clip_at[i] < 0) continue;
        find_own(&s, &set->clips[i]);
        ES_GO(counter->sweep(&s, ws->frames + ws->clip_at[i] - s.clip->n_frames, err));
    }
    order_ct(ws);
    accumulate(ws);
done:
    counter->close(&s);
    return rc;
}

int stat_owner(const struct es_evalset *set, int i_class) {
    return set->comm ? i_class % es_comm_size(set->comm) : 0;
}

int stat_each_class(const struct es_evalset *set, int64_t cap, stat_class_fn fn, void *ctx,
                    struct es_err *err) {
    const int size = set->comm ? es_comm_size(set->comm) : 1, rank = set->comm ? es_comm_rank(set->comm) : 0;
    int rc = 0, failed = set->n_classes; /* the class rc belongs to */
#pragma omp parallel
    {
        struct es_err mine = {0};
        struct stat_ws ws;
        const int ws_rc = stat_ws_init(&ws, set, cap, &mine);
#pragma omp for schedule(dynamic, 1)
        for (int k = rank; k < set->n_classes; k += size) {
            int my_rc = ws_rc < 0 ? ws_rc : fn(&ws, set, k, ctx, &mine);
            if (my_rc >= 0) continue;
#pragma omp critical(es_stat_each_class)
            if (k < failed) {
                failed = k;
                rc = es_err_set(err, (enum es_code) - my_rc, "%s", mine.msg);
            }
        }
        if (ws_rc == 0) stat_ws_fini(&ws);
    }
    return stat_agree(set, rc, err);
}

int stat_gather(const struct es_evalset *set, void *array, size_t item_bytes, struct es_err *err) {
    const int K = set->n_classes, size = set->comm ? es_comm_size(set->comm) : 1;
    if (size == 1) return 0;
    char *to = array, *all = es_alloc((size_t)size * (size_t)K, item_bytes, err);
    ES_TRY(es_err_agree_all(set->comm, all ? 0 : -ES_EIO, err));
    es_comm_allgather_all(set->comm, array, (size_t)K * item_bytes, all);
    for (int k = 0; k < K; k++)
        memcpy(to + (size_t)k * item_bytes,
               all + ((size_t)stat_owner(set, k) * (size_t)K + (size_t)k) * item_bytes, item_bytes);
    es_free(&all);
    return 0;
}
