#define ES_VL 8
#define ES_NAME(name) name##_avx2
#include "conv1d_fast.inc"
