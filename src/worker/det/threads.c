/* Threads that take turns.
 *
 * One managed thread runs at a time. It runs until it would block, and then the next one that can run, in
 * the order of their numbers, does. So the order of all that they do is a function of what they do, and not
 * of the machine's load. The thread that calls det_begin is the first; threads that managed threads create
 * are managed. For all others each function here is libc's.
 *
 * Time does not pass: a wait with a limit ends by its limit when no thread can run. If nobody can run and
 * nobody waits with a limit, that is a deadlock (of the program, or because something blocks in a way that is not
 * known here), and the process ends with DET_EXIT_DEADLOCK. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "det.h"

__thread int det_me __attribute__((tls_model("initial-exec"), visibility("hidden")));

enum state { UNUSED, CAN_RUN, COND, LOCK, JOIN, FUTEX, ONCE, SEMAPHORE, ENDED };

static const char *const STATE_NAMES[] = {"unused",   "can run", "condition variable", "lock", "join",
                                          "futex",    "once",    "semaphore",          "ended"};

struct thread {
    enum state state;
    const void *on;      /* What it waits for. */
    bool timed, timed_out;
    unsigned long since; /* Waiters are woken in the order in which they came. */
    int go;              /* 1: it is its turn. The word of a futex. */
    pthread_t handle;
    void *(*start)(void *);
    void *argument;
};

static struct thread threads[DET_THREADS];
static int count = 1;  /* Numbers given: 1 to count - 1. */
static unsigned long clock_of_waits;
static pthread_key_t ending;

#define REAL(name)                                                          \
    static __typeof__(name) *real;                                          \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static long real_syscall(long number, long a, long b, long c, long d, long e, long f) {
    REAL(syscall);
    return real(number, a, b, c, d, e, f);
}

