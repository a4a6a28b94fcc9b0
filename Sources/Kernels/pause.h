// What a thread does between two looks at a value that another will change.
#ifndef APUS_PAUSE_H
#define APUS_PAUSE_H

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // waits about as long as x86's pause; `yield` is nothing on most cores
#endif
}
#endif
