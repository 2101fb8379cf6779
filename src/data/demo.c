/* The demo corpus: parameters, opening, and the collective job. */
#include "demo_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "earshot/audio.h"
#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/text.h"

enum { PATH_BYTES = 2048, LONGEST_NAME = 1024 };

void es_demo_params_default(struct es_demo_params *p) {
    *p = (struct es_demo_params){.seed = 1,
                                 .clips = 24,
                                 .clips_as = -1,
                                 .clips_as_eval = -1,
                                 .clips_real = -1,
                                 .clips_synth = -1,
                                 .clips_weak = -1,
                                 .clips_unlabeled = -1,
                                 .clips_validation = -1,
                                 .clips_synth_validation = -1,
                                 .maestro_train = -1,
                                 .maestro_validation = -1,
                                 .maestro_seconds = 60,
                                 .snr_min_db = -6,
                                 .snr_max_db = 12,
                                 .test_fraction = 0.34,
                                 .pitch_semitones = 3};
}

static int at_least(int v, int least) {
    return v < least ? least : v;
}

/* Counts that follow the base size keep the proportions of a small DCASE set-up; MAESTRO needs two training recordings and
 * one for validation in each of its five scenes. */
static int resolve(struct es_demo *d, struct es_err *err) {
    struct es_demo_params *p = &d->p;
    const int n = p->clips;
    struct {
        const char *key;
        int *count, follow, most;
    } const row[ES_DEMO_SETS] = {
        {"clips_as", &p->clips_as, 3 * n, 1000000},
        {"clips_as_eval", &p->clips_as_eval, -1, 1000000},
        {"clips_real", &p->clips_real, n, 1000000},
        {"clips_synth", &p->clips_synth, n, 1000000},
        {"clips_weak", &p->clips_weak, n, 1000000},
        {"clips_unlabeled", &p->clips_unlabeled, 2 * n, 1000000},
        {"clips_validation", &p->clips_validation, n, 1000000},
        {"clips_synth_validation", &p->clips_synth_validation, (n + 1) / 2, 1000000},
        {"maestro_train", &p->maestro_train, 5 * at_least(n / 40, 2), 10000},
        {"maestro_validation", &p->maestro_validation, 5 * at_least(n / 60, 1), 10000},
    };
    if (p->out == NULL || *p->out == 0)
        return es_err_set(err, ES_EUSAGE, "demo: --out: got nothing, want a folder");
    if (strlen(p->out) > LONGEST_NAME || (p->sounds != NULL && strlen(p->sounds) > LONGEST_NAME))
        return es_err_set(err, ES_EUSAGE, "demo: --out, --sounds: got a name of more than %d bytes",
                          LONGEST_NAME);
    if (n < 1 || n > 100000) return es_err_set(err, ES_EUSAGE, "demo: --clips: got %d, want 1 to 100000", n);
    for (int i = 0; i < ES_DEMO_SETS; i++) {
        if (*row[i].count == -1) *row[i].count = i == ES_DEMO_AS_EVAL ? (p->clips_as + 5) / 6 : row[i].follow;
        if (*row[i].count < 0 || *row[i].count > row[i].most)
            return es_err_set(err, ES_EUSAGE, "demo.%s: got %d, want 0 to %d", row[i].key, *row[i].count,
                              row[i].most);
        d->count[i] = *row[i].count;
    }
    if (!(p->maestro_seconds >= 10 && p->maestro_seconds <= 3600))
        return es_err_set(err, ES_EUSAGE, "demo.maestro_seconds: got %g, want 10 to 3600",
                          p->maestro_seconds);
    if (!(p->snr_min_db >= -60 && p->snr_max_db <= 60 && p->snr_min_db <= p->snr_max_db))
        return es_err_set(err, ES_EUSAGE,
                          "demo.snr_min_db, snr_max_db: got %g and %g, want -60 to 60 in order",
                          p->snr_min_db, p->snr_max_db);
    if (!(p->test_fraction > 0 && p->test_fraction < 1))
        return es_err_set(err, ES_EUSAGE, "demo.test_fraction: got %g, want between 0 and 1",
                          p->test_fraction);
    if (!(p->pitch_semitones >= 0 && p->pitch_semitones <= 12))
        return es_err_set(err, ES_EUSAGE, "demo.pitch_semitones: got %g, want 0 to 12", p->pitch_semitones);
    return 0;
}

