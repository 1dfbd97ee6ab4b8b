/* The deterministic runtime of a worker: see mod.rs. Private to alloc.c and threads.c. */
#ifndef ENGINEWRIGHT_DET_H
#define ENGINEWRIGHT_DET_H

#include <stdint.h>

/* How many threads may be managed in the life of a process; their arenas are never given to another. */
#define DET_THREADS 512

/* Exit statuses that the main process knows: see worker::det. */
#define DET_EXIT_DEADLOCK 86
#define DET_EXIT_THREADS 87

/* The number of the calling thread: 0 is a thread that is not managed, for which every function here
   does what libc does. */
extern __thread int det_me __attribute__((tls_model("initial-exec"), visibility("hidden")));

#endif