static void park(int i) {
    while (!__atomic_load_n(&threads[i].go, __ATOMIC_ACQUIRE)) {
        int before = errno;
        real_syscall(SYS_futex, (long)&threads[i].go, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
        errno = before;
    }
    threads[i].go = 0;
}

static void give_turn(int i) {
    __atomic_store_n(&threads[i].go, 1, __ATOMIC_RELEASE);
    real_syscall(SYS_futex, (long)&threads[i].go, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void leave(int status, const char *why) {
    char line[160];
    int n = snprintf(line, sizeof line, "deterministic threads: %s\n", why);
    if (write(2, line, (size_t)n) < 0) {}
    for (int i = 1; i < count; i++) {
        if (threads[i].state == UNUSED || threads[i].state == ENDED) continue;
        n = snprintf(line, sizeof line, "  thread %d waits for: %s\n", i, STATE_NAMES[threads[i].state]);
        if (write(2, line, (size_t)n) < 0) {}
    }
    _exit(status);
}

/* The next after `me` that can run. */
static int next_of(int me) {
    for (int k = 1; k < count; k++) {
        int i = 1 + (me - 1 + k) % (count - 1);
        if (threads[i].state == CAN_RUN) return i;
    }
    for (int k = 1; k < count; k++) {
        int i = 1 + (me - 1 + k) % (count - 1);
        if (threads[i].timed && threads[i].state != ENDED && threads[i].state != UNUSED) {
            threads[i].timed = false;
            threads[i].timed_out = true;
            threads[i].state = CAN_RUN;
            return i;
        }
    }
    leave(DET_EXIT_DEADLOCK, "all of them wait");
    return 0;
}

static void yield_turn(void) {
    int me = det_me, next = next_of(me);
    if (next == me) return;
    give_turn(next);
    park(me);
}

/* Waits to be woken; false if its limit came first. */
static bool wait_for(enum state state, const void *on, bool timed) {
    struct thread *t = &threads[det_me];
    t->state = state;
    t->on = on;
    t->timed = timed;
    t->timed_out = false;
    t->since = ++clock_of_waits;
    yield_turn();
    t->timed = false;
    return !t->timed_out;
}

/* Wakes up to `most`, the longest waiting first; gives how many. */
static int wake(enum state state, const void *on, int most) {
    int woken = 0;
    for (; woken < most; woken++) {
        int first = 0;
        for (int i = 1; i < count; i++) {
            bool waits = threads[i].state == state && threads[i].on == on;
            if (waits && (!first || threads[i].since < threads[first].since)) first = i;
        }
        if (!first) break;
        threads[first].state = CAN_RUN;
        threads[first].timed = false;
    }
    return woken;
}

static void wake_all(enum state state, const void *on) { wake(state, on, DET_THREADS); }

/* Destructors of a thread's own variables free memory, so its turn ends after them: libc calls the
   destructors of keys up to four times, for as long as they have values. */
static void thread_ends(void *round) {
    long n = (long)round;
    if (n < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(ending, (void *)(n + 1));
        return;
    }
    int me = det_me;
    threads[me].state = ENDED;
    wake_all(JOIN, &threads[me]);
    int next = next_of(me);
    det_me = 0;  /* What is freed from here on is left where it is. */
    give_turn(next);
}

static void *thread_starts(void *number) {
    int me = (int)(long)number;
    park(me);
    det_me = me;
    pthread_setspecific(ending, (void *)1);
    return threads[me].start(threads[me].argument);
}

/* The calling thread is managed from here on. 1 if it is, 0 if that cannot be. */
__attribute__((visibility("default"))) int enginewright_det_begin(void) {
    if (count != 1 || pthread_key_create(&ending, thread_ends)) return 0;
    count = 2;
    threads[1].state = CAN_RUN;
    threads[1].handle = pthread_self();
    det_me = 1;
    return 1;
}

/* The calling thread, the first one, is as any other again. The turn is still its own: the others stand
   still for ever. */
__attribute__((visibility("default"))) int enginewright_det_end(void) {
    det_me = 0;
    return 1;
}

int pthread_create(pthread_t *handle, const pthread_attr_t *attr, void *(*start)(void *), void *argument) {
    REAL(pthread_create);
    if (!det_me) return real(handle, attr, start, argument);
    if (count == DET_THREADS) leave(DET_EXIT_THREADS, "too many of them");
    int i = count++;
    threads[i] = (struct thread){.state = CAN_RUN, .start = start, .argument = argument};
    int failed = real(handle, attr, thread_starts, (void *)(long)i);
    if (failed) threads[i].state = UNUSED;
    else threads[i].handle = *handle;
    return failed;
}

int pthread_join(pthread_t handle, void **result) {
    REAL(pthread_join);
    if (!det_me) return real(handle, result);
    for (int i = count - 1; i > 0; i--) {
        if (threads[i].state == UNUSED || !pthread_equal(threads[i].handle, handle)) continue;
        if (threads[i].state != ENDED) wait_for(JOIN, &threads[i], false);
        threads[i].state = UNUSED;
        break;
    }
    return real(handle, result);
}

/* Locks keep libc's state, so that they mean the same to threads that are not managed. */
#define LOCKS(lock, trylock, type)                          \
    int lock(type *on) {                                    \
        REAL(lock);                                         \
        if (!det_me) return real(on);                       \
        int got;                                            \
        while ((got = trylock(on)) == EBUSY) wait_for(LOCK, (const void *)on, false); \
        return got;                                         \
    }
#define UNLOCKS(unlock, type)                               \
    int unlock(type *on) {                                  \
        REAL(unlock);                                       \
        int done = real(on);                                \
        if (det_me) wake_all(LOCK, (const void *)on);       \
        return done;                                        \
    }
LOCKS(pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_t)
UNLOCKS(pthread_mutex_unlock, pthread_mutex_t)
LOCKS(pthread_rwlock_rdlock, pthread_rwlock_tryrdlock, pthread_rwlock_t)
LOCKS(pthread_rwlock_wrlock, pthread_rwlock_trywrlock, pthread_rwlock_t)
UNLOCKS(pthread_rwlock_unlock, pthread_rwlock_t)
LOCKS(pthread_spin_lock, pthread_spin_trylock, pthread_spinlock_t)
UNLOCKS(pthread_spin_unlock, pthread_spinlock_t)

static int wait_on_cond(pthread_cond_t *cond, pthread_mutex_t *mutex, bool timed) {
    pthread_mutex_unlock(mutex);
    bool woken = wait_for(COND, cond, timed);
    pthread_mutex_lock(mutex);
    return woken ? 0 : ETIMEDOUT;
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) {
    REAL(pthread_cond_wait);
    return det_me ? wait_on_cond(cond, mutex, false) : real(cond, mutex);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    REAL(pthread_cond_timedwait);
    return det_me ? wait_on_cond(cond, mutex, true) : real(cond, mutex, until);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    REAL(pthread_cond_clockwait);
    return det_me ? wait_on_cond(cond, mutex, true) : real(cond, mutex, clock, until);
}

int pthread_cond_signal(pthread_cond_t *cond) {
    REAL(pthread_cond_signal);
    if (det_me && wake(COND, cond, 1)) return 0;
    return real(cond);
}

int pthread_cond_broadcast(pthread_cond_t *cond) {
    REAL(pthread_cond_broadcast);
    if (det_me) wake_all(COND, cond);
    return real(cond);
}

int sem_wait(sem_t *on) {
    REAL(sem_wait);
    if (!det_me) return real(on);
    while (sem_trywait(on)) {
        if (errno != EAGAIN) return -1;
        wait_for(SEMAPHORE, on, false);
    }
    return 0;
}

int sem_timedwait(sem_t *on, const struct timespec *until) {
    REAL(sem_timedwait);
    if (!det_me) return real(on, until);
    while (sem_trywait(on)) {
        if (errno != EAGAIN) return -1;
        if (!wait_for(SEMAPHORE, on, true)) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
    return 0;
}

int sem_post(sem_t *on) {
    REAL(sem_post);
    int done = real(on);
    if (det_me) wake_all(SEMAPHORE, on);
    return done;
}

/* What runs once and is not done yet: libc would wait for it inside itself. */
static const pthread_once_t *begun[64];

int pthread_once(pthread_once_t *once, void (*work)(void)) {
    REAL(pthread_once);
    if (!det_me) return real(once, work);
    int slot = -1;
    for (int i = 0; i < 64; i++) {
        if (begun[i] == once) {
            wait_for(ONCE, once, false);
            i = -1;  /* From the start: it may have failed, and been begun by another. */
            slot = -1;
        } else if (!begun[i] && slot < 0) {
            slot = i;
        }
    }
    if (slot < 0) leave(DET_EXIT_THREADS, "too many things are done once at the same time");
    begun[slot] = once;
    int done = real(once, work);
    begun[slot] = NULL;
    wake_all(ONCE, once);
    return done;
}

/* C++'s futures, its guards of static variables and Rust's locks come here. */
long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    if (!det_me || number != SYS_futex) return real_syscall(number, a, b, c, d, e, f);
    switch (b & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
        if (__atomic_load_n((int *)a, __ATOMIC_SEQ_CST) != (int)c) {
            errno = EAGAIN;
            return -1;
        }
        if (wait_for(FUTEX, (const void *)a, d != 0)) return 0;
        errno = ETIMEDOUT;
        return -1;
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET: {
        int woken = wake(FUTEX, (const void *)a, (int)c);
        return woken < (int)c ? woken + real_syscall(number, a, b, c - woken, d, e, f) : woken;
    }
    default:
        return real_syscall(number, a, b, c, d, e, f);
    }
}

/* To sleep is to let the others run. */
#define YIELDS(name, parameters, arguments)     \
    int name parameters {                       \
        REAL(name);                             \
        if (!det_me) return real arguments;     \
        yield_turn();                           \
        return 0;                               \
    }
YIELDS(sched_yield, (void), ())
YIELDS(usleep, (useconds_t for_), (for_))
YIELDS(nanosleep, (const struct timespec *for_, struct timespec *left), (for_, left))
YIELDS(clock_nanosleep, (clockid_t clock, int flags, const struct timespec *for_, struct timespec *left),
       (clock, flags, for_, left))

/* How many processors there are decides nothing. */
int get_nprocs(void) {
    REAL(get_nprocs);
    return det_me ? 1 : real();
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    REAL(sched_getaffinity);
    if (!det_me) return real(pid, size, set);
    memset(set, 0, size);
    CPU_SET_S(0, size, set);
    return 0;
}

long sysconf(int name) {
    REAL(sysconf);
    return det_me && (name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF) ? 1 : real(name);
}