int es_demo_open(struct es_demo **out, const struct es_demo_params *p, struct es_err *err) {
    int rc = 0;
    struct es_demo *d = es_alloc(1, sizeof *d, err);
    *out = NULL;
    if (d == NULL) return -ES_EIO;
    d->p = *p;
    ES_GO(resolve(d, err));
    ES_GO(demo_library_load(&d->lib, p->sounds, p->seed, p->test_fraction, err));
    ES_GO(demo_plan(d, err));
    *out = d;
    return 0;
done:
    es_demo_close(&d);
    return rc;
}

void es_demo_close(struct es_demo **d) {
    if (*d == NULL) return;
    es_free(&(*d)->raw);
    es_free(&(*d)->work);
    es_free(&(*d)->event);
    es_free(&(*d)->clip);
    demo_library_free(&(*d)->lib);
    es_free(d);
}

int es_demo_count(const struct es_demo *d, enum es_demo_set set) {
    return d->count[set];
}

const struct es_demo_clip *es_demo_clip(const struct es_demo *d, enum es_demo_set set, int index) {
    ES_ASSERT(index >= 0 && index < d->count[set]);
    return d->clip + d->first[set] + index;
}

void es_demo_source(const struct es_demo *d, int sound, struct es_demo_source *s) {
    ES_ASSERT(sound >= 0 && sound < ES_SOUND_COUNT);
    *s = d->lib.source[sound];
}

