/* Tables of the corpora -> clips, events and files. No audio is touched here. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "earshot/h5.h"
#include "earshot/mem.h"

#include "prepare_impl.h"

static bool given(const char *path) {
    return path && path[0];
}
bool prep_is_test(enum es_subset s) {
    return s > ES_SUBSET_UNLABELED && s != ES_SUBSET_AS_TRAIN;
}
bool prep_is_maestro(enum es_subset s) {
    return s == ES_SUBSET_MAESTRO || s == ES_SUBSET_MAESTRO_TEST;
}
bool prep_is_audioset(enum es_subset s) {
    return s == ES_SUBSET_AS_TRAIN || s == ES_SUBSET_AS_EVAL;
}
static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool has_annotations(const struct es_prepare_source *s) {
    return prep_is_maestro(s->subset) && given(s->labels) && is_folder(s->labels);
}

/* ---- growing arrays */

const char *prep_own(struct prep *x, const char *text, struct es_err *err) {
    int64_t i = es_names_add(x->text, text, err);
    return i < 0 ? NULL : es_names_get(x->text, i);
}

/* Room for one more item in *block; returns the place of item n. */
static void *room(void *block, int64_t n, int64_t *cap, size_t size, struct es_err *err) {
    char *now, *bigger;
    memcpy(&now, block, sizeof now);
    if (n == *cap) {
        int64_t more = *cap ? 2 * *cap : 256;
        bigger = es_alloc((size_t)more, size, err);
        if (!bigger) return NULL;
        if (n) memcpy(bigger, now, (size_t)n * size);
        es_free(&now);
        memcpy(block, &bigger, sizeof bigger);
        *cap = more;
        now = bigger;
    }
    return now + (size_t)n * size;
}

int64_t prep_add_clip(struct prep *x, const struct prep_clip *c, struct es_err *err) {
    struct prep_clip *at = room(&x->clip, x->n_clips, &x->cap_clips, sizeof *at, err);
    if (!at) return -ES_EIO;
    *at = *c;
    return x->n_clips++;
}

int prep_add_event(struct prep *x, int64_t clip, const struct es_event *e, struct es_err *err) {
    struct prep_event *at = room(&x->event, x->n_events, &x->cap_events, sizeof *at, err);
    if (!at) return -ES_EIO;
    *at = (struct prep_event){clip, *e};
    x->n_events++;
    return 0;
}

static int add_mark(struct prep *x, int64_t clip, int label, struct es_err *err) {
    struct prep_mark *at = room(&x->mark, x->n_marks, &x->cap_marks, sizeof *at, err);
    if (!at) return -ES_EIO;
    *at = (struct prep_mark){clip, label};
    x->n_marks++;
    return 0;
}

/* The file of this name, added when new. */
static int64_t add_file(struct prep *x, const struct prep_file *f, const char *name, struct es_err *err) {
    char key[PATH_MAX];
    snprintf(key, sizeof key, "%s\t%s", f->dir[0], name);
    int64_t i = es_names_add(x->file_key, key, err);
    if (i < 0 || i < x->n_files) return i;
    struct prep_file *at = room(&x->file, x->n_files, &x->cap_files, sizeof *at, err);
    if (!at) return -ES_EIO;
    *at = *f;
    at->found = PREP_MISSING;
    return x->n_files++;
}

/* ---- names */

static int compare_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *prep_stem(struct prep *x, const char *filename, struct es_err *err) {
    static const char *const extensions[] = {".wav", ".flac", ".mp3", ".ogg"};
    char stem[PATH_MAX];
    snprintf(stem, sizeof stem, "%s", filename);
    char *dot = strrchr(stem, '.');
    for (int i = 0; dot && i < 4; i++)
        if (strcasecmp(dot, extensions[i]) == 0) {
            *dot = 0;
            break;
        }
    return prep_own(x, stem, err);
}

/* Text before the first '-' of a window's name, or the name. */
static const char *recording_of(struct prep *x, const char *stem, struct es_err *err) {
    char text[PATH_MAX];
    snprintf(text, sizeof text, "%.*s", (int)strcspn(stem, "-"), stem);
    return prep_own(x, text, err);
}

static const char *scene_of(struct prep *x, const char *recording, struct es_err *err) {
    char text[PATH_MAX];
    snprintf(text, sizeof text, "%s", recording);
    char *underscore = strrchr(text, '_');
    if (underscore) *underscore = 0;
    return prep_own(x, text, err);
}

