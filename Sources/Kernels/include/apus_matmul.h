#ifndef APUS_MATMUL_H
#define APUS_MATMUL_H
#include "apus_base.h"
#endif
