/* Labels: encoding, cropping, decoding, the median filter, class aliases. */
#include "earshot/labels.h"
#include "earshot/median.h"

#include "runner.h"

static struct es_label_grid grid(const struct rn_case *c) {
    struct es_label_grid g = {.rate_hz = rn_int(c, "sample_rate", 16000),
                              .hop_samples = rn_int(c, "hop", 256),
                              .pooling = rn_int(c, "net_pooling", 4),
                              .n_frames = rn_int(c, "n_frames", rn_int(c, "frames", 0))};
    g.clip_s = rn_num(c, "audio_len", rn_num(c, "crop_offset", 10) - rn_num(c, "crop_onset", 0));
    return g;
}

/* [n,4] class, onset, offset, confidence; room for more events behind. */
static struct es_event *events(const struct rn_case *c, const char *rel, int *n) {
    int64_t shape[4];
    const bool used = !rn_is(c, "confidence", "ignored");
    const double *v = rn_own64(c, rel, shape);
    if (!v) return NULL;
    *n = (int)shape[0];
    struct es_event *e = rn_hold(c, 2 * (size_t)*n + 1, sizeof *e);
    for (int i = 0; i < *n; i++)
        e[i] = (struct es_event){v[4 * i + 1], v[4 * i + 2], (int32_t)v[4 * i],
                                 used ? (float)v[4 * i + 3] : 1.0f};
    return e;
}

static void put_encoded(struct rn_case *c, const char *rel, const struct es_event *e, int n) {
    const struct es_label_grid g = grid(c);
    int64_t shape[4];
    if (!rn_own(c, rel, shape)) return;
    const int64_t K = shape[1];
    float *y = rn_hold(c, (size_t)(g.n_frames * K), sizeof *y);
    es_labels_encode(e, n, &g, (int)K, y, K, 1);
    rn_put_f32(c, rel, y, g.n_frames * K);
}

static void encode_strong(struct rn_case *c) {
    int n;
    const struct es_event *e = events(c, "events", &n);
    const char *y = rn_get(c, "out.y");
    if (e && y && strrchr(y, '/')) put_encoded(c, strrchr(y, '/') + 1, e, n);
}

static void process(struct rn_case *c) {
    int n;
    int64_t shape[4];
    struct es_event *e = events(c, "events", &n);
    const double *in = rn_own64(c, "events", shape);
    if (!e) return;
    n = es_labels_process(e, n, rn_num(c, "crop_onset", 0), grid(c).clip_s, e);
    double *v = rn_hold(c, 4 * (size_t)n + 1, sizeof *v);
    for (int i = 0; i < n; i++) {
        v[4 * i] = e[i].label;
        v[4 * i + 1] = e[i].onset_s;
        v[4 * i + 2] = e[i].offset_s;
        v[4 * i + 3] = (double)e[i].confidence; /* the program keeps float32: the number it was read from */
        for (int64_t k = 0; k < shape[0]; k++)
            if ((float)in[4 * k + 3] == e[i].confidence) v[4 * i + 3] = in[4 * k + 3];
    }
    rn_put(c, "events_after", v, 4 * (int64_t)n);
    put_encoded(c, "y_df", e, n);
}

static void encode_weak(struct rn_case *c) {
    int64_t shape[4];
    const double *k = rn_own64(c, "classes", shape);
    if (!k) return;
    const int n = (int)shape[0], n_classes = rn_int(c, "n_classes", ES_N_CLASSES);
    int32_t *label = rn_hold(c, (size_t)n + 1, sizeof *label);
    float *y = rn_hold(c, (size_t)n_classes, sizeof *y);
    for (int i = 0; i < n; i++) label[i] = (int32_t)k[i];
    es_labels_encode_weak(label, n, n_classes, y);
    rn_put_f32(c, "y", y, n_classes);
}

static void encode_weak_empty(struct rn_case *c) {
    int64_t shape[4];
    const float *r = rn_own(c, "empty_string_marker_y", shape);
    if (!r) return;
    float *y = rn_hold(c, (size_t)rn_size(shape), sizeof *y);
    es_labels_encode_weak(NULL, -1, (int)rn_size(shape), y);
    rn_put_f32(c, "empty_string_marker_y", y, rn_size(shape));
}

