/* malloc with addresses that depend on nothing but the calls made.
 *
 * Each managed thread has an arena of its own at a fixed place in the address space. Only one managed
 * thread runs at a time and in a fixed order (threads.c), so that nothing here needs a lock, and every
 * address is a function of the sequence of calls. A thread that is not managed gets libc's memory.
 *
 *   small blocks, up to 32 KiB: chunks of 64 KiB, each of one size class; free blocks in a list per class,
 *     last in, first out. A table holds the class of each chunk, so that blocks need no header.
 *   large blocks: extents of whole pages, first fit by address, neighbours merged. The 64 bytes before
 *     the block tell its extent.
 *
 * Freed by another managed thread, a block goes back to the arena that it is from. What a thread frees that is
 * not managed, or not any more, is left: it cannot be put back without a race. That is little: the answer
 * of the worker, and what glibc keeps per thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "det.h"

/* Far from where Linux puts programs, libraries and stacks: 16 TiB to 48 TiB of 128 TiB. */
#define BASE 0x100000000000ull
#define ARENA (1ull << 36)
#define SMALL_SPACE (1ull << 34)

#define CHUNK (1ull << 16)
#define SMALL_MAX (1ull << 15)
#define PAGE 4096ull
#define LARGE_HEADER 64ull
/* Memory is asked of the kernel in steps of this many bytes. */
#define STEP (1ull << 24)
/* Freed pages are kept until so many bytes are free in an arena. */
#define KEEP (1ull << 26)

/* 16, 32, … 128, then four classes between powers of two: …, 28672, 32768. */
#define CLASSES 40

struct extent { uint64_t at, size; };

struct arena {
    uint64_t small_top, small_mapped;  /* From here on nothing was given; from here on nothing is mapped. */
    uint64_t large_top, large_mapped;
    void *free_blocks[CLASSES];
    uint64_t fresh[CLASSES], fresh_end[CLASSES];  /* What is left of the chunk begun for each class. */
    struct extent *free_extents;                  /* Sorted by address; no two touch. */
    uint64_t extents, extent_room;
    uint64_t dirty;  /* Bytes that are free and may be resident. */
};

static struct arena arenas[DET_THREADS];
/* The class of each chunk of an arena. */
static uint8_t *chunk_class[DET_THREADS];

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static uint64_t up(uint64_t n, uint64_t to) { return (n + to - 1) & ~(to - 1); }

