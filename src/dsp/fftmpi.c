#include "earshot/fftmpi.h"

#include <string.h>

#include <fftw3-mpi.h>

#include "earshot/mem.h"

enum { PIECE = 1 << 22 }; /* samples that a reader delivers at once */

struct range { /* of each rank */
    int64_t first, n;
};

/* A transform of one length: its input and output parts. */
struct transform {
    ptrdiff_t n, n_in, first_in, n_out, first_out, alloc;
    fftw_complex *data; /* in place */
    fftw_plan plan;
};

static MPI_Comm mpi(const struct es_comm *c) {
    return *(const MPI_Comm *)es_comm_mpi(c);
}

/* The least number >= n without a prime factor above 5 that is a multiple of 24: enough factors for any few ranks. */
static int64_t smooth(int64_t n) {
    enum { STEP = 24 };
    for (int64_t m = (n + STEP - 1) / STEP;; m++) {
        int64_t rest = m;
        for (int64_t p = 2; p <= 5; p++)
            while (rest % p == 0) rest /= p;
        if (rest == 1) return m * STEP;
    }
}

/* flags: FFTW_MPI_SCRAMBLED_OUT or _IN, 0. */
static int transform_new(struct transform *t, const struct es_comm *c, int64_t n, int sign, unsigned flags,
                         struct es_err *err) {
    fftw_mpi_init();
    t->n = (ptrdiff_t)n;
    t->alloc = fftw_mpi_local_size_1d(t->n, mpi(c), sign, FFTW_ESTIMATE | flags, &t->n_in, &t->first_in,
                                      &t->n_out, &t->first_out);
    t->data = es_alloc((size_t)t->alloc, sizeof *t->data, err);
    ES_TRY(es_err_agree_all(c, t->data ? 0 : -ES_EIO, err));
    t->plan = fftw_mpi_plan_dft_1d(t->n, t->data, t->data, mpi(c), sign, FFTW_ESTIMATE | flags);
    return es_err_agree_all(
        c, t->plan ? 0 : es_err_set(err, ES_EIO, "FFTW: no plan for %lld samples", (long long)n), err);
}

static void transform_free(struct transform *t) {
    if (t->plan) fftw_destroy_plan(t->plan);
    t->plan = NULL;
    es_free(&t->data);
}

/* Everybody's part. */
static int ranges_all(struct range **out, const struct es_comm *c, int64_t first, int64_t n,
                      struct es_err *err) {
    struct range mine = {first, n};
    *out = es_alloc((size_t)es_comm_size(c), sizeof **out, err);
    ES_TRY(es_err_agree_all(c, *out ? 0 : -ES_EIO, err));
    es_comm_allgather_all(c, &mine, sizeof mine, *out);
    return 0;
}

static struct range cut(struct range r, int64_t first, int64_t end) {
    int64_t a = r.first > first ? r.first : first, b = r.first + r.n < end ? r.first + r.n : end;
    return (struct range){a, b > a ? b - a : 0};
}

/* Elements first .. first+n-1 of a signal in parts `from` become elements first+shift .. of one in parts `to`. item: bytes. */
static void move_all(const struct es_comm *c, const struct range *from, const void *x, const struct range *to,
                     void *y, int64_t first, int64_t n, int64_t shift, size_t item) {
    const int rank = es_comm_rank(c), size = es_comm_size(c);
    for (int step = 0; step < size; step++) {
        const int dest = (rank + step) % size, source = (rank - step + size) % size;
        const struct range out = cut(cut(from[rank], first, first + n), to[dest].first - shift,
                                     to[dest].first + to[dest].n - shift),
                           in = cut(cut(from[source], first, first + n), to[rank].first - shift,
                                    to[rank].first + to[rank].n - shift);
        const char *send = out.n ? (const char *)x + (size_t)(out.first - from[rank].first) * item : NULL;
        char *recv = in.n ? (char *)y + (size_t)(in.first + shift - to[rank].first) * item : NULL;
        if (step == 0) {
            if (in.n) memcpy(recv, send, (size_t)in.n * item);
        } else {
            es_comm_exchange(c, send, (size_t)out.n * item, dest, recv, (size_t)in.n * item, source, step);
        }
    }
}

/* This rank's part of the input into a complex array with zeros behind the signal. Parts of a minute: the reader may need room. */
static int fill(struct transform *t, int64_t n, es_part_fn read, void *ctx, struct es_err *err) {
    const struct range mine = cut((struct range){t->first_in, t->n_in}, 0, n);
    double *x = es_alloc((size_t)(mine.n < PIECE ? mine.n : PIECE), sizeof *x, err);
    int rc = x ? 0 : -ES_EIO;
    for (int64_t at = 0; rc == 0 && at < mine.n; at += PIECE) {
        const int64_t count = mine.n - at < PIECE ? mine.n - at : PIECE;
        rc = read(ctx, mine.first + at, count, x, err);
        for (int64_t i = 0; rc == 0 && i < count; i++) t->data[at + i][0] = x[i];
        es_watchdog_kick("transform: read", at);
    }
    es_free(&x);
    return rc;
}

