/* What the deterministic runtime must do, without TensorRT. Run with the runtime preloaded:
   `mix` prints a number that all addresses and the order of all threads' steps went into. */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 8
#define STEPS 4000
#define SLOTS 64

static uint64_t sum = 14695981039346656037ull;
static void note(uint64_t n) { sum = (sum ^ n) * 1099511628211ull; }

static void fail(const char *what) {
    printf("wrong: %s\n", what);
    fflush(stdout);
    _exit(1);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int waiting, times_once;
static unsigned char *shared[SLOTS];
static size_t shared_size[SLOTS];

static void only_once(void) { times_once++; sched_yield(); }

static size_t a_size(uint64_t *seed) {
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t r = *seed >> 33;
    switch (r % 16) {
    case 0: return 40000 + r % 3000000;
    case 1: return r % 40000;
    default: return r % 600;
    }
}

static void fill(unsigned char *p, size_t n, uint64_t tag) {
    for (size_t i = 0; i < n; i += 61) p[i] = (unsigned char)(tag + i);
    if (n) p[n - 1] = (unsigned char)tag;
}

static void check(unsigned char *p, size_t n, uint64_t tag) {
    for (size_t i = 0; i + 1 < n; i += 61) if (p[i] != (unsigned char)(tag + i)) fail("content");
    if (n && p[n - 1] != (unsigned char)tag) fail("content at the end");
}

static void *work(void *number) {
    uint64_t me = (uint64_t)number, seed = me * 77 + 1;
    unsigned char *mine[SLOTS] = {0};
    size_t size[SLOTS] = {0};
    for (int step = 0; step < STEPS; step++) {
        size_t n = a_size(&seed);
        int slot = (int)(seed >> 50) % SLOTS;
        check(mine[slot], size[slot], me + (uint64_t)slot);
        switch ((seed >> 40) % 5) {
        case 0: {  /* Grows or shrinks, and keeps what it held. */
            size_t kept = n < size[slot] ? n : size[slot];
            unsigned char *moved = realloc(mine[slot], n ? n : 1);
            for (size_t i = 0; i + 1 < kept; i += 61)
                if (moved[i] != (unsigned char)(me + (uint64_t)slot + i)) fail("realloc");
            mine[slot] = moved;
            n = n ? n : 1;
            break;
        }
        case 1: {
            size_t align = (size_t)16 << (seed >> 20) % 10;
            free(mine[slot]);
            if (posix_memalign((void **)&mine[slot], align, n)) fail("posix_memalign");
            if ((uintptr_t)mine[slot] % align) fail("alignment");
            break;
        }
        case 2:
            free(mine[slot]);
            mine[slot] = calloc(1, n);
            for (size_t i = 0; i < n; i++) if (mine[slot][i]) fail("calloc");
            break;
        case 3: {  /* Another thread frees it. */
            pthread_mutex_lock(&lock);
            free(shared[slot]);
            shared[slot] = mine[slot];
            shared_size[slot] = size[slot];
            pthread_mutex_unlock(&lock);
            mine[slot] = malloc(n);
            break;
        }
        default:
            free(mine[slot]);
            mine[slot] = malloc(n);
        }
        size[slot] = n;
        if (!mine[slot] || (uintptr_t)mine[slot] % 16 || malloc_usable_size(mine[slot]) < n) fail("block");
        fill(mine[slot], n, me + (uint64_t)slot);
        note((uintptr_t)mine[slot]);
        note(me);
        if (step % 50 == 0) sched_yield();
        if (step % 333 == 0) {
            pthread_once(&once, only_once);
            /* A barrier of our own: the last one wakes the others. */
            pthread_mutex_lock(&lock);
            if (++waiting == WORKERS) {
                waiting = 0;
                pthread_cond_broadcast(&cond);
            } else {
                pthread_cond_wait(&cond, &lock);
            }
            pthread_mutex_unlock(&lock);
        }
    }
    sem_post(&semaphore);
    return NULL;
}

static void *first(void *mode) {
    int (*begin)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "enginewright_det_begin");
    if (!begin || !begin()) fail("not preloaded");
    pthread_t threads[WORKERS];
    if (!strcmp(mode, "many")) {
        for (int i = 0; i < 1000; i++) {
            pthread_t one;
            if (pthread_create(&one, NULL, (void *(*)(void *))malloc, (void *)8)) fail("create");
            pthread_join(one, NULL);
        }
    }
    if (!strcmp(mode, "deadlock")) {
        pthread_mutex_lock(&lock);
        pthread_create(threads, NULL, (void *(*)(void *))pthread_mutex_lock, &lock);
        pthread_join(threads[0], NULL);
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += 3600;  /* Nobody posts: the limit comes at once, for nobody else can run. */
    if (sem_timedwait(&semaphore, &now) != -1) fail("sem_timedwait");
    for (uint64_t i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < WORKERS; i++) sem_wait(&semaphore);
    for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    if (times_once != 1) fail("pthread_once");
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2) return 64;
    sem_init(&semaphore, 0, 0);
    pthread_t thread;
    void *before = malloc(1000);
    pthread_create(&thread, NULL, first, argv[1]);
    /* Meanwhile this thread, which is not managed, does as it likes. */
    for (int i = 0; i < 10000; i++) free(malloc((size_t)i));
    pthread_join(thread, NULL);
    free(before);
    for (int i = 0; i < SLOTS; i++) free(shared[i]);
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}
