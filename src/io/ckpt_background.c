/* Checkpoints: writing while training goes on. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/ckpt.h"
#include "earshot/fault.h"
#include "earshot/mem.h"
#include "earshot/text.h"
#include "earshot/timer.h"

#include "ckpt_impl.h"

#define WRITE_BYTES ((size_t)8 << 20)

struct share {  /* bytes of one data set that this rank writes */
    int64_t at; /* in the file */
    size_t copied, bytes;
    int set;       /* number of its digest */
    int64_t first; /* element where a moment's share begins; -1: a whole array, described by `array` */
    struct es_ckpt_array array;
};

struct es_ckpt_writer {
    const struct es_comm *comm;
    struct es_ckpt_state state; /* names and counts; borrowed lists: valid until the end of begin */
    struct es_h5 *file;         /* NULL: nothing under way */
    char path[PATH_MAX], keep[PATH_MAX];
    char *copy;
    size_t copy_bytes;
    struct share *share;
    struct es_ckpt_array *student, *teacher; /* own lists: names and shapes */
    char *names;
    int64_t n_shares;
    uint64_t *digest; /* of all data sets, this rank's part */
    int fd, n_sets;
    pthread_t thread;
    atomic_bool through, cancelled;
    struct es_err err;
    double write_s;
};

int es_ckpt_writer_new(struct es_ckpt_writer **w, struct es_err *err) {
    *w = es_alloc(1, sizeof **w, err);
    if (!*w) return -ES_EIO;
    (*w)->fd = -1;
    return 0;
}

/* ---- the thread */

static int write_share(struct es_ckpt_writer *w, struct share *s) {
    const char *data = w->copy + s->copied;
    if (s->first < 0) {
        s->array.data = w->copy + s->copied;
        w->digest[s->set] += ckpt_digest_array(&s->array);
    } else {
        w->digest[s->set] += ckpt_digest_words(data, s->first, (int64_t)(s->bytes / 4));
    }
    for (size_t done = 0; done < s->bytes && !atomic_load(&w->cancelled);) {
        size_t now = s->bytes - done < WRITE_BYTES ? s->bytes - done : WRITE_BYTES;
        es_fault_here("write");
        bool fault = es_fault_hit("ckptwrite");
        if (fault) errno = ENOSPC;
        if (fault || es_pwrite(w->fd, data + done, now, s->at + (int64_t)done) != 0) return -1;
        done += now;
    }
    return 0;
}