void es_spread_free(struct es_spread *s) {
    es_free(&s->x);
    *s = (struct es_spread){0};
}

/* The real parts of the first `total` samples, scaled. */
static int take(struct es_spread *s, const struct transform *t, int64_t total, double scale,
                struct es_err *err) {
    const struct range mine = cut((struct range){t->first_out, t->n_out}, 0, total);
    double *x = es_alloc((size_t)mine.n, sizeof *x, err);
    if (!x) return -ES_EIO;
    for (int64_t i = 0; i < mine.n; i++) x[i] = t->data[i][0] * scale;
    es_free(&s->x);
    *s = (struct es_spread){.total = total, .first = mine.first, .n = mine.n, .x = x};
    return 0;
}

int es_spread_read_all(struct es_spread *s, const struct es_comm *c, int64_t n, es_part_fn read, void *ctx,
                       struct es_err *err) {
    const int64_t rank = es_comm_rank(c), size = es_comm_size(c), first = n * rank / size;
    int rc = 0;
    *s = (struct es_spread){.total = n, .first = first, .n = n * (rank + 1) / size - first};
    s->x = es_alloc((size_t)s->n, sizeof *s->x, err);
    if (!s->x) rc = -ES_EIO;
    for (int64_t at = 0; rc == 0 && at < s->n; at += PIECE) {
        es_watchdog_kick("transform: read", at);
        rc = read(ctx, first + at, s->n - at < PIECE ? s->n - at : PIECE, s->x + at, err);
    }
    rc = es_err_agree_all(c, rc, err);
    if (rc < 0) es_spread_free(s);
    return rc;
}

static int64_t common_divisor(int64_t a, int64_t b) {
    return b == 0 ? a : common_divisor(b, a % b);
}

/* Bins below the lower Nyquist frequency keep their frequency: 0 .. half-1 at the begin, the negative ones at the end; both halves of
 * the bin at that frequency itself meet there. */
static void copy_spectrum_all(const struct es_comm *c, const struct transform *in, const struct range *from,
                              struct transform *out, const struct range *to) {
    const int64_t half = (in->n < out->n ? in->n : out->n) / 2, rank = es_comm_rank(c);
    const bool down = out->n < in->n;
    move_all(c, from, in->data, to, out->data, 0, half + (down ? 0 : 1), 0, sizeof *in->data);
    move_all(c, from, in->data, to, out->data, in->n - half + (down ? 0 : 1), half - (down ? 0 : 1),
             out->n - in->n, sizeof *in->data);
    if (down) { /* bin N/2 of the shorter one holds the frequencies half and -half: half of each, the real part */
        const int64_t at = half - to[rank].first;
        if (at >= 0 && at < to[rank].n) out->data[at][1] = 0;
        return;
    }
    const int64_t at = half - to[rank].first, mirror = out->n - half - to[rank].first;
    fftw_complex bin = {0};
    int owner = 0;
    while (owner < es_comm_size(c) - 1 && half >= to[owner].first + to[owner].n) owner++;
    if (owner == rank) {
        out->data[at][0] *= 0.5;
        out->data[at][1] *= 0.5;
        memcpy(bin, out->data[at], sizeof bin);
    }
    es_comm_bcast_all(c, bin, sizeof bin, owner);
    if (mirror >= 0 && mirror < to[rank].n) {
        out->data[mirror][0] = bin[0];
        out->data[mirror][1] = -bin[1];
    }
}

int es_fftmpi_resample_all(struct es_spread *y, const struct es_comm *c, int64_t n, int rate_in_hz,
                           int rate_out_hz, es_part_fn read, void *ctx, struct es_err *err) {
    ES_ASSERT(n >= 1 && rate_in_hz > 0 && rate_out_hz > 0 && rate_in_hz != rate_out_hz);
    const int64_t divisor = common_divisor(rate_in_hz, rate_out_hz), in_unit = rate_in_hz / divisor,
                  out_unit = rate_out_hz / divisor, units = smooth((n + rate_in_hz + in_unit - 1) / in_unit),
                  total = (n * rate_out_hz + rate_in_hz - 1) / rate_in_hz;
    struct transform in = {0}, out = {0};
    struct range *from = NULL, *to = NULL;
    int rc = 0;
    *y = (struct es_spread){0};
    ES_GO(transform_new(&in, c, units * in_unit, FFTW_FORWARD, 0, err));
    ES_GO(es_err_agree_all(c, fill(&in, n, read, ctx, err), err));
    es_watchdog_kick("transform: forward", 0);
    fftw_execute(in.plan);
    ES_GO(transform_new(&out, c, units * out_unit, FFTW_BACKWARD, 0, err));
    ES_GO(ranges_all(&from, c, in.first_out, in.n_out, err));
    ES_GO(ranges_all(&to, c, out.first_in, out.n_in, err));
    copy_spectrum_all(c, &in, from, &out, to);
    transform_free(&in);
    es_watchdog_kick("transform: back", 0);
    fftw_execute(out.plan);
    ES_GO(es_err_agree_all(c, take(y, &out, total, 1.0 / (double)(units * in_unit), err), err));
done:
    es_free(&to);
    es_free(&from);
    transform_free(&out);
    transform_free(&in);
    if (rc < 0) es_spread_free(y);
    return rc;
}

