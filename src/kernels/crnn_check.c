/* ES_KERNELS=check for the kernels of kernels_crnn.h: the only place here that allocates; debugging only. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "crnn_impl.h"
#include "earshot/err.h"
#include "earshot/mem.h"

void es_k_check_begin(struct es_k_check *c, int n, const struct es_k_out *out) {
    ES_ASSERT(n <= ES_K_MAX_OUT);
    memset(c, 0, sizeof *c);
    c->n = n;
    for (int i = 0; i < n; i++) {
        c->out[i] = out[i];
        if (!out[i].p) continue;
        c->saved[i] = es_alloc((size_t)out[i].n, out[i].size, NULL);
        ES_ASSERT(c->saved[i]);
        memcpy(c->saved[i], out[i].p, (size_t)out[i].n * out[i].size);
    }
}

static void swap(struct es_k_out *o, char *saved) {
    char *p = o->p;
    for (size_t i = 0; i < (size_t)o->n * o->size; i++) {
        char t = p[i];
        p[i] = saved[i];
        saved[i] = t;
    }
}

void es_k_check_swap(struct es_k_check *c) {
    for (int i = 0; i < c->n; i++)
        if (c->saved[i]) swap(&c->out[i], c->saved[i]);
}

static double value(const void *p, size_t size, int64_t i) {
    return size == sizeof(float) ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

void es_k_check_end(struct es_k_check *c, const struct es_k_out *out, const char *kernel) {
    for (int i = 0; i < c->n; i++) {
        if (!c->saved[i]) continue;
        for (int64_t k = 0; k < out[i].n; k++) {
            double fast = value(c->saved[i], out[i].size, k), ref = value(out[i].p, out[i].size, k);
            if (fabs(fast - ref) <= out[i].bound || fast == ref || (isnan(fast) && isnan(ref))) continue;
            fprintf(stderr,
                    "es_k_%s: output %d, element %lld of %lld: fast %.9g, reference %.9g, bound %.3g\n",
                    kernel, i, (long long)k, (long long)out[i].n, fast, ref, out[i].bound);
            es_bug(__FILE__, __LINE__, "the fast kernel agrees with its reference");
        }
        swap(&c->out[i], c->saved[i]);
        es_free(&c->saved[i]);
    }
}
