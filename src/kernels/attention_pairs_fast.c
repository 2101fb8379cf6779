#define ES_VL 8
#define ES_PAIRS
#define ES_NAME(name) name##_pairs
#include "attention_fast.inc"