/* ---- durations */

static int read_durations(const struct es_prepare_source *s, struct es_names **names, double **duration_s,
                          struct prep *x, struct es_err *err) {
    static const char *const columns[] = {"filename", "duration"};
    struct es_tsv *t = NULL;
    int rc = es_names_new(names, err);
    *duration_s = NULL;
    if (rc < 0 || !given(s->durations) || prep_is_maestro(s->subset))
        return rc; /* MAESTRO: of recordings, not of windows */
    ES_GO(es_tsv_open(&t, s->durations, columns, 2, ES_TSV_KEEP_ROWS, err));
    *duration_s = es_alloc((size_t)es_tsv_rows(t), sizeof **duration_s, err);
    if (!*duration_s) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        double d = 0;
        rc = es_tsv_row_check(t, i, err);
        if (rc == 0) rc = es_tsv_number(t, i, 1, &d, err);
        if (rc == 0 && d <= 0) rc = es_tsv_wrong(t, i, 1, "a duration above 0 seconds", err);
        ES_GO(prep_problem(x, rc, err));
        if (rc > 0) continue; /* then the audio tells */
        const char *stem = prep_stem(x, es_tsv_text(t, i, 0), err);
        int64_t at = stem ? es_names_add(*names, stem, err) : -ES_EIO;
        if (at < 0) ES_GO(-ES_EIO);
        (*duration_s)[at] = d;
    }
    rc = 0;
done:
    es_tsv_close(&t);
    return rc;
}

/* ---- one source */

struct reader {
    struct prep *x;
    const struct es_prepare_source *s;
    int source;
    struct es_names *durations, *clips; /* clips: key of each clip of this source, index first_clip + i */
    double *duration_s;
    int64_t first_clip;
    bool cut;                          /* MAESTRO: windows are cut from recordings */
    struct es_names *hdf[PREP_PLACES]; /* names in .hdf files of mp3s */
};

static struct prep_file file_for(const struct reader *r, const char *table, int64_t line) {
    return (struct prep_file){.dir = {r->s->audio, given(r->s->more_audio) ? r->s->more_audio : NULL},
                              .table = table,
                              .line = line,
                              .source = r->source,
                              .hdf_row = -1};
}

/* Row of a name in an .hdf of mp3s: <name>.mp3, in the large set behind a two-digit folder. */
static void find_in_hdf(const struct reader *r, struct prep_file *f) {
    for (int k = 0; k < PREP_PLACES && f->hdf_row < 0; k++)
        for (int i = 0; r->hdf[k] && i < PREP_STEMS && f->stem[i] && f->hdf_row < 0; i++) {
            f->hdf_row = es_names_find(r->hdf[k], f->stem[i]);
            f->place = k;
        }
}

static int64_t new_clip(struct reader *r, const char *stem, struct prep_file *f, struct es_err *err) {
    struct prep *x = r->x;
    bool maestro = prep_is_maestro(r->s->subset);
    struct prep_clip c = {.name = stem,
                          .recording = "",
                          .file = -1,
                          .line = f->line,
                          .end_cs = -1,
                          .duration_s = -1,
                          .source = (uint8_t)r->source,
                          .subset = (uint8_t)r->s->subset};
    c.split = prep_is_test(r->s->subset) ? 1 : (uint8_t)r->s->split;
    int64_t d = es_names_find(r->durations, stem);
    if (d >= 0) c.duration_s = r->duration_s[d];
    if (maestro && !(c.recording = recording_of(x, stem, err))) return -ES_EIO;
    if (r->cut && !prep_window_name(stem, &c.start_cs, &c.end_cs)) {
        es_err_set(err, ES_EDATA,
                   "%s:%lld: filename: got \"%s\", want <recording>-<start>-<end>.wav with times in 1/100 s",
                   f->table, (long long)f->line, stem);
        ES_TRY(prep_problem(x, -ES_EDATA, err));
        c.out = ES_PREPARE_BAD_ROW;
        return prep_add_clip(x, &c, err);
    }
    if (r->cut) {
        f->stem[0] = c.recording;
        if (!(f->sub = scene_of(x, c.recording, err))) return -ES_EIO;
        c.file = add_file(x, f, c.recording, err);
    } else {
        if (!f->stem[0]) f->stem[0] = stem;
        find_in_hdf(r, f);
        c.file = add_file(x, f, stem, err);
    }
    return c.file < 0 ? c.file : prep_add_clip(x, &c, err);
}

