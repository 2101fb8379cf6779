#define ES_VL 16
#define ES_NAME(name) name##_avx512
#include "conv1d_fast.inc"
