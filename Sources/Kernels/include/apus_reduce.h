#ifndef APUS_REDUCE_H
#define APUS_REDUCE_H
#include "apus_base.h"
#endif