/* A row that makes no sense: the error when strict; else it is listed and its clip (>= 0) left out. */
static int bad_row(struct prep *x, int64_t clip, int rc, struct es_err *err) {
    rc = prep_problem(x, rc, err);
    if (rc > 0 && clip >= 0) x->clip[clip].out = ES_PREPARE_BAD_ROW;
    return rc < 0 ? rc : 0;
}

/* The clip of a row: found, or new. */
static int64_t clip_of(struct reader *r, const char *stem, struct prep_file *f, struct es_err *err) {
    int64_t known = es_names_count(r->clips), i = es_names_add(r->clips, stem, err);
    if (i < 0) return i;
    if (i < known) return r->first_clip + i;
    return new_clip(r, stem, f, err);
}

/* Are the windows files of their own? The first row's tells. */
static bool windows_are_cut(const struct es_prepare_source *s, const char *stem) {
    struct prep_file f = {.dir = {s->audio}, .stem = {stem}, .hdf_row = -1};
    char path[PATH_MAX];
    for (int i = 0; prep_candidate(&f, i, path, PATH_MAX); i++)
        if (access(path, F_OK) == 0) return false;
    int64_t a, b;
    return prep_window_name(stem, &a, &b);
}

enum { FILENAME, ONSET, OFFSET, LABEL, CONFIDENCE };

/* One event of a clip. */
static int strong_row(struct reader *r, const struct es_tsv *t, int64_t i, int64_t clip, struct es_err *err) {
    struct es_event e = {0};
    double confidence = 1.0;
    ES_TRY(es_tsv_row_check(t, i, err));
    ES_TRY(es_tsv_times(t, i, ONSET, OFFSET, &e.onset_s, &e.offset_s, err));
    ES_TRY(prep_class(r->x, t, i, LABEL, &e.label, err));
    if (es_tsv_has(t, CONFIDENCE)) ES_TRY(es_tsv_number(t, i, CONFIDENCE, &confidence, err));
    if (confidence < 0 || confidence > 1) return es_tsv_wrong(t, i, CONFIDENCE, "a number in 0..1", err);
    e.confidence = (float)confidence;
    return prep_add_event(r->x, clip, &e, err);
}

/* Training clips that only have a row without an event are known by name alone. */
static int add_empty(struct reader *r, const struct es_names *empty, struct es_err *err) {
    for (int64_t i = 0; i < es_names_count(empty); i++) {
        struct prep_clip c = {.name = es_names_get(empty, i),
                              .recording = "",
                              .file = -1,
                              .end_cs = -1,
                              .source = (uint8_t)r->source,
                              .subset = (uint8_t)r->s->subset,
                              .out = ES_PREPARE_EMPTY};
        if (es_names_find(r->clips, c.name) >= 0) continue;
        if (!(c.name = prep_own(r->x, c.name, err)) || prep_add_clip(r->x, &c, err) < 0) return -ES_EIO;
    }
    return 0;
}

static int read_strong(struct reader *r, struct es_err *err) {
    static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?confidence"};
    struct es_tsv *t = NULL;
    struct es_names *empty = NULL;
    int rc;
    ES_GO(es_names_new(&empty, err));
    ES_GO(es_tsv_open(&t, r->s->labels, columns, 5, ES_TSV_KEEP_ROWS, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        struct prep_file f = file_for(r, r->s->labels, es_tsv_line(t, i));
        const char *stem = prep_stem(r->x, es_tsv_text(t, i, FILENAME), err);
        if (!stem) ES_GO(-ES_EIO);
        if (!stem[0]) {
            ES_GO(bad_row(r->x, -1, es_tsv_wrong(t, i, FILENAME, "the name of an audio file", err), err));
            continue;
        }
        if (i == 0 && prep_is_maestro(r->s->subset)) r->cut = windows_are_cut(r->s, stem);
        bool no_event = es_tsv_row_check(t, i, NULL) == 0 && !es_tsv_text(t, i, ONSET)[0] &&
                        !es_tsv_text(t, i, OFFSET)[0] && !es_tsv_text(t, i, LABEL)[0];
        if (no_event && !prep_is_test(r->s->subset)) {
            if (es_names_add(empty, stem, err) < 0) ES_GO(-ES_EIO);
            continue;
        }
        int64_t clip = clip_of(r, stem, &f, err);
        if (clip < 0) ES_GO((int)clip);
        if (!no_event) ES_GO(bad_row(r->x, clip, strong_row(r, t, i, clip, err), err));
    }
    ES_GO(add_empty(r, empty, err));
done:
    es_tsv_close(&t);
    es_names_free(&empty);
    return rc;
}

static int weak_row(struct reader *r, const struct es_tsv *t, int64_t i, int64_t clip, struct es_err *err) {
    char list[4096], *save = NULL;
    int n = 0;
    ES_TRY(es_tsv_row_check(t, i, err));
    snprintf(list, sizeof list, "%s", es_tsv_text(t, i, 1));
    for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save), n++) {
        int64_t label = es_names_find(r->x->classes, name);
        if (label < 0) return es_tsv_wrong(t, i, 1, "names of the 27 classes with commas between them", err);
        ES_TRY(add_mark(r->x, clip, (int)label, err));
    }
    return n > 0 ? 0 : es_tsv_wrong(t, i, 1, "at least one class", err);
}