/* A clip cut at a drawn place, or with silence behind. */
static void pad_audio(struct rn_case *c) {
    int64_t shape[4];
    const float *x = rn_own(c, "in", shape);
    const double *draw = rn_own64(c, "draw", NULL);
    if (!x || !draw) return;
    const int64_t want = rn_int(c, "target_len", 0);
    const int rate = rn_int(c, "sample_rate", 16000);
    const struct es_label_window w = es_labels_window(rn_size(shape), want, rate, (int64_t)draw[0]);
    float *out = rn_hold(c, (size_t)want, sizeof *out);
    memcpy(out, x + w.start, (size_t)w.n * sizeof *out);
    rn_put_f32(c, "out", out, want);
    /* events are cut at the end of the window; upstream's last number is 1 for every clip that it returns */
    const double end_s = round((w.onset_s + (double)want / rate) * 1000) / 1000;
    rn_put(c, "fs_onset_offset_padded", (double[]){rate, w.onset_s, end_s, 1}, 4);
}

/* x [n_rows, T, K] filtered along T with a window a class. */
static void filter(struct rn_case *c, double *x, int64_t n_rows, int T, int K, const double *window) {
    double *in = rn_hold(c, (size_t)T, sizeof *in), *out = rn_hold(c, (size_t)T, sizeof *out);
    for (int64_t r = 0; r < n_rows; r++)
        for (int k = 0; k < K; k++) {
            double *ws = rn_hold(c, (size_t)window[k] + 1, sizeof *ws);
            for (int t = 0; t < T; t++) in[t] = x[(r * T + t) * K + k];
            es_median_filter(T, (int)window[k], in, out, ws);
            for (int t = 0; t < T; t++) x[(r * T + t) * K + k] = out[t];
        }
}

static void median(struct rn_case *c) {
    int64_t shape[4];
    double *x = rn_own64(c, "in", shape);
    if (!x) return;
    double *window = rn_hold(c, (size_t)shape[1], sizeof *window);
    for (int64_t k = 0; k < shape[1]; k++) window[k] = rn_num(c, "length", 1);
    filter(c, x, 1, (int)shape[0], (int)shape[1], window);
    rn_put(c, "out", x, shape[0] * shape[1]);
}

static void decode(struct rn_case *c) {
    const struct es_label_grid g = grid(c);
    const char *preds = rn_get(c, "preds"), *thresholds = rn_get(c, "thresholds"),
               *w = rn_get(c, "median_window");
    int64_t shape[4], n_thr[4];
    const double *p = preds ? rn_read64(c, preds, shape) : NULL,
                 *thr = thresholds ? rn_read64(c, thresholds, n_thr) : NULL;
    const double *window = w && strcmp(w, "none") != 0 ? rn_read64(c, w, NULL) : NULL;
    if (!p || !thr || shape[2] != g.n_frames) {
        rn_skip(c, "predictions or thresholds are not there");
        return;
    }
    const int64_t B = shape[0], K = shape[1], T = shape[2];
    double *x = rn_hold(c, (size_t)(B * K * T), sizeof *x);
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < T; t++)
            for (int64_t k = 0; k < K; k++) x[(b * T + t) * K + k] = p[(b * K + k) * T + t];
    if (window) filter(c, x, B, (int)T, (int)K, window);
    rn_put(c, "scores", x, B * K * T);
    float *score = rn_hold(c, (size_t)(B * K * T), sizeof *score);
    for (int64_t i = 0; i < B * K * T; i++) score[i] = (float)x[i];
    const size_t most = (size_t)(n_thr[0] * B * K) * (size_t)(T / 2 + 1);
    double *v = rn_hold(c, 5 * most, sizeof *v);
    struct es_event *e = rn_hold(c, (size_t)T, sizeof *e);
    int64_t at = 0;
    for (int64_t s = 0; s < n_thr[0]; s++)
        for (int64_t b = 0; b < B; b++)
            for (int64_t k = 0; k < K; k++) {
                int n = es_labels_decode(score + b * T * K + k, K, (float)thr[s], &g, (int)k, e);
                for (int i = 0; i < n; i++, at++) {
                    const double row[5] = {(double)s, (double)b, (double)k, e[i].onset_s, e[i].offset_s};
                    memcpy(v + 5 * at, row, sizeof row);
                }
            }
    rn_put(c, "events_thr_clip_class_onset_offset", v, 5 * at);
}

