#include "earshot/run.h"

#include <errno.h>
#include <omp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/hash.h"
#include "earshot/kernels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/version.h"
#include "run_impl.h"

/* As es_err_agree_all, but an error that all ranks share word for word keeps its words: no rank is to blame.
 */
static int settle_all(const struct es_comm *comm, int rc, struct es_err *err) {
    if (es_comm_size(comm) == 1) return rc;
    int64_t mine = rc < 0 ? (int64_t)(es_hash_bytes(err->msg, strlen(err->msg)) >> 1) : rc;
    if (es_comm_min_all(comm, mine) == es_comm_max_all(comm, mine)) return rc;
    return es_err_agree_all(comm, rc, err);
}

/* ---- configuration */

static int broadcast_files_all(const struct es_comm *comm, const char *path, char **bytes, size_t *n,
                               struct es_err *err) {
    struct {
        int rc;
        uint64_t n;
        struct es_err err;
    } head;
    memset(&head, 0, sizeof head);
    if (es_comm_rank(comm) == 0) {
        head.rc = es_config_read(path, bytes, n, &head.err);
        head.n = *n;
    }
    es_comm_bcast_all(comm, &head, sizeof head, 0);
    if (head.rc < 0) {
        *err = head.err;
        return head.rc;
    }
    *n = head.n;
    int rc = 0;
    if (es_comm_rank(comm) != 0) *bytes = es_alloc(*n, 1, err);
    if (!*bytes) rc = -ES_EIO;
    ES_TRY(settle_all(comm, rc, err));
    es_comm_bcast_all(comm, *bytes, *n, 0);
    return 0;
}

static int apply_local(struct es_run *run, const char *bytes, size_t n, struct es_err *err) {
    ES_TRY(es_config_new(&run->config, err));
    ES_TRY(es_config_parse(run->config, bytes, n, err));
    for (int i = 0; i < es_run_option_count(run, "set"); i++)
        ES_TRY(es_config_set(run->config, es_run_option_at(run, "set", i), err));
    return es_config_finish(run->config, err);
}

static int load_config_all(struct es_run *run, struct es_err *err) {
    char *bytes = NULL;
    size_t n = 0;
    int rc = 0;
    if (es_run_option(run, "config"))
        ES_GO(broadcast_files_all(run->comm, es_run_option(run, "config"), &bytes, &n, err));
    ES_GO(settle_all(run->comm, apply_local(run, bytes, n, err), err));
    int64_t digest = (int64_t)(es_config_digest(run->config) >> 1);
    if (es_comm_min_all(run->comm, digest) != es_comm_max_all(run->comm, digest))
        rc = es_err_set(
            err, ES_EUSAGE,
            "the configuration differs between ranks; give all nodes the same environment variables");
done:
    es_free(&bytes);
    return rc;
}

/* ---- threads */

/* A number that ranks share exactly when they may run on the same cores: host and affinity mask. */
static uint64_t cores_id(void) {
    char text[8192] = "", line[4096];
    gethostname(text, 256);
    size_t at = strlen(text);
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "Cpus_allowed:", 13) == 0) snprintf(text + at, sizeof text - at, "%s", line);
    if (f) fclose(f);
    return es_hash_bytes(text, strlen(text));
}

/* One line when ranks have fewer cores than threads, as a launcher that binds each to one core leaves them; or when several
 * ranks were given the same single core. */
static void tell_binding_all(const struct es_comm *comm, int threads, int cores, int sharing) {
    bool crowded = threads > cores || (cores == 1 && sharing > 1 && sysconf(_SC_NPROCESSORS_ONLN) > 1);
    int64_t n = es_comm_sum_all(comm, crowded), fewest = es_comm_min_all(comm, cores);
    int64_t most = es_comm_max_all(comm, crowded ? sharing : 0);
    if (n > 0)
        es_log(ES_LOG_WARN,
               "binding: on %lld of %d ranks %d threads share %lld core%s (%lld ranks on the same); with "
               "mpiexec use "
               "--map-by slot:PE=%d or --bind-to none, with srun --cpus-per-task=%d",
               (long long)n, es_comm_size(comm), threads, (long long)fewest, fewest == 1 ? "" : "s",
               (long long)most, threads, threads);
}

/* threads_per_rank, or this rank's cores over the ranks on the same cores, at most OMP_NUM_THREADS. */
static int set_threads_all(struct es_run *run, struct es_err *err) {
    int size = es_comm_size(run->comm), sharing = 0;
    uint64_t mine = cores_id(), *all = es_alloc((size_t)size, sizeof *all, err);
    ES_TRY(settle_all(run->comm, all ? 0 : -ES_EIO, err));
    es_comm_allgather_all(run->comm, &mine, sizeof mine, all);
    for (int i = 0; i < size; i++) sharing += all[i] == mine;
    es_free(&all);
    int n = es_config_int(run->config, "threads_per_rank"), limit = omp_get_max_threads();
    if (n == 0) {
        n = omp_get_num_procs() / sharing;
        if (n > limit) n = limit;
        if (n < 1) n = 1;
    }
    tell_binding_all(run->comm, n, omp_get_num_procs(), sharing);
    es_kernel_set_threads(n);
    run->threads = n;
    return es_kernel_init(err); /* the same words and, in a cluster of one kind, the same CPU everywhere */
}

/* ---- open */

