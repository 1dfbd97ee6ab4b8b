// A stand-in for the NVIDIA driver: one GPU, whose memory is this process's. SM is its compute capability, and what is
// defined beside that decides what is wrong with it. It runs no kernels: the runtime gets no further than to refuse it.

#include <stdlib.h>
#include <string.h>

typedef unsigned long long address;

int cuGetErrorName(int status, const char **name) {
    *name = status == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return 0;
}
int cuInit(unsigned flags) { (void)flags; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    strncpy(name, "NVIDIA Stand-in", (size_t)length);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = 8ull << 30; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    (void)device;
    *value = which == 75 ? SM / 10 : SM % 10;
    return 0;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { (void)device; memset(uuid, 0xab, 16); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = (void *)1; return 0; }
int cuCtxSetCurrent(void *context) { (void)context; return 0; }
int cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = (void *)1; return 0; }
int cuStreamSynchronize(void *stream) { (void)stream; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 1 << 20; *total = 8ull << 30; return 0; }
int cuMemAlloc_v2(address *memory, size_t bytes) {
#ifdef FULL
    (void)memory; (void)bytes;
    return 2;
#elif defined CRASHES
    (void)bytes;
    return *(volatile int *)0;
#else
    *memory = (address)(size_t)malloc(bytes);
    return 0;
#endif
}
int cuMemFree_v2(address memory) { free((void *)(size_t)memory); return 0; }
int cuMemcpyHtoD_v2(address to, const void *from, size_t bytes) {
    memcpy((void *)(size_t)to, from, bytes);
    return 0;
}
int cuMemcpyDtoH_v2(void *to, address from, size_t bytes) {
    memcpy(to, (void *)(size_t)from, bytes);
#ifdef FORGETS
    ((char *)to)[bytes / 2] ^= 1;
#endif
    return 0;
}
int cuMemsetD8_v2(address memory, unsigned char byte, size_t bytes) {
    memset((void *)(size_t)memory, byte, bytes);
    return 0;
}
