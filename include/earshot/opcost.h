/* What an operation of the tape costs by its shapes: for rooflines (`earshot bench step --roofline`). Collectivity: none. */
#ifndef EARSHOT_OPCOST_H
#define EARSHOT_OPCOST_H

#include "earshot/tape.h"

struct es_op_cost {
    /* 2 m n k of its matrix products, as in es_net_flops_*; backward: of each gradient that is asked for */
    double flops;
    /* it cannot avoid: every input read once, every output written once; backward reads the inputs and the
     * gradients of the outputs and writes those of the inputs. Caches may hold what the operation before wrote. */
    double bytes;
};
struct es_op_cost es_op_cost(const struct es_tape_event *e);

#endif
