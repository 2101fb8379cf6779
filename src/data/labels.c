#include "earshot/labels.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

const struct es_class es_classes[ES_N_CLASSES] = {
    {"Alarm_bell_ringing", 3, false},
    {"Blender", 9, false},
    {"Cat", 9, false},
    {"Dishes", 5, false},
    {"Dog", 5, false},
    {"Electric_shaver_toothbrush", 5, false},
    {"Frying", 9, false},
    {"Running_water", 7, false},
    {"Speech", 11, false},
    {"Vacuum_cleaner", 9, false},
    {"cutlery and dishes", 7, true},
    {"furniture dragging", 3, false},
    {"people talking", 9, true},
    {"children voices", 13, true},
    {"coffee machine", 7, false},
    {"footsteps", 1, true},
    {"large_vehicle", 13, true},
    {"car", 3, true},
    {"brakes_squeaking", 13, true},
    {"cash register beeping", 7, false},
    {"announcement", 5, false},
    {"shopping cart", 5, false},
    {"metro leaving", 1, true},
    {"metro approaching", 13, true},
    {"door opens/closes", 17, false},
    {"wind_blowing", 13, true},
    {"birds_singing", 15, true},
};

enum { DISHES = 3, SPEECH = 8, CUTLERY = 10, PEOPLE = 12, CHILDREN = 13, ANNOUNCEMENT = 20 };
#define DESED_BITS 0x000003ffu   /* 0..9 */
#define MAESTRO_BITS 0x07fffc00u /* 10..26 */
#define BIT(k) (1u << (k))

/* Sources in the order upstream works through them. */
struct alias {
    int from, to;
};
static const struct alias desed_aliases[] = {{DISHES, CUTLERY}, {SPEECH, PEOPLE}};
static const struct alias maestro_aliases[] = {
    {PEOPLE, SPEECH}, {CHILDREN, SPEECH}, {ANNOUNCEMENT, SPEECH}, {CUTLERY, DISHES}};

const struct es_label_grid es_grid_task4 = {16000, 256, 4, 156, 10.0};
const struct es_label_grid es_grid_audioset = {16000, 160, 4, 250, 10.0};

int es_class_find(const char *name) {
    for (int k = 0; k < ES_N_CLASSES; k++)
        if (strcmp(es_classes[k].name, name) == 0) return k;
    return -1;
}

static bool is_maestro(enum es_subset s) {
    return s == ES_SUBSET_MAESTRO || s == ES_SUBSET_MAESTRO_TEST;
}

/* Sets that are trained on; their validation part (split 1) is treated like a test set. */
static bool is_training(enum es_subset s, int split) {
    return split == 0 && s <= ES_SUBSET_UNLABELED;
}

uint32_t es_labels_mask(enum es_subset subset, int split) {
    if (is_maestro(subset)) return MAESTRO_BITS | BIT(DISHES) | BIT(SPEECH);
    return is_training(subset, split) ? DESED_BITS | BIT(CUTLERY) | BIT(PEOPLE) : DESED_BITS;
}

static const struct alias *aliases(enum es_subset subset, int split, int *n) {
    *n = 0;
    if (!is_training(subset, split)) return NULL;
    bool maestro = is_maestro(subset);
    *n = maestro ? 4 : 2;
    return maestro ? maestro_aliases : desed_aliases;
}

int es_labels_alias(enum es_subset subset, int split, const struct es_event *in, int n,
                    struct es_event *out) {
    int n_aliases, n_out = n;
    const struct alias *a = aliases(subset, split, &n_aliases);
    for (int i = 0; i < n; i++) out[i] = in[i];
    for (int j = 0; j < n_aliases; j++)
        for (int i = 0; i < n; i++)
            if (out[i].label == a[j].from) {
                out[n_out] = out[i];
                out[n_out++].label = a[j].to;
            }
    return n_out;
}

void es_labels_alias_weak(enum es_subset subset, int split, uint8_t *weak) {
    int n_aliases;
    const struct alias *a = aliases(subset, split, &n_aliases);
    for (int j = 0; j < n_aliases; j++)
        if (weak[a[j].from]) weak[a[j].to] = 1;
}

