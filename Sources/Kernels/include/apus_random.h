#ifndef APUS_RANDOM_H
#define APUS_RANDOM_H
#include "apus_base.h"
#endif
