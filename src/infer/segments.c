/* Segments: every piece of segment_s of every clip is one binary sample of a class (spec section 9.1). */
#include <math.h>

#include "evaluate_impl.h"

static int64_t clip_segments(const struct eval_clip *clip, double segment_s) {
    return isinf(segment_s) ? 1 : (int64_t)ceil(clip->dur_s / segment_s);
}

int64_t segments_count(const struct es_evalset *set, double segment_s) {
    int64_t n = 0;
    for (int64_t i = 0; i < set->n_clips; i++) n += clip_segments(&set->clips[i], segment_s);
    return n;
}

/* Score of a segment: the largest of its frames, 0 where there is none. Label: any event of the class in it,
 * however short. */
int segments_class(struct stat_ws *ws, const struct es_evalset *set, int i_class, double segment_s,
                   struct es_err *err) {
    (void)err;
    const bool narrow = !set->scores->is_double;
    int64_t n = 0;
    for (int64_t i = 0; i < set->n_clips; i++) {
        const struct eval_clip *clip = &set->clips[i];
        const int N = clip->n_frames;
        const int64_t n_segments = clip_segments(clip, segment_s);
        es_scores_column(set->scores, clip->source, set->column[i_class], ws->column);
        int after = 0, end = 0; /* first edges > begin and >= end of the segment, in microseconds */
        double from = 0;
        for (int64_t k = 0; k < n_segments; k++) {
            const double to = eval_micro((double)(k + 1) * segment_s);
            while (after <= N && eval_micro(clip->edges_s[after]) <= from) after++;
            while (end <= N && eval_micro(clip->edges_s[end]) < to) end++;
            const int first = after > 0 ? after - 1 : 0, last = end < N ? end : N;
            double score = first < last ? ws->column[first] : 0;
            for (int j = first + 1; j < last; j++)
                if (ws->column[j] > score) score = ws->column[j];
            int label = 0;
            for (int64_t e = clip->ev_begin; e < clip->ev_end && !label; e++) {
                const struct eval_event *ev = &set->events[e];
                label = ev->i_class == i_class && ev->onset_s < to / 1e6 && ev->offset_s > from / 1e6;
            }
            ws->item[n++] = (struct stat_item){.key = stat_key(score, narrow), .value = label};
            from = to;
        }
    }
    const struct stat_item *item = stat_sort(ws, n, narrow);
    int64_t level = -1;
    int32_t tp = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || item[i].key != item[i - 1].key) ws->score[++level] = stat_score(item[i].key, narrow);
        tp += item[i].value;
        ws->tp[level] = tp;
        ws->fp[level] = (int32_t)(i + 1) - tp;
    }
    ws->n_levels = level + 1;
    ws->n_ct = 0;
    return 0;
}