uint64_t es_demo_digest(const struct es_demo *d) {
    enum { DEMO_VERSION = 3 }; /* raise it when the same parameters give other audio or labels */
    const struct es_demo_params *p = &d->p;
    char text[1024];
    int n = snprintf(text, sizeof text, "%d %llu %016llx %.17g %.17g %.17g %.17g %.17g", DEMO_VERSION,
                     (unsigned long long)p->seed, (unsigned long long)d->lib.digest, p->maestro_seconds,
                     p->snr_min_db, p->snr_max_db, p->test_fraction, p->pitch_semitones);
    for (int i = 0; i < ES_DEMO_SETS; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %d", d->count[i]);
    return es_hash_bytes(text, (size_t)n);
}

/* ---- the job */

/* What stands in `out`: 0 nothing (or an empty folder, or an unfinished demo of the same parameters), 1 the same demo,
 * finished; else an error. */
static int look(const struct es_demo *d, struct es_err *err) {
    char path[PATH_BYTES], text[4096], hex[17], same[64];
    struct stat st;
    if (stat(d->p.out, &st) != 0)
        return errno == ENOENT ? 0
                               : es_err_set(err, ES_EIO, "%s: cannot open: %s", d->p.out, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return es_err_set(err, ES_EUSAGE, "%s: is a file, want a folder to write", d->p.out);
    DIR *dir = opendir(d->p.out);
    if (dir == NULL) return es_err_set(err, ES_EIO, "%s: cannot open: %s", d->p.out, strerror(errno));
    int entries = 0;
    while (readdir(dir) != NULL) entries++;
    closedir(dir);
    if (entries <= 2) return 0; /* . and .. */
    snprintf(path, sizeof path, "%s/demo.json", d->p.out);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return es_err_set(err, ES_EUSAGE,
                          "%s: holds something that is not a demo corpus; choose another --out", d->p.out);
    const size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    es_hash_hex(es_demo_digest(d), hex);
    snprintf(same, sizeof same, "\"parameters_digest\": \"%s\"", hex);
    if (strstr(text, same) == NULL)
        return es_err_set(err, ES_EUSAGE,
                          "%s: holds a demo corpus of other parameters; remove it or choose another --out",
                          d->p.out);
    return strstr(text, "\"complete\": true") != NULL;
}

int demo_make_path(const char *path, struct es_err *err) {
    char part[PATH_BYTES];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return es_err_set(err, ES_EIO, "%s: cannot create: %s", part, strerror(errno));
        *p = '/';
    }
    return 0;
}

/* Rank 0: what is there, and folders and label files; demo.json says unfinished before the first of them. */
static int prepare(const struct es_demo *d, struct es_err *err) {
    char path[PATH_BYTES];
    const int found = look(d, err);
    if (found != 0) return found;
    snprintf(path, sizeof path, "%s/", d->p.out);
    ES_TRY(demo_make_path(path, err));
    ES_TRY(demo_write_about(d, 0, false, err));
    ES_TRY(demo_make_folders(d, err));
    ES_TRY(demo_write_responses(d, err));
    return demo_write_labels(d, err);
}

static int write_clip(struct es_demo *d, const struct es_demo_clip *c, float *mix, int16_t *pcm,
                      uint64_t *digest, struct es_err *err) {
    char name[256], path[PATH_BYTES];
    ES_TRY(es_demo_render(d, c, mix, NULL, NULL, err));
    es_pcm_from_float(mix, c->n_samples, pcm);
    *digest = es_hash_bytes(pcm, (size_t)c->n_samples * sizeof *pcm);
    demo_audio_path(c, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", d->p.out, name);
    return es_audio_write(path, pcm, c->n_samples, 1, DEMO_RATE, err);
}

/* This rank's clips: index mod P in each set. digest [n_clips] gets theirs. */
static int render_mine(struct es_demo *d, int rank, int size, uint64_t *digest, struct es_err *err) {
    int rc = 0;
    struct es_progress progress = {0};
    int16_t *pcm = NULL;
    float *mix = es_alloc((size_t)d->longest, sizeof *mix, err);
    if (mix == NULL) return -ES_EIO;
    if ((pcm = es_alloc((size_t)d->longest, sizeof *pcm, err)) == NULL) ES_GO(-ES_EIO);
    es_progress_begin(&progress, "demo");
    for (int i = 0; i < d->n_clips; i++) {
        const struct es_demo_clip *c = &d->clip[i];
        if (c->index % size != rank) continue;
        ES_GO(write_clip(d, c, mix, pcm, &digest[i], err));
        es_watchdog_kick("demo", i);
        es_progress_update(&progress, i + 1, d->n_clips, "clips", NULL);
    }
done:
    es_progress_end(&progress);
    es_free(&pcm);
    es_free(&mix);
    return rc;
}

/* Digest over all clips in their order, whoever rendered them. */
static int combine_all(const struct es_comm *comm, const struct es_demo *d, const uint64_t *mine,
                       uint64_t *all, struct es_err *err) {
    const int size = es_comm_size(comm);
    const size_t bytes = (size_t)d->n_clips * sizeof *mine;
    uint64_t *from = es_alloc((size_t)size * (size_t)d->n_clips + 1, sizeof *from, err);
    const int rc = es_err_agree_all(comm, from == NULL ? -ES_EIO : 0, err);
    if (rc == 0) {
        es_comm_allgather_all(comm, mine, bytes, from);
        for (int i = 0; i < d->n_clips; i++) /* clip i comes from its renderer */
            from[i] = from[(size_t)(d->clip[i].index % size) * (size_t)d->n_clips + (size_t)i];
        *all = es_hash_bytes(from, bytes);
    }
    es_free(&from);
    return rc;
}

/* Names what is not what it says: stand-ins and synthesised classes of the task. */
static void log_sources(const struct es_demo *d) {
    struct es_text made = {0};
    for (int s = 0; s < ES_SOUND_TASK; s++) {
        const struct es_demo_source *src = &d->lib.source[s];
        if (src->kind == ES_DEMO_PROXY)
            es_log(ES_LOG_INFO, "demo sound=\"%s\" proxies=\"%s\"", es_sound(s)->name, src->proxies);
        if (src->kind == ES_DEMO_SYNTHESISED)
            es_text_add(&made, "%s%s", made.n > 0 ? ", " : "", es_sound(s)->name);
    }
    if (made.n > 0 && !made.failed) es_log(ES_LOG_INFO, "demo synthesised=\"%s\"", made.s);
    es_text_free(&made);
}

int es_demo_render_all(const struct es_comm *comm, const struct es_demo_params *p, struct es_err *err) {
    const int rank = es_comm_rank(comm);
    struct es_demo *d = NULL;
    uint64_t *digest = NULL, all = 0;
    char hex[17];
    int rc = 0, found = 0;
    ES_GO(es_err_agree_all(comm, es_demo_open(&d, p, err), err));
    if (rank == 0) found = prepare(d, err);
    ES_GO(es_err_agree_all(comm, found, err));
    if (rc > 0) {
        rc = 0;
        es_log(ES_LOG_INFO, "demo out=%s clips=%d: already there, nothing to do", d->p.out, d->n_clips);
        goto done;
    }
    digest = es_alloc((size_t)d->n_clips + 1, sizeof *digest, err);
    ES_GO(es_err_agree_all(
        comm, digest == NULL ? -ES_EIO : render_mine(d, rank, es_comm_size(comm), digest, err), err));
    ES_GO(combine_all(comm, d, digest, &all, err));
    ES_GO(es_err_agree_all(comm, rank == 0 ? demo_write_about(d, all, true, err) : 0, err));
    es_hash_hex(all, hex);
    es_log(ES_LOG_INFO, "demo out=%s clips=%d audio_digest=%s", d->p.out, d->n_clips, hex);
    log_sources(d);
done:
    es_free(&digest);
    es_demo_close(&d);
    return rc;
}