void rn_case_labels(struct rn_case *c) {
    static const struct {
        const char *kind;
        rn_kind_fn run;
    } kinds[] = {{"encode_strong", encode_strong},
                 {"process_labels", process},
                 {"encode_weak", encode_weak},
                 {"encode_weak_empty", encode_weak_empty},
                 {"pad_audio", pad_audio},
                 {"median_filter", median},
                 {"decode", decode}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (rn_is(c, "kind", kinds[i].kind)) kinds[i].run(c);
    if (rn_is(c, "kind", "label_encoder"))
        rn_put(c, "n_frames", (double[]){es_grid_task4.n_frames, es_grid_audioset.n_frames}, 2);
    if (rn_is(c, "kind", "shared_inputs") && rn_has(c, "timestamps")) {
        const struct es_label_grid g = grid(c);
        double *t = rn_hold(c, (size_t)g.n_frames + 1, sizeof *t);
        for (int i = 0; i <= g.n_frames; i++) t[i] = es_labels_time(&g, i);
        rn_put(c, "timestamps", t, g.n_frames + 1);
    }
}

/* ---- alias_tables.txt: blocks "## <name> input|output", each a table with a header */
enum { ROWS = 256, FIELD = 64 };
struct block {
    int n, n_columns;
    char header[4][FIELD], text[ROWS][4][3 * FIELD];
};

static bool read_block(const char *path, const char *section, struct block *b) {
    char line[1024];
    bool inside = false, header = false;
    FILE *in = fopen(path, "r");
    memset(b, 0, sizeof *b);
    while (in && fgets(line, sizeof line, in)) {
        line[strcspn(line, "\r\n")] = 0;
        if (strncmp(line, "## ", 3) == 0) {
            inside = header = strcmp(line + 3, section) == 0;
            continue;
        }
        if (!inside || !*line || b->n == ROWS) continue;
        int k = 0;
        for (char *at = line; at && k < 4; k++) {
            char *tab = strchr(at, '\t');
            if (tab) *tab++ = 0;
            if (header)
                snprintf(b->header[k], FIELD, "%s", at);
            else
                snprintf(b->text[b->n][k], sizeof b->text[0][0], "%s", at);
            at = tab;
        }
        if (header) b->n_columns = k;
        b->n += !header;
        header = false;
    }
    if (in) fclose(in);
    return b->n_columns > 0;
}

static const char *label_name(const struct block *b, int label, int column) {
    return label < ES_N_CLASSES ? es_classes[label].name : b->text[label - ES_N_CLASSES][column];
}

/* Events: rows, then their duplicates; `confidence` carries the row. Labels of other classes keep their row. */
static void alias_events(const struct block *in, enum es_subset subset, struct block *out) {
    struct es_event e[ROWS], a[2 * ROWS];
    for (int i = 0; i < in->n; i++) {
        int k = es_class_find(in->text[i][3]);
        e[i] = (struct es_event){strtod(in->text[i][1], NULL), strtod(in->text[i][2], NULL),
                                 k < 0 ? ES_N_CLASSES + i : k, (float)i};
    }
    int n = es_labels_alias(subset, 0, e, in->n, a);
    out->n = n < ROWS ? n : ROWS;
    for (int i = 0; i < out->n; i++) {
        const int from = (int)a[i].confidence;
        memcpy(out->text[i], in->text[from], sizeof out->text[i]);
        snprintf(out->text[i][3], sizeof out->text[i][3], "%s", label_name(in, a[i].label, 3));
    }
}

/* Lists of classes: what is there, then new ones in the order of aliasing (sorted: cutlery and dishes, people talking). */
static void alias_weak(const struct block *in, struct block *out) {
    out->n = in->n;
    for (int i = 0; i < in->n; i++) {
        uint8_t before[ES_N_CLASSES] = {0}, weak[ES_N_CLASSES];
        char item[FIELD];
        for (int k = 0; rn_item(in->text[i][1], k, item, sizeof item); k++)
            if (es_class_find(item) >= 0) before[es_class_find(item)] = 1;
        memcpy(weak, before, sizeof weak);
        es_labels_alias_weak(ES_SUBSET_WEAK, 0, weak);
        memcpy(out->text[i], in->text[i], sizeof out->text[i]);
        for (int k = 0; k < ES_N_CLASSES; k++) {
            size_t len = strlen(out->text[i][1]);
            if (weak[k] && !before[k])
                snprintf(out->text[i][1] + len, sizeof out->text[i][1] - len, "%s%s", len ? "," : "",
                         es_classes[k].name);
        }
    }
}

/* A class list as a set: its members in the classes' order. */
static void in_order(const char *list, char *out, size_t size) {
    char item[FIELD];
    size_t len = 0;
    *out = 0;
    for (int c = 0; c < ES_N_CLASSES; c++)
        for (int k = 0; rn_item(list, k, item, sizeof item); k++)
            if (es_class_find(item) == c) len += (size_t)snprintf(out + len, size - len, "%s,", item);
}

static bool same(const char *header, const char *a, const char *b) {
    char x[4 * FIELD], y[4 * FIELD];
    if (strcmp(header, "onset") == 0 || strcmp(header, "offset") == 0)
        return strtod(a, NULL) == strtod(b, NULL);
    if (strcmp(header, "event_labels") != 0) return strcmp(a, b) == 0;
    in_order(a, x, sizeof x);
    in_order(b, y, sizeof y);
    return strcmp(x, y) == 0;
}

void rn_case_alias_tables(struct rn_case *c) {
    static const struct {
        const char *name;
        enum es_subset subset;
    } known[] = {{"desed_to_maestro", ES_SUBSET_STRONG_REAL},
                 {"maestro_to_desed", ES_SUBSET_MAESTRO},
                 {"weak", ES_SUBSET_WEAK}};
    char path[1200], line[1024];
    struct block *in = rn_hold(c, 1, sizeof *in), *want = rn_hold(c, 1, sizeof *want),
                 *got = rn_hold(c, 1, sizeof *got);
    snprintf(path, sizeof path, "%s/%s", c->run->dir, c->file_name);
    FILE *f = fopen(path, "r");
    const char *criterion = rn_criterion(c->run, rn_rule(c, c->file_name, "filename"));
    while (f && criterion && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = 0;
        char *end = strrchr(line, ' ');
        if (strncmp(line, "## ", 3) != 0 || !end || strcmp(end, " output") != 0) continue;
        size_t k = 0;
        char section[200];
        *end = 0;
        while (k < 3 && strcmp(known[k].name, line + 3) != 0) k++;
        snprintf(section, sizeof section, "%s input", line + 3);
        bool ok = read_block(path, section, in);
        snprintf(section, sizeof section, "%s output", line + 3);
        if (k == 3 || !ok || !read_block(path, section, want)) {
            rn_report_skip(c->run, c->file_name, c->group, section,
                           "the program has no aliasing of this name");
            continue;
        }
        memset(got, 0, sizeof *got);
        if (known[k].subset == ES_SUBSET_WEAK)
            alias_weak(in, got);
        else
            alias_events(in, known[k].subset, got);
        for (int col = 0; col < want->n_columns; col++) {
            char quantity[300];
            double wrong = abs(want->n - got->n);
            for (int i = 0; i < want->n && i < got->n; i++)
                wrong += !same(want->header[col], got->text[i][col], want->text[i][col]);
            snprintf(quantity, sizeof quantity, "%s/%s", section, want->header[col]);
            rn_report(c->run, &(struct rn_result){c->file_name, c->group, quantity, want->n, wrong, wrong,
                                                  criterion, wrong == 0});
        }
    }
    if (f) fclose(f);
}
