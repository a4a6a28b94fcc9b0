#ifndef APUS_CONVOLUTION_H
#define APUS_CONVOLUTION_H
#include "apus_base.h"
#endif
