/* With the flags of AVX512-BF16; run only where the processor has it. */
#define ES_VL 16
#define ES_PAIRS
#define ES_NAME(name) name##_bf16
#include "attention_fast.inc"