static int read_weak(struct reader *r, struct es_err *err) {
    static const char *const columns[] = {"filename", "event_labels"};
    struct es_tsv *t = NULL;
    int rc;
    ES_GO(es_tsv_open(&t, r->s->labels, columns, 2, ES_TSV_KEEP_ROWS, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        struct prep_file f = file_for(r, r->s->labels, es_tsv_line(t, i));
        int64_t before = r->x->n_clips;
        const char *stem = prep_stem(r->x, es_tsv_text(t, i, 0), err);
        if (!stem) ES_GO(-ES_EIO);
        if (!stem[0]) {
            ES_GO(bad_row(r->x, -1, es_tsv_wrong(t, i, 0, "the name of an audio file", err), err));
            continue;
        }
        int64_t clip = clip_of(r, stem, &f, err);
        if (clip < 0) ES_GO((int)clip);
        if (r->x->n_clips == before) /* the first row counts */
            ES_GO(bad_row(r->x, -1, es_tsv_wrong(t, i, 0, "every clip once", err), err));
        else
            ES_GO(bad_row(r->x, clip, weak_row(r, t, i, clip, err), err));
    }
done:
    es_tsv_close(&t);
    return rc;
}

/* volatile: gcc 12.2 at -O2 drops two (double)(float)x in a row (SLP vectoriser); test_prepare notices. */
static double through_float(double x) {
    volatile float f = (float)x;
    return (double)f;
}

/* Y<YouTube id>: the clip's name; its audio may be called so, by the segment, and each without the Y. */
static int audioset_names(struct prep *x, const struct es_tsv *t, int64_t i, struct prep_file *f,
                          int64_t *segment_ms, struct es_err *err) {
    const char *segment = es_tsv_text(t, i, 0), *underscore = strrchr(segment, '_');
    char text[512];
    if (!underscore || underscore == segment || strlen(segment) > 200 || !underscore[1] ||
        underscore[1 + strspn(underscore + 1, "0123456789")])
        return es_tsv_wrong(t, i, 0, "<YouTube id>_<start in ms>", err);
    *segment_ms = strtol(underscore + 1, NULL, 10);
    snprintf(text, sizeof text, "Y%.*s", (int)(underscore - segment), segment);
    f->stem[0] = prep_own(x, text, err);
    snprintf(text, sizeof text, "Y%s", segment);
    f->stem[1] = prep_own(x, text, err);
    if (!f->stem[0] || !f->stem[1]) return -ES_EIO;
    f->stem[2] = f->stem[1] + 1;
    f->stem[3] = f->stem[0] + 1;
    return 0;
}

static int audioset_row(struct reader *r, const struct es_tsv *t, int64_t i, int64_t clip, int64_t segment_ms,
                        struct es_err *err) {
    struct prep *x = r->x;
    struct es_event e = {.confidence = 1.0f};
    ES_TRY(es_tsv_row_check(t, i, err));
    int64_t mid = es_names_find(x->mids, es_tsv_text(t, i, 3));
    if (mid < 0) return es_tsv_wrong(t, i, 3, "a machine id of the table of display names", err);
    ES_TRY(es_tsv_times(t, i, 1, 2, &e.onset_s, &e.offset_s, err));
    if (x->clip[clip].segment_ms != segment_ms) {
        char want[80];
        snprintf(want, sizeof want, "one segment of a video, here that from %lld ms on",
                 (long long)x->clip[clip].segment_ms);
        return es_tsv_wrong(t, i, 0, want, err);
    }
    if (x->p->float32_times) { /* QUIRK: PretrainedSED hf_dataset_gen stores times as float32 */
        e.onset_s = through_float(e.onset_s);
        e.offset_s = through_float(e.offset_s);
    }
    e.label = x->mid_label[mid];
    if (e.label >= 0) return prep_add_event(x, clip, &e, err);
    x->events_dropped[r->source]++;
    return 0;
}

static int read_audioset(struct reader *r, struct es_err *err) {
    static const char *const columns[] = {"segment_id", "start_time_seconds", "end_time_seconds", "label"};
    struct prep *x = r->x;
    struct es_tsv *t = NULL;
    int rc;
    ES_GO(es_tsv_open(&t, r->s->labels, columns, 4, ES_TSV_KEEP_ROWS, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        struct prep_file f = file_for(r, r->s->labels, es_tsv_line(t, i));
        int64_t before = x->n_clips, segment_ms = 0;
        ES_GO(prep_problem(x, audioset_names(x, t, i, &f, &segment_ms, err), err));
        if (rc > 0) continue;
        int64_t clip = clip_of(r, f.stem[0], &f, err);
        if (clip < 0) ES_GO((int)clip);
        if (x->n_clips > before) x->clip[clip].segment_ms = segment_ms;
        ES_GO(bad_row(x, clip, audioset_row(r, t, i, clip, segment_ms, err), err));
    }
    rc = 0;
done:
    es_tsv_close(&t);
    return rc;
}

static bool is_audio_name(const char *name) {
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot && (strcasecmp(dot, ".wav") == 0 || strcasecmp(dot, ".flac") == 0);
}

/* Names of the audio files of a folder, and with `deep` of the folders in it, sorted. */
static int list_audio(const char *dir, bool deep, struct es_names *found, struct es_err *err) {
    DIR *d = opendir(dir);
    if (!d) return es_err_set(err, ES_EDATA, "%s: cannot list the folder of audio: %s", dir, strerror(errno));
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;) {
        char sub[PATH_MAX];
        snprintf(sub, sizeof sub, "%s/%s", dir, e->d_name);
        if (is_audio_name(e->d_name))
            rc = es_names_add(found, e->d_name, err) < 0 ? -ES_EIO : 0;
        else if (deep && e->d_name[0] != '.' && is_folder(sub))
            rc = list_audio(sub, false, found, err);
    }
    closedir(d);
    return rc;
}

static int sort_names(const struct es_names *names, const char ***name, struct es_err *err) {
    *name = es_alloc((size_t)es_names_count(names), sizeof **name, err);
    if (!*name) return -ES_EIO;
    for (int64_t i = 0; i < es_names_count(names); i++) (*name)[i] = es_names_get(names, i);
    qsort(*name, (size_t)es_names_count(names), sizeof **name, compare_text);
    return 0;
}

static int read_unlabeled(struct reader *r, struct es_err *err) {
    struct es_names *found = NULL;
    const char **name = NULL;
    int rc;
    ES_GO(es_names_new(&found, err));
    ES_GO(list_audio(r->s->audio, false, found, err));
    ES_GO(sort_names(found, &name, err));
    for (int64_t i = 0; i < es_names_count(found); i++) {
        struct prep_file f = file_for(r, r->s->audio, 0);
        int64_t before = r->x->n_clips;
        const char *stem = prep_stem(r->x, name[i], err);
        int64_t clip = stem ? clip_of(r, stem, &f, err) : -ES_EIO;
        if (clip < 0) ES_GO((int)clip);
        if (r->x->n_clips > before) continue;
        es_err_set(err, ES_EDATA, "%s/%s: the clip is there twice, in two formats; remove one", r->s->audio,
                   name[i]);
        ES_GO(bad_row(r->x, -1, -ES_EDATA, err));
    }
done:
    es_free(&name);
    es_names_free(&found);
    return rc;
}

/* MAESTRO with annotations: only the files, one a recording, in name order; windows follow when their lengths are known. */
static int read_recordings(struct reader *r, struct es_err *err) {
    static const char *const columns[] = {"recording"};
    struct es_names *found = NULL;
    const char **name = NULL;
    struct es_tsv *t = NULL;
    int rc;
    if (given(r->s->recordings)) {
        ES_GO(es_tsv_open(&t, r->s->recordings, columns, 1, ES_TSV_NO_HEADER, err));
        ES_GO(es_names_new(&found, err));
        for (int64_t i = 1; i < es_tsv_rows(t); i++) { /* the first line is a header */
            int64_t at = es_names_add(found, es_tsv_text(t, i, 0), err);
            if (at < 0) ES_GO(-ES_EIO);
            if (at < i - 1) ES_GO(es_tsv_wrong(t, i, 0, "every recording once", err));
        }
    } else {
        ES_GO(es_names_new(&found, err));
        ES_GO(list_audio(r->s->audio, true, found, err));
    }
    ES_GO(sort_names(found, &name, err));
    for (int64_t i = 0; i < es_names_count(found); i++) {
        int64_t line = t ? es_tsv_line(t, es_names_find(found, name[i]) + 1) : 0;
        struct prep_file f = file_for(r, t ? r->s->recordings : r->s->audio, line);
        f.annotated = true;
        f.stem[0] = prep_stem(r->x, name[i], err);
        f.sub = f.stem[0] ? scene_of(r->x, f.stem[0], err) : NULL;
        if (!f.sub) ES_GO(-ES_EIO);
        int64_t file = add_file(r->x, &f, f.stem[0], err);
        if (file < 0) ES_GO((int)file);
    }
done:
    es_tsv_close(&t);
    es_free(&name);
    es_names_free(&found);
    return rc;
}

static int open_hdf(const char *path, struct es_names **hdf, struct es_err *err) {
    const char *dot = given(path) ? strrchr(path, '.') : NULL;
    struct es_h5 *f = NULL;
    struct es_h5_names names = {0};
    int rc = 0;
    if (!dot || (strcasecmp(dot, ".hdf") != 0 && strcasecmp(dot, ".h5") != 0)) return 0;
    ES_GO(es_names_new(hdf, err));
    ES_GO(es_h5_open(&f, path, NULL, 0, err));
    ES_GO(es_h5_read_strings(f, "/audio_name", &names, err));
    for (int64_t i = 0; i < names.n; i++) {
        char *slash = strrchr(names.name[i], '/'), *name = slash ? slash + 1 : names.name[i],
             *end = strrchr(name, '.');
        if (end) *end = 0;
        int64_t at = es_names_add(*hdf, name, err);
        if (at < 0) ES_GO(-ES_EIO);
        if (at != i) ES_GO(es_err_set(err, ES_EDATA, "%s:/audio_name: %s stands there twice", path, name));
    }
done:
    es_h5_names_free(&names);
    es_h5_close(&f);
    return rc;
}

static int read_source(struct prep *x, int source, struct es_err *err) {
    const struct es_prepare_source *s = &x->p->source[source];
    struct reader r = {.x = x, .s = s, .source = source, .first_clip = x->n_clips};
    int rc;
    if (s->subset != ES_SUBSET_UNLABELED && !given(s->labels))
        return es_err_set(err, ES_EUSAGE, "prepare: subset %s: no table of labels", prep_name(x, source));
    if (prep_is_audioset(s->subset) && !given(x->p->mids))
        return es_err_set(err, ES_EUSAGE, "prepare: subset %s: no table of machine ids",
                          prep_name(x, source));
    ES_GO(es_names_new(&r.clips, err));
    ES_GO(read_durations(s, &r.durations, &r.duration_s, x, err));
    if (prep_is_audioset(s->subset)) {
        ES_GO(open_hdf(s->audio, &r.hdf[0], err));
        ES_GO(open_hdf(s->more_audio, &r.hdf[1], err));
        rc = read_audioset(&r, err);
    } else if (s->subset == ES_SUBSET_WEAK) {
        rc = read_weak(&r, err);
    } else if (s->subset == ES_SUBSET_UNLABELED) {
        rc = read_unlabeled(&r, err);
    } else {
        rc = has_annotations(s) ? read_recordings(&r, err) : read_strong(&r, err);
    }
done:
    for (int k = 0; k < PREP_PLACES; k++) es_names_free(&r.hdf[k]);
    es_names_free(&r.clips);
    es_names_free(&r.durations);
    es_free(&r.duration_s);
    return rc;
}

int prep_read_tables(struct prep *x, struct es_err *err) {
    ES_TRY(prep_read_classes(x, err));
    for (int i = 0; i < x->p->n_sources; i++) ES_TRY(read_source(x, i, err));
    return 0;
}
