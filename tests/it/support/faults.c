/* What disks, networks and clocks do at times, to be preloaded into the program:
 * FAULTS=N    one of N writes, syncs, renames and links fails with EIO, or writes less than was asked for;
 * CLOCK=S     the clock is S seconds off. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

static unsigned long state;

static int fails(void) {
    static long rate = -1;
    if (rate < 0) {
        const char *text = getenv("FAULTS");
        rate = text ? atol(text) : 0;
        state = (unsigned long)getpid() * 2654435761u + (unsigned long)time(NULL);
    }
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    return rate > 0 && (state >> 33) % rate == 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL return errno = EIO, -1

ssize_t write(int fd, const void *bytes, size_t n) {
    if (fd > 2 && fails()) {
        if (n < 2 || state & (1ul << 40)) FAIL;
        n /= 2;
    }
    return REAL(write)(fd, bytes, n);
}

int fsync(int fd) { if (fails()) FAIL; return REAL(fsync)(fd); }
int rename(const char *a, const char *b) { if (fails()) FAIL; return REAL(rename)(a, b); }
int link(const char *a, const char *b) { if (fails()) FAIL; return REAL(link)(a, b); }
int linkat(int x, const char *a, int y, const char *b, int f) { if (fails()) FAIL; return REAL(linkat)(x, a, y, b, f); }

ssize_t copy_file_range(int a, off_t *x, int b, off_t *y, size_t n, unsigned f) {
    if (fails()) FAIL;
    return REAL(copy_file_range)(a, x, b, y, n, f);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int done = REAL(clock_gettime)(id, now);
    const char *text = id == CLOCK_REALTIME ? getenv("CLOCK") : NULL;
    if (text) now->tv_sec += atol(text);
    return done;
}