static void init_log(struct es_run *run) {
    const char *level = es_run_option(run, "log-level");
    if (!level) level = run->config ? es_config_string(run->config, "run.log_level") : "info";
    es_log_init(es_comm_rank(run->comm), es_comm_size(run->comm),
                (enum es_log_level)es_log_level_from_name(level), es_run_quiet(run));
}

/* Rank 0 only: the writer, and whether its folder can be written, before hours of work rather than after. */
static int open_json(struct es_run *run, struct es_err *err) {
    const char *path = es_run_option(run, "json"), *slash = path ? strrchr(path, '/') : NULL;
    if (!path) return 0;
    run->json_stdout = strcmp(path, "-") == 0;
    if (es_comm_rank(run->comm) != 0) return 0;
    if (!run->json_stdout) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
        if (access(folder, W_OK) != 0)
            return es_err_set(err, ES_EIO, "--json: %s: %s", path, strerror(errno));
    }
    return es_json_new(&run->json, path, err);
}

static int begin_local(struct es_run *run, struct es_err *err) {
    ES_TRY(open_json(run, err));
    if (!run->spec->long_running) return 0;
    es_stop_install();
    return es_watchdog_begin(es_config_double(run->config, "watchdog.timeout_s"), es_comm_rank(run->comm),
                             err);
}

int es_run_open_all(struct es_run **out, int argc, char **argv, const struct es_job_spec *spec,
                    struct es_err *err) {
    struct es_run *run = *out = es_alloc(1, sizeof *run, err); /* before any fault can be injected */
    if (!run) return -ES_EIO;
    run->spec = spec;
    ES_TRY(es_comm_init_all(&run->comm, &argc, &argv, err));
    int rank = es_comm_rank(run->comm);
    es_fault_init(getenv("ES_FAULT"), rank);
    if (es_run_wants_help(argc, argv)) {
        if (rank == 0) es_run_help(spec, stdout);
        return ES_RUN_DONE;
    }
    ES_TRY(settle_all(run->comm, es_run_parse(run, argc, argv, err), err));
    init_log(run);
    ES_TRY(load_config_all(run, err));
    init_log(run);
    const char *key = es_run_option(run, "explain");
    if (key) {
        int rc = es_config_explain(key, run->config, rank == 0 ? stdout : NULL, err);
        return rc < 0 ? rc : ES_RUN_DONE;
    }
    ES_TRY(set_threads_all(run, err));
    ES_TRY(settle_all(run->comm, begin_local(run, err), err));
    es_log(ES_LOG_DEBUG, "%s commit=%s ranks=%d threads=%d config=%016llx", spec->name ? spec->name : "",
           es_version_commit(), es_comm_size(run->comm), run->threads,
           (unsigned long long)es_config_digest(run->config));
    return 0;
}

/* ---- close */

static void print_error(const struct es_job_spec *spec, const struct es_err *err) {
    char title[64];
    es_run_title(spec, title);
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", title, err->msg);
    if (err->hint[0]) fprintf(stderr, "hint: %s\n", err->hint);
}

/* What rank 0 wrote must have arrived. */
static int end_output(struct es_run *run, int rc, struct es_err *err) {
    if (rc < 0) {
        if (run->keep_json) es_json_close(&run->json, NULL);
        es_json_free(&run->json);
        return rc;
    }
    ES_TRY(es_json_close(&run->json, err));
    if (fflush(stdout) != 0 || ferror(stdout))
        return es_err_set(err, ES_EIO, "standard output: cannot write");
    return rc;
}

static void run_free(struct es_run **run) {
    es_json_free(&(*run)->json);
    es_config_free(&(*run)->config);
    es_free(&(*run)->operand);
    es_free(&(*run)->given);
    es_free(run);
}

int es_run_close_all(struct es_run **out, int rc, struct es_err *err) {
    struct es_run *run = *out;
    if (!run || !run->comm) { /* MPI did not start: nobody to agree with */
        struct es_comm *none = NULL;
        fprintf(stderr, "earshot: %s\n", err->msg);
        if (run) run_free(out);
        es_comm_fini_all(&none);
        return -rc;
    }
    bool first = es_comm_rank(run->comm) == 0;
    rc = settle_all(run->comm, rc == ES_RUN_DONE ? 0 : rc, err);
    if (first) rc = end_output(run, rc, err); /* a result only when no rank failed */
    rc = settle_all(run->comm, rc, err);
    es_watchdog_end();
    if (rc < 0 && first) print_error(run->spec, err);
    es_log_close();
    struct es_comm *comm = run->comm;
    run_free(out);
    es_comm_fini_all(&comm);
    return rc < 0 ? -rc : rc == ES_STOPPED ? ES_STOPPED : 0;
}

const struct es_comm *es_run_comm(const struct es_run *run) {
    return run->comm;
}
struct es_config *es_run_config(struct es_run *run) {
    return run->config;
}
int es_run_threads(const struct es_run *run) {
    return run->threads;
}
bool es_run_check(const struct es_run *run) {
    return es_run_flag(run, "check");
}
bool es_run_quiet(const struct es_run *run) {
    return es_run_flag(run, "quiet");
}
struct es_json *es_run_json(const struct es_run *run) {
    return run->json;
}

void es_run_keep_json(struct es_run *run) {
    run->keep_json = true;
}

void es_run_print(const struct es_run *run, const char *fmt, ...) {
    if (es_comm_rank(run->comm) != 0 || run->json_stdout) return;
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
}