/* A spread signal into the parts of a transform. */
static int place_all(const struct es_comm *c, const struct es_spread *x, struct transform *t,
                     struct es_err *err) {
    struct range *from = NULL, *to = NULL;
    double *part = NULL;
    int rc = 0;
    ES_GO(ranges_all(&from, c, x->first, x->n, err));
    ES_GO(ranges_all(&to, c, t->first_in, t->n_in, err));
    part = es_alloc((size_t)t->n_in, sizeof *part, err);
    ES_GO(es_err_agree_all(c, part ? 0 : -ES_EIO, err));
    move_all(c, from, x->x, to, part, 0, x->total, 0, sizeof *part);
    for (int64_t i = 0; i < t->n_in; i++) t->data[i][0] = part[i];
done:
    es_free(&part);
    es_free(&to);
    es_free(&from);
    return rc;
}

int es_fftmpi_convolve_all(struct es_spread *x, const struct es_comm *c, const double *h, int64_t n_h,
                           int64_t offset, struct es_err *err) {
    ES_ASSERT(n_h >= 1 && offset >= 0 && offset < n_h);
    const int64_t n = smooth(x->total + n_h);
    /* the scrambled order saves two transposes; FFTW has no such plan for one rank */
    const unsigned there = es_comm_size(c) > 1 ? FFTW_MPI_SCRAMBLED_OUT : 0,
                   back_again = es_comm_size(c) > 1 ? FFTW_MPI_SCRAMBLED_IN : 0;
    struct transform a = {0}, b = {0}, back = {0};
    int rc = 0;
    ES_GO(transform_new(&a, c, n, FFTW_FORWARD, there, err));
    ES_GO(place_all(c, x, &a, err));
    fftw_execute(a.plan);
    ES_GO(transform_new(&b, c, n, FFTW_FORWARD, there, err));
    /* h turned by the offset: what stands before it wraps to the end */
    for (int64_t i = 0; i < b.n_in; i++) {
        const int64_t k = (b.first_in + i + offset) % n;
        b.data[i][0] = k < n_h ? h[k] : 0;
    }
    es_watchdog_kick("transform: response", 0);
    fftw_execute(b.plan);
    for (int64_t i = 0; i < a.n_out; i++) { /* both in the same scrambled order */
        const double re = a.data[i][0] * b.data[i][0] - a.data[i][1] * b.data[i][1];
        b.data[i][1] = a.data[i][0] * b.data[i][1] + a.data[i][1] * b.data[i][0];
        b.data[i][0] = re;
    }
    transform_free(&a);
    ES_GO(transform_new(&back, c, n, FFTW_BACKWARD, back_again, err));
    ES_ASSERT(back.n_in == b.n_out && back.first_in == b.first_out);
    memcpy(back.data, b.data, (size_t)b.n_out * sizeof *b.data);
    transform_free(&b);
    es_watchdog_kick("transform: back", 0);
    fftw_execute(back.plan);
    ES_GO(es_err_agree_all(c, take(x, &back, x->total, 1.0 / (double)n, err), err));
done:
    transform_free(&back);
    transform_free(&b);
    transform_free(&a);
    return rc;
}

void es_spread_collect_all(const struct es_spread *s, const struct es_comm *c, int64_t first, int64_t n,
                           int root, double *out) {
    const int rank = es_comm_rank(c), size = es_comm_size(c);
    const struct range mine = cut((struct range){s->first, s->n}, first, first + n);
    const double *here = mine.n ? s->x + (mine.first - s->first) : NULL;
    if (rank != root) {
        es_comm_send(c, &mine, sizeof mine, root, 0);
        if (mine.n) es_comm_send(c, here, (size_t)mine.n * sizeof *here, root, 1);
        return;
    }
    if (mine.n) memcpy(out + (mine.first - first), here, (size_t)mine.n * sizeof *here);
    for (int r = 0; r < size; r++) {
        struct range theirs;
        if (r == root) continue;
        es_comm_recv(c, &theirs, sizeof theirs, r, 0);
        if (theirs.n) es_comm_recv(c, out + (theirs.first - first), (size_t)theirs.n * sizeof *out, r, 1);
    }
}
