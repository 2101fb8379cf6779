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
    snprintf(key, sizeof key, "%s\t%s", f->dir, name);
    int64_t i = es_names_add(x->file_key, key, err);
    if (i < 0 || i < x->n_files) return i;
    struct prep_file *at = room(&x->file, x->n_files, &x->cap_files, sizeof *at, err);
    if (!at) return -ES_EIO;
    *at = *f;
    at->found = -1;
    return x->n_files++;
}

/* ---- classes */

static int compare_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int add_class(struct prep *x, const char *name, struct es_err *err) {
    return es_names_add(x->classes, name, err) < 0 ? -ES_EIO : 0;
}

/* AudioSet: display names of the table of machine ids, restricted to the list if there is one, sorted by code point. */
static int audioset_classes(struct prep *x, struct es_err *err) {
    static const char *const mid_columns[] = {"mid", "display name"}, *const list_columns[] = {"class"};
    struct es_tsv *mids = NULL, *list = NULL;
    struct es_names *wanted = NULL;
    const char **name = NULL;
    int64_t n = 0;
    int rc;
    ES_GO(es_tsv_open(&mids, x->p->mids, mid_columns, 2, ES_TSV_NO_HEADER, err));
    ES_GO(es_names_new(&wanted, err));
    if (given(x->p->classes)) {
        ES_GO(es_tsv_open(&list, x->p->classes, list_columns, 1, ES_TSV_NO_HEADER, err));
        for (int64_t i = 0; i < es_tsv_rows(list); i++)
            if (es_names_add(wanted, es_tsv_text(list, i, 0), err) < 0) ES_GO(-ES_EIO);
    }
    name = es_alloc((size_t)es_tsv_rows(mids), sizeof *name, err);
    x->mid_label = es_alloc((size_t)es_tsv_rows(mids), sizeof *x->mid_label, err);
    if (!name || !x->mid_label) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < es_tsv_rows(mids); i++) {
        const char *display = es_tsv_text(mids, i, 1);
        if (es_names_find(x->mids, es_tsv_text(mids, i, 0)) >= 0)
            ES_GO(es_tsv_wrong(mids, i, 0, "every machine id once", err));
        if (es_names_add(x->mids, es_tsv_text(mids, i, 0), err) < 0) ES_GO(-ES_EIO);
        if (!list || es_names_find(wanted, display) >= 0) name[n++] = display;
    }
    qsort(name, (size_t)n, sizeof *name, compare_text);
    for (int64_t i = 0; i < n; i++) ES_GO(add_class(x, name[i], err));
    for (int64_t i = 0; list && i < es_tsv_rows(list); i++)
        if (es_names_find(x->classes, es_tsv_text(list, i, 0)) < 0)
            ES_GO(es_tsv_wrong(list, i, 0, "a display name of the table of machine ids", err));
    for (int64_t i = 0; i < es_tsv_rows(mids); i++)
        x->mid_label[i] = (int)es_names_find(x->classes, es_tsv_text(mids, i, 1));
done:
    es_free(&name);
    es_names_free(&wanted);
    es_tsv_close(&list);
    es_tsv_close(&mids);
    return rc;
}

static int read_classes(struct prep *x, struct es_err *err) {
    if (given(x->p->mids)) return audioset_classes(x, err);
    for (int k = 0; k < ES_N_CLASSES; k++) ES_TRY(add_class(x, es_classes[k].name, err));
    return 0;
}

int prep_class(const struct prep *x, const struct es_tsv *t, int64_t row, int column, int32_t *label,
               struct es_err *err) {
    *label = (int32_t)es_names_find(x->classes, es_tsv_text(t, row, column));
    return *label >= 0
               ? 0
               : es_tsv_wrong(t, row, column, "one of the 27 classes, spelt as in the class list", err);
}

/* ---- names */

