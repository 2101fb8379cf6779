/* The reference kernels of kernels_crnn.h, once for float and once for double. */
#include <math.h>

#include "earshot/kernels_crnn.h"

#define ES_R float
#define ES_K(op) es_k_##op##_ref_f32
#include "conv_ref.inc"
#include "batchnorm_ref.inc"
#include "pool_ref.inc"
#include "tail_ref.inc"
#include "rnn_ref.inc"
#include "loss_ref.inc"
#undef ES_R
#undef ES_K

#define ES_R double
#define ES_K(op) es_k_##op##_ref_f64
#include "conv_ref.inc"
#include "batchnorm_ref.inc"
#include "pool_ref.inc"
#include "tail_ref.inc"
#include "rnn_ref.inc"
#include "loss_ref.inc"
