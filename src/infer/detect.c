#include "earshot/detect.h"

#include <math.h>
#include <string.h>

#include "earshot/audio.h"
#include "earshot/events.h"
#include "earshot/labels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/resample.h"
#include "earshot/text.h"

enum { RATE_HZ = 16000, PIECE_S = 300, MARGIN_S = 1 };

/* ---- audio, piece by piece */

struct source {
    const char *path;
    struct es_audio_info info;
    int64_t n;     /* samples at 16 kHz */
    int64_t first; /* of the piece */
    float *piece;
    int64_t n_piece;
};

static int source_open(struct source *s, const char *path, struct es_err *err) {
    *s = (struct source){.path = path};
    ES_TRY(es_audio_info(path, &s->info, err));
    s->n = es_resample_length(s->info.n_samples, s->info.rate_hz, RATE_HZ);
    return 0;
}

/* The piece that begins in the second of sample `from`. A margin on either side keeps the resampler's edges out; whole seconds are
 * whole samples at any rate. */
static int source_load(struct source *s, int64_t from, struct es_err *err) {
    const int64_t begin_s = from / RATE_HZ, margin_s = begin_s > 0 ? MARGIN_S : 0, rate = s->info.rate_hz;
    float *in = NULL, *out = NULL;
    int64_t n_in = 0, n_out = 0;
    int rc = es_audio_read(s->path, (begin_s - margin_s) * rate, (PIECE_S + margin_s + MARGIN_S) * rate, &in,
                           &n_in, NULL, err);
    if (rc < 0) goto done;
    ES_GO(es_resample(in, n_in, s->info.rate_hz, RATE_HZ, &out, &n_out, err));
    es_free(&in);
    es_free(&s->piece);
    const int64_t skip = margin_s * RATE_HZ;
    s->first = begin_s * RATE_HZ;
    s->n_piece = n_out > skip ? n_out - skip : 0;
    if (s->n_piece > (int64_t)PIECE_S * RATE_HZ) s->n_piece = (int64_t)PIECE_S * RATE_HZ;
    if (s->first + s->n_piece > s->n) s->n_piece = s->n - s->first;
    memmove(out, out + skip, (size_t)s->n_piece * sizeof *out);
    s->piece = out;
    out = NULL;
    /* int16 and back, as a store holds it */
    for (int64_t i = 0; i < s->n_piece; i++) {
        int16_t pcm;
        es_pcm_from_float(&s->piece[i], 1, &pcm);
        es_pcm_to_float(&pcm, 1, &s->piece[i]);
    }
done:
    es_free(&out);
    es_free(&in);
    return rc;
}

/* Ten seconds from a sample on, silence behind the end. */
static int source_window(struct source *s, int64_t from, float *wave, struct es_err *err) {
    const int64_t end = from + ES_CLIP_SAMPLES < s->n ? from + ES_CLIP_SAMPLES : s->n;
    if (!s->piece || from < s->first || end > s->first + s->n_piece) ES_TRY(source_load(s, from, err));
    const int64_t n = end - from;
    if (end > s->first + s->n_piece)
        return es_err_set(err, ES_EDATA, "%s: got %lld samples at 16 kHz, want %lld as its header says",
                          s->path, (long long)(s->first + s->n_piece), (long long)s->n);
    memcpy(wave, s->piece + (from - s->first), (size_t)n * sizeof *wave);
    memset(wave + n, 0, (size_t)(ES_CLIP_SAMPLES - n) * sizeof *wave);
    return 0;
}

/* ---- windows */