/* The stem: without a last extension that audio files have. */
static const char *stem_of(struct prep *x, const char *filename, struct es_err *err) {
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
    ES_GO(es_tsv_open(&t, s->durations, columns, 2, 0, err));
    *duration_s = es_alloc((size_t)es_tsv_rows(t), sizeof **duration_s, err);
    if (!*duration_s) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        double d;
        const char *stem = stem_of(x, es_tsv_text(t, i, 0), err);
        int64_t at = stem ? es_names_add(*names, stem, err) : -ES_EIO;
        if (at < 0) ES_GO(-ES_EIO);
        ES_GO(es_tsv_number(t, i, 1, &d, err));
        if (d <= 0) ES_GO(es_tsv_wrong(t, i, 1, "a duration above 0 seconds", err));
        (*duration_s)[at] = d;
    }
done:
    es_tsv_close(&t);
    return rc;
}

/* ---- one source */

struct reader {
    struct prep *x;
    const struct es_prepare_source *s;
    struct es_names *durations, *clips; /* clips: key of each clip of this source, index first_clip + i */
    double *duration_s;
    int64_t first_clip;
    bool cut;             /* MAESTRO: windows are cut from recordings */
    struct es_names *hdf; /* names in an .hdf of mp3s */
};

static struct prep_file file_for(const struct reader *r, const char *table, int64_t line) {
    return (struct prep_file){
        .dir = r->s->audio, .table = table, .line = line, .skip_missing = r->s->skip_missing, .hdf_row = -1};
}

/* Row of a name in an .hdf of mp3s: <name>.mp3, in the large set behind a two-digit folder. -1: not there. */
static int64_t hdf_row(const struct reader *r, const char *stem) {
    return r->hdf ? es_names_find(r->hdf, stem) : -1;
}

static int64_t new_clip(struct reader *r, const char *stem, struct prep_file *f, struct es_err *err) {
    struct prep *x = r->x;
    bool maestro = prep_is_maestro(r->s->subset);
    struct prep_clip c = {
        .name = stem, .recording = "", .end_cs = -1, .duration_s = -1, .subset = (uint8_t)r->s->subset};
    c.split = prep_is_test(r->s->subset) ? 1 : (uint8_t)r->s->split;
    int64_t d = es_names_find(r->durations, stem);
    if (d >= 0) c.duration_s = r->duration_s[d];
    if (maestro && !(c.recording = recording_of(x, stem, err))) return -ES_EIO;
    if (r->cut) {
        if (!prep_window_name(stem, &c.start_cs, &c.end_cs))
            return es_err_set(
                err, ES_EDATA,
                "%s:%lld: filename: got \"%s\", want <recording>-<start>-<end>.wav with times in 1/100 s",
                f->table, (long long)f->line, stem);
        f->stem[0] = c.recording;
        if (!(f->sub = scene_of(x, c.recording, err))) return -ES_EIO;
        c.file = add_file(x, f, c.recording, err);
    } else {
        if (!f->stem[0]) f->stem[0] = stem;
        for (int i = 0; r->hdf && i < PREP_STEMS && f->stem[i] && f->hdf_row < 0; i++)
            f->hdf_row = hdf_row(r, f->stem[i]);
        c.file = add_file(x, f, stem, err);
    }
    return c.file < 0 ? c.file : prep_add_clip(x, &c, err);
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
    struct prep_file f = {.dir = s->audio, .stem = {stem}, .hdf_row = -1};
    char path[PATH_MAX];
    for (int i = 0; prep_candidate(&f, i, path, PATH_MAX); i++)
        if (access(path, F_OK) == 0) return false;
    int64_t a, b;
    return prep_window_name(stem, &a, &b);
}