struct es_label_window es_labels_window(int64_t length_samples, int64_t want_samples, int rate_hz,
                                        int64_t drawn) {
    struct es_label_window w = {.n = length_samples};
    if (length_samples <= want_samples) return w;
    w.n = want_samples;
    w.start = drawn;
    w.onset_s = round((double)drawn / rate_hz * 1000.0) / 1000.0;
    return w;
}

int es_labels_process(const struct es_event *in, int n, double crop_s, double clip_s, struct es_event *out) {
    int n_out = 0;
    for (int i = 0; i < n; i++) {
        struct es_event e = in[i];
        e.onset_s = fmax(0.0, e.onset_s - crop_s);
        e.offset_s = fmin(clip_s, e.offset_s - crop_s);
        bool keep = e.onset_s < e.offset_s;
        for (int j = 0; keep && j < n_out; j++)
            keep = out[j].label != e.label || out[j].onset_s < e.onset_s || out[j].onset_s > e.onset_s ||
                   out[j].offset_s < e.offset_s || out[j].offset_s > e.offset_s ||
                   out[j].confidence < e.confidence || out[j].confidence > e.confidence;
        if (keep) out[n_out++] = e;
    }
    return n_out;
}

/* Double precision, in this order of operations: frame borders depend on it. */
static double frame_of(const struct es_label_grid *g, double t_s) {
    double f = t_s * g->rate_hz / g->hop_samples / g->pooling;
    return fmin(fmax(f, 0.0), g->n_frames);
}

void es_labels_encode(const struct es_event *e, int n, const struct es_label_grid *g, int n_classes, float *y,
                      int64_t stride_t, int64_t stride_k) {
    for (int t = 0; t < g->n_frames; t++)
        for (int k = 0; k < n_classes; k++) y[t * stride_t + k * stride_k] = 0.0f;
    for (int i = 0; i < n; i++) {
        if (e[i].label < 0 || e[i].label >= n_classes) continue;
        int first = (int)frame_of(g, e[i].onset_s), end = (int)ceil(frame_of(g, e[i].offset_s));
        for (int t = first; t < end; t++) y[t * stride_t + e[i].label * stride_k] = e[i].confidence;
    }
}

void es_labels_encode_weak(const int32_t *label, int n, int n_classes, float *y) {
    for (int k = 0; k < n_classes; k++) y[k] = n < 0 ? -1.0f : 0.0f;
    for (int i = 0; i < n; i++)
        if (label[i] >= 0 && label[i] < n_classes) y[label[i]] = 1.0f;
}

double es_labels_time(const struct es_label_grid *g, int i) {
    double t_s = (double)i * g->pooling / ((double)g->rate_hz / g->hop_samples);
    return fmin(fmax(t_s, 0.0), g->clip_s);
}

int es_labels_decode(const float *score, int64_t stride, float threshold, const struct es_label_grid *g,
                     int label, struct es_event *events) {
    int n = 0;
    for (int t = 0; t < g->n_frames;) {
        int end = t;
        while (end < g->n_frames && score[end * stride] > threshold) end++;
        if (end > t)
            events[n++] = (struct es_event){es_labels_time(g, t), es_labels_time(g, end), label, 1.0f};
        t = end + 1;
    }
    return n;
}

int es_labels_merge(struct es_event *e, int n) {
    for (int i = 1; i < n; i++) { /* insertion: stable, and clips hold tens of events */
        struct es_event x = e[i];
        int j = i;
        for (; j > 0 && e[j - 1].onset_s > x.onset_s; j--) e[j] = e[j - 1];
        e[j] = x;
    }
    int n_out = 0;
    for (int i = 0; i < n; i++) {
        int j = n_out - 1;
        while (j >= 0 && e[j].label != e[i].label) j--;
        if (j >= 0 && e[j].offset_s >= e[i].onset_s)
            e[j].offset_s = fmax(e[j].offset_s, e[i].offset_s);
        else
            e[n_out++] = e[i];
    }
    return n_out;
}