/* Memory of our own, at no place that anybody sees. */
static void *own(uint64_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Makes the space from *mapped to `top` usable. The addresses are fixed: if they are taken, that is as if
   there were no memory. */
static bool reach(uint64_t *mapped, uint64_t top, uint64_t end, bool huge) {
    if (top <= *mapped) return true;
    if (top > end) return false;
    uint64_t size = up(top - *mapped, STEP);
    if (*mapped + size > end) size = end - *mapped;
    void *at = (void *)*mapped;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    if (mmap(at, size, PROT_READ | PROT_WRITE, flags, -1, 0) != at) return false;
    /* Some hundred arenas of a few pages each must not take 2 MiB each. */
    if (!huge) madvise(at, size, MADV_NOHUGEPAGE);
    *mapped += size;
    return true;
}

static struct arena *arena_of(int me) {
    struct arena *a = &arenas[me];
    if (!chunk_class[me]) {
        chunk_class[me] = own(SMALL_SPACE / CHUNK);
        if (!chunk_class[me]) return NULL;
        uint64_t base = BASE + (uint64_t)me * ARENA;
        a->small_top = a->small_mapped = base;
        a->large_top = a->large_mapped = base + SMALL_SPACE;
    }
    return a;
}

/* The smallest class that holds `size` bytes, which is at least 1. */
static int class_of(uint64_t size) {
    if (size <= 128) return (int)((size + 15) / 16) - 1;
    int log = 63 - __builtin_clzll(size - 1);  /* 2^log < size <= 2^(log+1) */
    return 8 + (log - 7) * 4 + (int)((size - 1 - (1ull << log)) >> (log - 2));
}

static uint64_t class_size(int class) {
    if (class < 8) return (uint64_t)(class + 1) * 16;
    int log = 7 + (class - 8) / 4;
    return (1ull << log) + (uint64_t)((class - 8) % 4 + 1) * (1ull << (log - 2));
}

static void *small(int me, int class) {
    struct arena *a = arena_of(me);
    if (!a) return NULL;
    void *block = a->free_blocks[class];
    if (block) {
        a->free_blocks[class] = *(void **)block;
        return block;
    }
    uint64_t size = class_size(class), base = BASE + (uint64_t)me * ARENA;
    if (a->fresh_end[class] - a->fresh[class] < size) {
        if (!reach(&a->small_mapped, a->small_top + CHUNK, base + SMALL_SPACE, false)) return NULL;
        chunk_class[me][(a->small_top - base) / CHUNK] = (uint8_t)class;
        a->fresh[class] = a->small_top;
        a->fresh_end[class] = a->small_top += CHUNK;
    }
    uint64_t at = a->fresh[class];
    a->fresh[class] = at + size;
    return (void *)at;
}

struct header { uint64_t at, size; };

static struct header *header_of(void *block) { return (struct header *)((char *)block - LARGE_HEADER); }

/* `is_fresh` tells if the kernel gave these pages just now, so that they are zero. */
static void *large(int me, uint64_t size, uint64_t align, bool *is_fresh) {
    struct arena *a = arena_of(me);
    if (!a || size > ARENA || align > ARENA / 4) return NULL;
    if (align < LARGE_HEADER) align = LARGE_HEADER;
    uint64_t need = up(size + LARGE_HEADER + (align > LARGE_HEADER ? align : 0), PAGE), at = 0;
    for (uint64_t i = 0; i < a->extents; i++) {
        struct extent *e = &a->free_extents[i];
        if (e->size < need) continue;
        at = e->at;
        *is_fresh = false;
        e->at += need;
        e->size -= need;
        a->dirty -= a->dirty < need ? a->dirty : need;
        if (!e->size) memmove(e, e + 1, (--a->extents - i) * sizeof *e);
        break;
    }
    if (!at) {
        uint64_t end = BASE + (uint64_t)(me + 1) * ARENA;
        if (!reach(&a->large_mapped, a->large_top + need, end, true)) return NULL;
        at = a->large_top;
        a->large_top += need;
        *is_fresh = true;
    }
    void *block = (void *)up(at + LARGE_HEADER, align);
    *header_of(block) = (struct header){at, need};
    return block;
}

static void free_large(struct arena *a, void *block) {
    struct header h = *header_of(block);
    uint64_t i = 0, n = a->extents;
    for (uint64_t high = n; i < high;) {
        uint64_t mid = (i + high) / 2;
        if (a->free_extents[mid].at < h.at) i = mid + 1; else high = mid;
    }
    struct extent *e = a->free_extents;
    bool joins_left = i > 0 && e[i - 1].at + e[i - 1].size == h.at;
    bool joins_right = i < n && h.at + h.size == e[i].at;
    if (joins_left && joins_right) {
        e[i - 1].size += h.size + e[i].size;
        memmove(&e[i], &e[i + 1], (n - i - 1) * sizeof *e);
        a->extents--;
    } else if (joins_left) {
        e[i - 1].size += h.size;
    } else if (joins_right) {
        e[i].at = h.at;
        e[i].size += h.size;
    } else {
        if (n == a->extent_room) {
            uint64_t room = n ? 2 * n : 1024;
            struct extent *grown = own(room * sizeof *grown);
            if (!grown) return;  /* Lost, not wrong. */
            if (n) {
                memcpy(grown, e, n * sizeof *e);
                munmap(e, n * sizeof *e);
            }
            a->free_extents = e = grown;
            a->extent_room = room;
        }
        memmove(&e[i + 1], &e[i], (n - i) * sizeof *e);
        e[i] = (struct extent){h.at, h.size};
        a->extents++;
    }
    a->dirty += h.size;
    if (a->dirty > KEEP) {
        for (uint64_t k = 0; k < a->extents; k++) madvise((void *)e[k].at, e[k].size, MADV_DONTNEED);
        a->dirty = 0;
    }
}

/* Which arena a pointer is from; 0 if from none. */
static int owner(const void *p) {
    uint64_t at = (uint64_t)p;
    return at >= BASE && at < BASE + DET_THREADS * ARENA ? (int)((at - BASE) / ARENA) : 0;
}

static bool is_small(const void *p) { return ((uint64_t)p - BASE) % ARENA < SMALL_SPACE; }

static uint64_t usable(int from, void *p) {
    if (is_small(p)) return class_size(chunk_class[from][((uint64_t)p - BASE) % ARENA / CHUNK]);
    return header_of(p)->at + header_of(p)->size - (uint64_t)p;
}

static void *allocate(uint64_t size, uint64_t align, bool *is_fresh) {
    void *block;
    *is_fresh = false;
    if (!size) size = 1;
    /* In a chunk, blocks of a power of two lie at multiples of their size. */
    if (align > 16 && align <= PAGE && size <= SMALL_MAX) {
        size = size > align ? size : align;
        size = 1ull << (64 - __builtin_clzll(size - 1));
    }
    if (size <= SMALL_MAX && align <= PAGE) block = small(det_me, class_of(size));
    else block = large(det_me, size, align, is_fresh);
    if (!block) errno = ENOMEM;
    return block;
}

static bool is_power_of_two(uint64_t n) { return n && !(n & (n - 1)); }

void *malloc(size_t size) {
    if (!det_me) return __libc_malloc(size);
    bool is_fresh;
    return allocate(size, 16, &is_fresh);
}

void free(void *p) {
    int from = owner(p);
    if (!from) {
        __libc_free(p);
        return;
    }
    if (!det_me) return;
    struct arena *a = &arenas[from];
    if (!is_small(p)) {
        free_large(a, p);
        return;
    }
    int class = chunk_class[from][((uint64_t)p - BASE) % ARENA / CHUNK];
    *(void **)p = a->free_blocks[class];
    a->free_blocks[class] = p;
}

void *calloc(size_t count, size_t each) {
    if (!det_me) return __libc_calloc(count, each);
    size_t size;
    if (__builtin_mul_overflow(count, each, &size)) {
        errno = ENOMEM;
        return NULL;
    }
    bool is_fresh;
    void *block = allocate(size, 16, &is_fresh);
    if (block && !is_fresh) memset(block, 0, size);
    return block;
}

void *realloc(void *p, size_t size) {
    int from = owner(p);
    if (!from && (p || !det_me)) return __libc_realloc(p, size);
    if (!p) return malloc(size);
    if (!size) {
        free(p);
        return NULL;
    }
    uint64_t old = usable(from, p);
    if (size <= old && size > old / 2) return p;
    void *block = malloc(size);
    if (!block) return NULL;
    memcpy(block, p, size < old ? size : old);
    free(p);
    return block;
}

void *memalign(size_t align, size_t size) {
    if (!det_me) return __libc_memalign(align, size);
    if (!is_power_of_two(align)) {
        errno = EINVAL;
        return NULL;
    }
    bool is_fresh;
    return allocate(size, align, &is_fresh);
}

void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }

int posix_memalign(void **place, size_t align, size_t size) {
    if (!is_power_of_two(align) || align % sizeof(void *)) return EINVAL;
    int before = errno;
    void *block = memalign(align, size);
    errno = before;
    if (!block) return ENOMEM;
    *place = block;
    return 0;
}

void *valloc(size_t size) { return memalign(PAGE, size); }

void *pvalloc(size_t size) { return memalign(PAGE, up(size, PAGE)); }

size_t malloc_usable_size(void *p) {
    if (!p) return 0;
    int from = owner(p);
    if (from) return usable(from, p);
    /* glibc's: the size word before the block, less its own. */
    uint64_t word = ((uint64_t *)p)[-1];
    return (word & ~7ull) - ((word & 2) ? 16 : 8);
}