static int frame_samples(const struct es_forward *f) {
    const struct es_label_grid *g =
        es_forward_frames(f) == es_grid_audioset.n_frames ? &es_grid_audioset : &es_grid_task4;
    return (int)((int64_t)g->hop_samples * g->pooling * RATE_HZ / g->rate_hz);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

struct mix {
    int64_t n_frames;
    int T, K, hop_frames;
    float *sum, *weight; /* [n_frames, K], [n_frames] */
};

/* Logits of the window at a frame, in order of windows: the sums do not depend on blocks. */
static void add_window(struct mix *m, int64_t first, const float *logits) {
    for (int i = 0; i < m->T && first + i < m->n_frames; i++) {
        const float w = (float)(i < m->T - 1 - i ? i + 1 : m->T - i);
        float *to = m->sum + (first + i) * m->K;
        m->weight[first + i] += w;
        for (int k = 0; k < m->K; k++) to[k] += w * logits[(int64_t)i * m->K + k];
    }
}

static int run_windows(struct mix *m, struct source *s, struct es_forward *f, struct es_err *err) {
    const int block = es_forward_block(f), samples = frame_samples(f);
    const int64_t hop = (int64_t)m->hop_frames * samples,
                  n_windows = s->n <= ES_CLIP_SAMPLES ? 1 : (s->n - ES_CLIP_SAMPLES + hop - 1) / hop + 1;
    float *logits = es_alloc((size_t)block * (size_t)m->T * (size_t)m->K, sizeof *logits, err);
    int rc = logits ? 0 : -ES_EIO;
    for (int64_t b = 0; b < n_windows && rc == 0; b += block) {
        const int n = n_windows - b < block ? (int)(n_windows - b) : block;
        for (int i = 0; i < n && rc == 0; i++)
            rc = source_window(s, (b + i) * hop, es_forward_waves(f) + (int64_t)i * ES_CLIP_SAMPLES, err);
        if (rc == 0) rc = es_forward_run(f, n, logits, NULL, err);
        for (int i = 0; i < n && rc == 0; i++)
            add_window(m, (b + i) * m->hop_frames, logits + (int64_t)i * m->T * m->K);
        es_watchdog_kick("detect", b);
        if (rc == 0 && es_stop_requested()) rc = ES_STOPPED;
    }
    es_free(&logits);
    return rc;
}

int es_detect_scores(struct es_scores **out, struct es_forward *f, const char *path,
                     const char *const *class_name, double hop_s, struct es_err *err) {
    struct source s = {0};
    struct mix m = {.T = es_forward_frames(f), .K = es_forward_classes(f)};
    const int samples = frame_samples(f);
    double *edges = NULL;
    const char *id = base_name(path);
    *out = NULL;
    if (!(hop_s > 0 && hop_s <= 10))
        return es_err_set(err, ES_EUSAGE, "detect: got a hop of %g s, want 0..10", hop_s);
    int rc = source_open(&s, path, err);
    if (rc < 0) goto done;
    m.hop_frames = (int)rint(hop_s * RATE_HZ / samples);
    if (m.hop_frames < 1) m.hop_frames = 1;
    if (m.hop_frames > m.T) m.hop_frames = m.T;
    m.n_frames = s.n / samples > 1 ? s.n / samples : 1;
    rc = -ES_EIO;
    m.sum = es_alloc((size_t)m.n_frames * (size_t)m.K, sizeof *m.sum, err);
    m.weight = es_alloc((size_t)m.n_frames, sizeof *m.weight, err);
    edges = es_alloc((size_t)m.n_frames + 1, sizeof *edges, err);
    if (!m.sum || !m.weight || !edges) goto done;
    rc = run_windows(&m, &s, f, err);
    if (rc != 0) goto done;
    for (int64_t i = 0; i < m.n_frames; i++)
        for (int k = 0; k < m.K; k++) m.sum[i * m.K + k] /= m.weight[i];
    es_sigmoid_f32(m.n_frames * m.K, m.sum);
    /* the times of es_labels_time: n * hop / rate, not a sum */
    for (int64_t i = 0; i <= m.n_frames; i++) edges[i] = (double)(i * samples) / RATE_HZ;
    const double dur_s = (double)s.info.n_samples / s.info.rate_hz;
    if (edges[m.n_frames] > dur_s) edges[m.n_frames] = dur_s;
    ES_GO(es_scores_from_array(out, 1, &id, es_int_from_i64(m.n_frames), edges, m.K, class_name, m.sum, path,
                               err));
    (*out)->own_values = m.sum;
    m.sum = NULL;
done:
    es_free(&edges);
    es_free(&m.weight);
    es_free(&m.sum);
    es_free(&s.piece);
    return rc;
}

/* ---- events */

/* Adds the events of one file. */
static int add_events(struct es_truth *events, const struct es_scores *scores,
                      const struct es_detect_params *p, struct es_err *err) {
    const struct es_postprocess *post = p->postprocess;
    struct es_truth *found = NULL;
    struct es_scores *filtered = NULL;
    int rc = 0;
    double *threshold = es_alloc((size_t)scores->n_classes, sizeof *threshold, err);
    if (!threshold) return -ES_EIO;
    for (int k = 0; k < scores->n_classes; k++) {
        const int at = post ? es_postprocess_find(post, scores->classes[k]) : -1;
        threshold[k] =
            at >= 0 && !isnan(post->classes[at].threshold) ? post->classes[at].threshold : p->threshold;
    }
    if (post && post->kind == ES_POST_CSEBB) {
        ES_GO(es_postprocess_boxes(&found, scores, post, NULL, err));
    } else {
        if (post) ES_GO(es_postprocess_apply(&filtered, scores, post, NULL, err));
        ES_GO(es_events_decode(&found, filtered ? filtered : scores, threshold, false, err));
    }
    ES_GO(es_truth_clip(events, scores->clips[0].id, err));
    for (int64_t i = 0; i < found->n_events; i++) {
        const struct es_truth_event *e = &found->events[i];
        const char *label = es_names_get(found->labels, e->label);
        if (!(e->confidence > threshold[es_scores_class(scores, label)])) continue;
        ES_GO(es_truth_event(events, scores->clips[0].id, label, e->onset_s, e->offset_s, e->confidence, i,
                             err));
    }
done:
    es_scores_free(&filtered);
    es_truth_free(&found);
    es_free(&threshold);
    return rc;
}

static int save_scores(const struct es_scores *scores, const char *dir, struct es_err *err) {
    struct es_text path = {0};
    const char *name = scores->clips[0].id, *dot = strrchr(name, '.');
    es_text_add(&path, "%s/%.*s.tsv", dir, (int)(dot ? dot - name : (long)strlen(name)), name);
    int rc = es_text_check(&path, err);
    if (rc == 0) rc = es_scores_save_tsv(scores, 0, path.s, err);
    es_text_free(&path);
    return rc;
}

struct packed { /* an event on its way to the other ranks */
    int32_t file, label;
    double onset_s, offset_s, score;
};

/* Events of all ranks in order of the files. label: index of the class. */
static int gather(struct es_truth **out, const struct es_comm *comm, const struct es_detect_params *p,
                  const struct packed *mine, int64_t n, struct es_err *err) {
    const int size = es_comm_size(comm);
    size_t *bytes = es_alloc((size_t)size, sizeof *bytes, err), total = 0, here = (size_t)n * sizeof *mine;
    struct packed *all = NULL;
    int64_t *at = es_alloc((size_t)size + 1, sizeof *at, err);
    int rc = es_err_agree_all(comm, bytes && at ? 0 : -ES_EIO, err);
    if (rc < 0) goto done;
    es_comm_allgather_all(comm, &here, sizeof here, bytes);
    for (int r = 0; r < size; r++) { /* at[r]: the next event of rank r */
        at[r] = (int64_t)(total / sizeof *all);
        total += bytes[r];
    }
    at[size] = (int64_t)(total / sizeof *all);
    all = es_alloc(1, total, err);
    ES_GO(es_err_agree_all(comm, all ? 0 : -ES_EIO, err));
    es_comm_allgatherv_all(comm, mine, bytes, all);
    ES_GO(es_truth_new(out, "detect", "", err));
    for (int i = 0; i < p->n_files && rc == 0; i++) {
        const int r = i % size;
        rc = es_truth_clip(*out, base_name(p->file[i]), err);
        for (; at[r] < at[size] && all[at[r]].file == i && rc == 0; at[r]++) {
            const struct packed *e = &all[at[r]];
            rc = es_truth_event(*out, base_name(p->file[i]), p->class_name[e->label], e->onset_s, e->offset_s,
                                e->score, i, err);
        }
    }
done:
    es_free(&all);
    es_free(&at);
    es_free(&bytes);
    return rc;
}

static int class_index(const struct es_detect_params *p, int K, const char *name) {
    int k = 0;
    while (k < K && strcmp(p->class_name[k], name) != 0) k++;
    return k;
}

int es_detect_all(struct es_truth **out, const struct es_comm *comm, struct es_forward *f,
                  const struct es_detect_params *p, struct es_err *err) {
    const int size = es_comm_size(comm), K = es_forward_classes(f);
    struct es_truth *mine = NULL;
    struct es_scores *scores = NULL;
    struct packed *packed = NULL;
    struct es_names *names = NULL;
    struct es_progress progress = {0};
    *out = NULL;
    int rc = es_names_new(&names, err);
    for (int i = 0; i < p->n_files && rc == 0; i++) {
        const int64_t at = es_names_add(names, base_name(p->file[i]), err);
        if (at < i)
            rc = at < 0 ? (int)at
                        : es_err_set(err, ES_EUSAGE, "%s: got two files of that name, want different ones",
                                     p->file[i]);
    }
    if (rc == 0) rc = es_truth_new(&mine, "detect", "", err);
    es_progress_begin(&progress, "detect");
    for (int i = es_comm_rank(comm); i < p->n_files && rc == 0; i += size) {
        rc = es_detect_scores(&scores, f, p->file[i], p->class_name, p->hop_s, err);
        if (rc == 0 && p->scores_dir) rc = save_scores(scores, p->scores_dir, err);
        const int64_t before = mine->n_events;
        if (rc == 0) rc = add_events(mine, scores, p, err);
        for (int64_t e = before; e < mine->n_events; e++) mine->events[e].row = i; /* its file */
        es_scores_free(&scores);
        es_progress_update(&progress, i + 1, p->n_files, "files", NULL);
    }
    es_progress_end(&progress);
    if (rc == 0) {
        packed = es_alloc((size_t)mine->n_events, sizeof *packed, err);
        if (!packed) rc = -ES_EIO;
    }
    rc = es_err_agree_all(comm, rc, err);
    if (rc != 0) goto done;
    for (int64_t i = 0; i < mine->n_events; i++) {
        const struct es_truth_event *e = &mine->events[i];
        packed[i] = (struct packed){.file = (int32_t)e->row,
                                    .label = class_index(p, K, es_names_get(mine->labels, e->label)),
                                    .onset_s = e->onset_s,
                                    .offset_s = e->offset_s,
                                    .score = e->confidence};
    }
    rc = gather(out, comm, p, packed, mine->n_events, err);
    rc = es_err_agree_all(comm, rc, err);
done:
    es_free(&packed);
    es_scores_free(&scores);
    es_truth_free(&mine);
    es_names_free(&names);
    if (rc != 0) es_truth_free(out);
    return rc;
}
