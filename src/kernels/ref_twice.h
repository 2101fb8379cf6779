/* Compiles ES_REF_FILE for float and for double storage: REAL is the type, REF(name) the function's name. */
#include <math.h>
#include <stdint.h>

#include "earshot/kernels_ref.h"

#define REAL float
#define REF(name) name##_ref_f32
#include ES_REF_FILE
#undef REAL
#undef REF
#define REAL double
#define REF(name) name##_ref_f64
#include ES_REF_FILE
#undef REAL
#undef REF
