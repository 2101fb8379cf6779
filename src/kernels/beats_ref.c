/* The reference kernels of kernels_beats.h but attention's, once for float and once for double. */
#include <math.h>

#include "earshot/kernels_beats.h"

#define ES_R float
#define ES_K(op) es_k_##op##_ref_f32
#include "beats_ref.inc"
#undef ES_R
#undef ES_K

#define ES_R double
#define ES_K(op) es_k_##op##_ref_f64
#include "beats_ref.inc"