static void *write_all(void *arg) {
    struct es_ckpt_writer *w = arg;
    double begin_s = es_now_s();
    bool ok = true;
    for (int64_t i = 0; ok && i < w->n_shares && !atomic_load(&w->cancelled); i++)
        ok = write_share(w, &w->share[i]) == 0;
    if (!atomic_load(&w->cancelled)) {
        es_fault_here("checkpoint");
        ok = ok && fsync(w->fd) == 0;
    }
    int why = errno;
    if (close(w->fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    w->fd = -1;
    if (!ok) es_err_set(&w->err, ES_EIO, "%s: cannot write: %s", w->path, strerror(why));
    w->write_s = es_now_s() - begin_s;
    atomic_store(&w->through, true);
    return NULL;
}

static int start(struct es_ckpt_writer *w, struct es_err *err) {
    sigset_t all, old; /* signals are for the main thread */
    atomic_store(&w->through, false);
    atomic_store(&w->cancelled, false);
    es_err_clear(&w->err);
    w->fd = open(es_h5_path_now(w->file), O_WRONLY);
    if (w->fd < 0)
        return es_err_set(err, ES_EIO, "%s: cannot open: %s", es_h5_path_now(w->file), strerror(errno));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&w->thread, NULL, write_all, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) return 0;
    close(w->fd);
    w->fd = -1;
    return es_err_set(err, ES_EIO, "%s: cannot start a thread: %s", w->path, strerror(rc));
}

/* ---- shares */

static void forget(struct es_ckpt_writer *w) {
    es_free(&w->digest);
    es_free(&w->share);
    es_free(&w->names);
    es_free(&w->teacher);
    es_free(&w->student);
}

/* Own copies of the lists: the caller's go away when begin returns. */
static struct es_ckpt_array *keep_arrays(const struct es_ckpt_array *a, int n, char **names,
                                         struct es_err *err) {
    struct es_ckpt_array *own = es_alloc((size_t)n, sizeof *own, err);
    for (int i = 0; own && i < n; i++) {
        own[i] = a[i];
        own[i].name = *names;
        *names = stpcpy(*names, a[i].name) + 1;
    }
    return own;
}

static int keep_state(struct es_ckpt_writer *w, const struct es_ckpt_state *s, struct es_err *err) {
    size_t bytes = 1;
    for (int i = 0; i < s->n_student; i++) bytes += strlen(s->student[i].name) + 1;
    for (int i = 0; i < s->n_teacher; i++) bytes += strlen(s->teacher[i].name) + 1;
    w->names = es_alloc(bytes, 1, err);
    if (!w->names) return -ES_EIO;
    char *at = w->names;
    w->student = keep_arrays(s->student, s->n_student, &at, err);
    w->teacher = keep_arrays(s->teacher, s->n_teacher, &at, err);
    w->n_sets = s->n_student + s->n_teacher + 2;
    w->digest = es_alloc((size_t)w->n_sets, sizeof *w->digest, err);
    w->state = *s;
    w->state.student = w->student;
    w->state.teacher = w->teacher;
    return w->student && w->teacher && w->digest ? 0 : -ES_EIO;
}

static void add(struct es_ckpt_writer *w, struct share s, size_t *copied) {
    s.copied = *copied;
    w->share[w->n_shares++] = s;
    *copied += (s.bytes + 63) / 64 * 64;
}

/* Arrays in turn, as when all write together; of the moments what this rank owns. offset: of all data sets. */
static int make_shares(struct es_ckpt_writer *w, const struct ckpt_plan *plan, const int64_t *offset,
                       struct es_err *err) {
    const struct es_ckpt_state *s = &w->state;
    int rank = es_comm_rank(w->comm), size = es_comm_size(w->comm), n_arrays = s->n_student + s->n_teacher;
    size_t copied = 0;
    w->n_shares = 0;
    w->share = es_alloc((size_t)n_arrays + 2 * (size_t)plan->n_pieces, sizeof *w->share, err);
    if (!w->share) return -ES_EIO;
    for (int i = 0; i < n_arrays; i++) {
        bool teacher = i >= s->n_student;
        int k = teacher ? i - s->n_student : i;
        const struct es_ckpt_array *a = teacher ? &s->teacher[k] : &s->student[k];
        if (k % size != rank) continue;
        size_t bytes = (size_t)ckpt_elements(a) * es_h5_type_bytes(a->type);
        add(w, (struct share){.at = offset[i], .bytes = bytes, .set = i, .first = -1, .array = *a}, &copied);
    }
    for (int second = 0; second < 2; second++)
        for (int64_t p = 0; p < plan->n_pieces; p++) {
            int set = n_arrays + second;
            int64_t first = plan->piece[p].file;
            add(w,
                (struct share){.at = offset[set] + 4 * first,
                               .bytes = 4 * (size_t)plan->piece[p].n,
                               .set = set,
                               .first = first},
                &copied);
        }
    if (w->copy && w->copy_bytes >= copied) return 0;
    es_free(&w->copy);
    w->copy_bytes = copied;
    w->copy = es_alloc(copied, 1, err);
    return w->copy ? 0 : -ES_EIO;
}

static void copy_state(struct es_ckpt_writer *w, const struct ckpt_plan *plan) {
    int64_t moment = 0;
    for (int64_t i = 0; i < w->n_shares; i++) {
        const struct share *s = &w->share[i];
        const void *from = s->array.data;
        if (s->first >= 0) {
            const struct ckpt_piece *p = &plan->piece[moment % plan->n_pieces];
            const struct es_ckpt_segment *g = &w->state.segment[p->segment];
            from = (moment++ < plan->n_pieces ? g->m : g->v) + p->at;
        }
        memcpy(w->copy + s->copied, from, s->bytes);
    }
}

/* ---- begin, finish, cancel */

static void offsets_all(struct es_ckpt_writer *w, int64_t *offset) {
    const struct es_ckpt_state *s = &w->state;
    char path[512];
    for (int i = 0; i < w->n_sets; i++) {
        int n = s->n_student, m = n + s->n_teacher;
        if (i >= m)
            snprintf(path, sizeof path, "%s", i == m ? "/adam/m" : "/adam/v");
        else
            snprintf(path, sizeof path, "%s/%s", i < n ? "/student" : "/teacher",
                     i < n ? s->student[i].name : s->teacher[i - n].name);
        offset[i] = es_h5_offset_all(w->file, path);
    }
}

int es_ckpt_begin_all(struct es_ckpt_writer *w, const struct es_comm *comm, const char *path,
                      const char *keep, const struct es_ckpt_state *state, const struct es_ckpt_meta *meta,
                      const char *config, struct es_err *err) {
    struct ckpt_plan plan = {0};
    struct es_err own = {0};
    if (!err) err = &own;
    ES_ASSERT(!w->file);
    w->comm = comm;
    snprintf(w->path, sizeof w->path, "%s", path);
    snprintf(w->keep, sizeof w->keep, "%s", keep ? keep : "");
    int64_t *offset = NULL;
    int rc = keep_state(w, state, err);
    if (rc == 0) rc = ckpt_plan_new(state, &plan, err);
    if (rc == 0 && !(offset = es_alloc((size_t)w->n_sets, sizeof *offset, err))) rc = -ES_EIO;
    ES_GO(es_err_agree_all(comm, rc, err));
    ES_GO(ckpt_describe_all(&w->file, comm, w->path, state, &plan, meta, config, err));
    ES_GO(es_h5_flush_all(w->file, err));
    offsets_all(w, offset);
    rc = make_shares(w, &plan, offset, err);
    if (rc == 0) {
        copy_state(w, &plan);
        rc = start(w, err);
    }
    bool started = rc == 0;
    rc = es_err_agree_all(comm, rc, err);
    if (rc < 0 && started) {
        atomic_store(&w->cancelled, true);
        pthread_join(w->thread, NULL);
    }
done:
    if (rc < 0) {
        es_h5_close_all(&w->file);
        forget(w);
    }
    es_free(&offset);
    ckpt_plan_free(&plan);
    return rc;
}

bool es_ckpt_writing(const struct es_ckpt_writer *w) {
    return w->file != NULL;
}

bool es_ckpt_written(const struct es_ckpt_writer *w) {
    return atomic_load(&w->through);
}

/* The parts of all ranks added up, in place. */
static void sum_digests_all(struct es_ckpt_writer *w, uint64_t *all) {
    size_t n = (size_t)w->n_sets;
    es_comm_allgather_all(w->comm, w->digest, n * sizeof *all, all);
    memset(w->digest, 0, n * sizeof *all);
    for (size_t r = 0; r < (size_t)es_comm_size(w->comm); r++)
        for (size_t i = 0; i < n; i++) w->digest[i] += all[r * n + i];
}

int es_ckpt_finish_all(struct es_ckpt_writer *w, double *write_s, struct es_err *err) {
    struct es_err own = {0};
    if (!err) err = &own;
    ES_ASSERT(w->file);
    pthread_join(w->thread, NULL);
    uint64_t *all = es_alloc((size_t)w->n_sets * (size_t)es_comm_size(w->comm), sizeof *all, err);
    int rc = all ? 0 : -ES_EIO;
    if (w->err.code) {
        *err = w->err;
        rc = -w->err.code;
    }
    if (write_s) *write_s = es_comm_slowest_s_all(w->comm, w->write_s);
    ES_GO(es_err_agree_all(w->comm, rc, err));
    sum_digests_all(w, all);
    rc = ckpt_complete_all(&w->file, &w->state, w->digest, w->keep[0] ? w->keep : NULL, err);
done:
    es_free(&all);
    es_h5_close_all(&w->file);
    forget(w);
    return rc;
}

void es_ckpt_cancel(struct es_ckpt_writer *w) {
    if (!w->file) return;
    atomic_store(&w->cancelled, true);
    pthread_join(w->thread, NULL);
    es_h5_close_all(&w->file);
    forget(w);
}

void es_ckpt_writer_free(struct es_ckpt_writer **w) {
    if (!*w) return;
    es_ckpt_cancel(*w);
    es_free(&(*w)->copy);
    es_free(w);
}
