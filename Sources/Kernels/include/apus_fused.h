#ifndef APUS_FUSED_H
#define APUS_FUSED_H
#include "apus_base.h"
#endif