static int read_strong(struct reader *r, struct es_err *err) {
    static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?confidence"};
    enum { FILENAME, ONSET, OFFSET, LABEL, CONFIDENCE };
    struct es_tsv *t = NULL;
    int rc;
    ES_GO(es_tsv_open(&t, r->s->labels, columns, 5, 0, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        struct prep_file f = file_for(r, r->s->labels, es_tsv_line(t, i));
        struct es_event e = {.confidence = 1.0f};
        double confidence = 1.0;
        const char *stem = stem_of(r->x, es_tsv_text(t, i, FILENAME), err);
        if (!stem) ES_GO(-ES_EIO);
        if (!stem[0]) ES_GO(es_tsv_wrong(t, i, FILENAME, "the name of an audio file", err));
        if (i == 0 && prep_is_maestro(r->s->subset)) r->cut = windows_are_cut(r->s, stem);
        bool empty =
            !es_tsv_text(t, i, ONSET)[0] && !es_tsv_text(t, i, OFFSET)[0] && !es_tsv_text(t, i, LABEL)[0];
        if (empty && !prep_is_test(r->s->subset)) continue; /* training: such a clip disappears */
        int64_t clip = clip_of(r, stem, &f, err);
        if (clip < 0) ES_GO((int)clip);
        if (empty) continue;
        ES_GO(es_tsv_times(t, i, ONSET, OFFSET, &e.onset_s, &e.offset_s, err));
        ES_GO(prep_class(r->x, t, i, LABEL, &e.label, err));
        if (es_tsv_has(t, CONFIDENCE)) {
            ES_GO(es_tsv_number(t, i, CONFIDENCE, &confidence, err));
            if (confidence < 0 || confidence > 1)
                ES_GO(es_tsv_wrong(t, i, CONFIDENCE, "a number in 0..1", err));
        }
        e.confidence = (float)confidence;
        ES_GO(prep_add_event(r->x, clip, &e, err));
    }
done:
    es_tsv_close(&t);
    return rc;
}

static int read_weak(struct reader *r, struct es_err *err) {
    static const char *const columns[] = {"filename", "event_labels"};
    struct es_tsv *t = NULL;
    int rc;
    ES_GO(es_tsv_open(&t, r->s->labels, columns, 2, 0, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        struct prep_file f = file_for(r, r->s->labels, es_tsv_line(t, i));
        char list[4096], *save = NULL;
        int64_t before = r->x->n_clips;
        int n = 0;
        const char *stem = stem_of(r->x, es_tsv_text(t, i, 0), err);
        if (!stem) ES_GO(-ES_EIO);
        int64_t clip = clip_of(r, stem, &f, err);
        if (clip < 0) ES_GO((int)clip);
        if (r->x->n_clips == before) ES_GO(es_tsv_wrong(t, i, 0, "every clip once", err));
        snprintf(list, sizeof list, "%s", es_tsv_text(t, i, 1));
        for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save), n++) {
            int64_t label = es_names_find(r->x->classes, name);
            if (label < 0)
                ES_GO(es_tsv_wrong(t, i, 1, "names of the 27 classes with commas between them", err));
            ES_GO(add_mark(r->x, clip, (int)label, err));
        }
        if (n == 0) ES_GO(es_tsv_wrong(t, i, 1, "at least one class", err));
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

static int read_audioset(struct reader *r, struct es_err *err) {
    static const char *const columns[] = {"segment_id", "start_time_seconds", "end_time_seconds", "label"};
    struct prep *x = r->x;
    struct es_tsv *t = NULL;
    int rc;
    ES_GO(es_tsv_open(&t, r->s->labels, columns, 4, 0, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        const char *segment = es_tsv_text(t, i, 0), *underscore = strrchr(segment, '_');
        struct prep_file f = file_for(r, r->s->labels, es_tsv_line(t, i));
        struct es_event e = {.confidence = 1.0f};
        char text[512];
        if (!underscore || underscore == segment || strlen(segment) > 200)
            ES_GO(es_tsv_wrong(t, i, 0, "<YouTube id>_<start in ms>", err));
        snprintf(text, sizeof text, "Y%.*s", (int)(underscore - segment), segment);
        const char *name = f.stem[0] = prep_own(x, text, err);
        snprintf(text, sizeof text, "Y%s", segment);
        f.stem[1] = prep_own(x, text, err);
        if (!f.stem[0] || !f.stem[1]) ES_GO(-ES_EIO);
        f.stem[2] = f.stem[1] + 1; /* without the Y */
        f.stem[3] = f.stem[0] + 1;
        int64_t mid = es_names_find(x->mids, es_tsv_text(t, i, 3));
        if (mid < 0) ES_GO(es_tsv_wrong(t, i, 3, "a machine id of the table of display names", err));
        ES_GO(es_tsv_times(t, i, 1, 2, &e.onset_s, &e.offset_s, err));
        if (x->p->float32_times) { /* QUIRK: PretrainedSED hf_dataset_gen stores times as float32 */
            e.onset_s = through_float(e.onset_s);
            e.offset_s = through_float(e.offset_s);
        }
        e.label = x->mid_label[mid];
        int64_t clip = clip_of(r, name, &f, err);
        if (clip < 0) ES_GO((int)clip);
        if (e.label >= 0) ES_GO(prep_add_event(x, clip, &e, err));
    }
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
        const char *stem = stem_of(r->x, name[i], err);
        int64_t clip = stem ? clip_of(r, stem, &f, err) : -ES_EIO;
        if (clip < 0) ES_GO((int)clip);
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
        for (int64_t i = 1; i < es_tsv_rows(t); i++) /* the first line is a header */
            if (es_names_add(found, es_tsv_text(t, i, 0), err) < 0) ES_GO(-ES_EIO);
    } else {
        ES_GO(es_names_new(&found, err));
        ES_GO(list_audio(r->s->audio, true, found, err));
    }
    ES_GO(sort_names(found, &name, err));
    for (int64_t i = 0; i < es_names_count(found); i++) {
        struct prep_file f = file_for(r, t ? r->s->recordings : r->s->audio, 0);
        f.annotated = r->s;
        f.stem[0] = stem_of(r->x, name[i], err);
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

static int open_hdf(struct reader *r, struct es_err *err) {
    const char *dot = strrchr(r->s->audio, '.');
    struct es_h5 *f = NULL;
    struct es_h5_names names = {0};
    int rc = 0;
    if (!dot || (strcasecmp(dot, ".hdf") != 0 && strcasecmp(dot, ".h5") != 0)) return 0;
    ES_GO(es_names_new(&r->hdf, err));
    ES_GO(es_h5_open(&f, r->s->audio, NULL, 0, err));
    ES_GO(es_h5_read_strings(f, "/audio_name", &names, err));
    for (int64_t i = 0; i < names.n; i++) {
        char *slash = strrchr(names.name[i], '/'), *name = slash ? slash + 1 : names.name[i],
             *end = strrchr(name, '.');
        if (end) *end = 0;
        int64_t at = es_names_add(r->hdf, name, err);
        if (at >= 0 && at != i)
            rc = es_err_set(err, ES_EDATA, "%s:/audio_name: %s stands there twice", r->s->audio, name);
        if (at < 0) rc = -ES_EIO;
        if (rc < 0) goto done;
    }
done:
    es_h5_names_free(&names);
    es_h5_close(&f);
    return rc;
}

static int read_source(struct prep *x, const struct es_prepare_source *s, struct es_err *err) {
    struct reader r = {.x = x, .s = s, .first_clip = x->n_clips};
    int rc;
    if (s->subset != ES_SUBSET_UNLABELED && !given(s->labels))
        return es_err_set(err, ES_EUSAGE, "prepare: subset %s: no table of labels",
                          es_subset_name(s->subset));
    if (prep_is_audioset(s->subset) && !given(x->p->mids))
        return es_err_set(err, ES_EUSAGE, "prepare: subset %s: no table of machine ids",
                          es_subset_name(s->subset));
    ES_GO(es_names_new(&r.clips, err));
    ES_GO(read_durations(s, &r.durations, &r.duration_s, x, err));
    if (prep_is_audioset(s->subset)) {
        ES_GO(open_hdf(&r, err));
        rc = read_audioset(&r, err);
    } else if (s->subset == ES_SUBSET_WEAK) {
        rc = read_weak(&r, err);
    } else if (s->subset == ES_SUBSET_UNLABELED) {
        rc = read_unlabeled(&r, err);
    } else {
        rc = has_annotations(s) ? read_recordings(&r, err) : read_strong(&r, err);
    }
done:
    es_names_free(&r.hdf);
    es_names_free(&r.clips);
    es_names_free(&r.durations);
    es_free(&r.duration_s);
    return rc;
}

int prep_read_tables(struct prep *x, struct es_err *err) {
    ES_TRY(read_classes(x, err));
    for (int i = 0; i < x->p->n_sources; i++) ES_TRY(read_source(x, &x->p->source[i], err));
    return 0;
}
