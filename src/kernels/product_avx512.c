#define ES_VL 16
#define ES_NAME(name) name##_avx512
#include "product_fast.inc"
