/* A stand-in for NVIDIA's driver library, in host memory: it lets the GPU tests of the CUDA module be rehearsed where
 * no driver is. It shows that the calls have the right arguments and that everything is freed. It is no GPU: streams
 * work at once, and nothing it measures means anything.
 *
 * Like the driver it hides its one device where CUDA_VISIBLE_DEVICES is -1. What is left on it at the end is told on
 * stderr. It keeps a record of the calls that matter, to which others may add with stub_note. The call that stub_fail
 * names fails. Handles are pointers to the structures below.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
       CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, UNKNOWN = 999 };

typedef struct { void *to; const void *from; size_t bytes; } Copy;
typedef struct { Copy *copies; size_t count; } Graph;
typedef struct { Graph *recording; int broken; } Stream;
typedef struct { int recorded; } Event;
typedef struct Pinned { void *address; struct Pinned *next; } Pinned;

static const size_t TOTAL = (size_t)8 << 30;
static size_t used;
static Pinned *pinned;
static _Thread_local int depth;
static char lock;

static void enter(void) { while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE)) {} }
static void leave(void) { __atomic_clear(&lock, __ATOMIC_RELEASE); }
#define NEEDS_CONTEXT() do { if (!depth) return INVALID_CONTEXT; } while (0)

static char record[8192];
static size_t recorded;
static int retained;

/* Adds a word to the record; when that is full, words are lost. */
void stub_note(const char *word) {
    enter();
    size_t size = strlen(word);
    if (recorded + size + 2 < sizeof record) {
        memcpy(record + recorded, word, size);
        recorded += size;
        record[recorded++] = ' ';
        record[recorded] = 0;
    }
    leave();
}
static void note(const char *call, size_t bytes) {
    char word[64];
    snprintf(word, sizeof word, "%s:%zu", call, bytes);
    stub_note(word);
}
/* What was called since the last time, words with a space behind each. */
const char *stub_calls(void) {
    static char copy[sizeof record];
    enter();
    memcpy(copy, record, recorded + 1);
    recorded = 0;
    record[0] = 0;
    leave();
    return copy;
}
/* How many things were made and not freed: bytes on the device, pinned blocks, streams, contexts. */
static int streams;
size_t stub_left(void) {
    size_t left = used + (size_t)(streams + retained + depth);
    for (Pinned *at = pinned; at; at = at->next) left++;
    return left;
}

static const char *failing = "";
static size_t spared;
/* From the one on that comes after `after` of them calls of this name answer UNKNOWN; "" is none. */
void stub_fail(const char *call, size_t after) { failing = call, spared = after; }
static int fails(const char *call) {
    if (strcmp(call, failing)) return 0;
    return spared ? spared--, 0 : 1;
}

static int devices(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return !visible || strcmp(visible, "-1");
}

__attribute__((destructor)) static void told(void) { fprintf(stderr, "stub: %zu bytes left on the device\n", used); }

int cuInit(unsigned flags) { (void)flags; return devices() ? OK : NO_DEVICE; }
int cuDriverGetVersion(int *v) { *v = 13000; return OK; }
int cuDeviceGetCount(int *n) { *n = devices(); return OK; }
int cuDeviceGet(int *device, int i) { *device = i; return i < devices() ? OK : INVALID_DEVICE; }
int cuDeviceGetName(char *name, int size, int device) { (void)device; strncpy(name, "a stub, no GPU", size); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 9 : 0; /* compute capability 9.0 */
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    __atomic_add_fetch(&retained, 1, __ATOMIC_SEQ_CST);
    *context = &used;
    return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    (void)device;
    return __atomic_sub_fetch(&retained, 1, __ATOMIC_SEQ_CST) < 0 ? INVALID_CONTEXT : OK;
}
int cuGetErrorName(int error, const char **name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_THE_STUB";
    return OK;
}
int cuCtxPushCurrent_v2(void *context) {
    if (fails("push")) return UNKNOWN;
    if (context != &used) return INVALID_VALUE;
    depth++;
    return OK;
}
int cuCtxPopCurrent_v2(void **context) { NEEDS_CONTEXT(); depth--; *context = &used; return OK; }

int cuMemGetInfo_v2(size_t *free, size_t *total) { NEEDS_CONTEXT(); *free = TOTAL - used; *total = TOTAL; return OK; }
int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    NEEDS_CONTEXT();
    if (fails("malloc")) return UNKNOWN;
    if (bytes > TOTAL - used) return OUT_OF_MEMORY;
    note("malloc", bytes);
    size_t *block = malloc(bytes + 64);
    *block = bytes;
    __atomic_add_fetch(&used, bytes, __ATOMIC_SEQ_CST);
    *pointer = (uint64_t)(block + 8);
    return OK;
}
int cuMemFree_v2(uint64_t pointer) {
    NEEDS_CONTEXT();
    stub_note("free");
    size_t *block = (size_t *)pointer - 8;
    __atomic_sub_fetch(&used, *block, __ATOMIC_SEQ_CST);
    free(block);
    return fails("free") ? UNKNOWN : OK; /* as the driver's does after work that failed */
}
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    NEEDS_CONTEXT();
    (void)flags;
    if (fails("pinned")) return UNKNOWN;
    Pinned *entry = malloc(sizeof *entry);
    enter();
    *entry = (Pinned){*address = malloc(bytes), pinned};
    pinned = entry;
    leave();
    return OK;
}
int cuMemFreeHost(void *address) {
    NEEDS_CONTEXT();
    int result = INVALID_VALUE;
    enter();
    for (Pinned **at = &pinned; *at; at = &(*at)->next)
        if ((*at)->address == address) {
            Pinned *gone = *at;
            *at = gone->next;
            free(gone->address);
            free(gone);
            result = OK;
            break;
        }
    leave();
    return result;
}
int cuMemHostGetFlags(unsigned *flags, void *address) {
    NEEDS_CONTEXT();
    int result = INVALID_VALUE;
    *flags = 0;
    enter();
    for (Pinned *at = pinned; at; at = at->next) if (at->address == address) result = OK;
    leave();
    return result;
}

static int copy(void *to, const void *from, size_t bytes, Stream *stream) {
    NEEDS_CONTEXT();
    if (!stream->recording) {
        memcpy(to, from, bytes);
        return OK;
    }
    Graph *graph = stream->recording;
    graph->copies = realloc(graph->copies, (graph->count + 1) * sizeof(Copy));
    graph->copies[graph->count++] = (Copy){to, from, bytes};
    return OK;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, Stream *s) {
    note("upload", n);
    return fails("upload") ? UNKNOWN : copy((void *)to, from, n, s);
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, Stream *s) {
    note("download", n);
    return fails("download") ? UNKNOWN : copy(to, (void *)from, n, s);
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, Stream *s) { return copy((void *)to, (void *)from, n, s); }

int cuStreamCreate(Stream **stream, unsigned flags) {
    NEEDS_CONTEXT();
    (void)flags;
    if (fails("stream")) return UNKNOWN;
    *stream = calloc(1, sizeof **stream);
    __atomic_add_fetch(&streams, 1, __ATOMIC_SEQ_CST);
    return OK;
}
int cuStreamDestroy_v2(Stream *stream) {
    NEEDS_CONTEXT();
    __atomic_sub_fetch(&streams, 1, __ATOMIC_SEQ_CST);
    free(stream);
    return OK;
}
int cuStreamSynchronize(Stream *stream) {
    stub_note("wait");
    if (fails("wait")) return UNKNOWN;
    if (!stream->recording) return OK;
    stream->broken = 1;
    return CAPTURE_UNSUPPORTED;
}
int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    NEEDS_CONTEXT();
    if (mode != 1) return INVALID_VALUE; /* by thread */
    stream->recording = calloc(1, sizeof(Graph));
    stream->broken = 0;
    return OK;
}
int cuStreamEndCapture(Stream *stream, Graph **graph) {
    *graph = stream->recording;
    stream->recording = NULL;
    if (!stream->broken) return OK;
    free((*graph)->copies);
    free(*graph);
    *graph = NULL;
    return CAPTURE_INVALIDATED;
}
int cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long flags) {
    (void)flags;
    *executable = calloc(1, sizeof **executable);
    (*executable)->count = graph->count;
    (*executable)->copies = memcpy(malloc(graph->count * sizeof(Copy) + 1), graph->copies, graph->count * sizeof(Copy));
    return OK;
}
int cuGraphLaunch(Graph *executable, Stream *stream) {
    int result = OK;
    for (size_t i = 0; i < executable->count && result == OK; i++) {
        Copy *work = &executable->copies[i];
        result = copy(work->to, work->from, work->bytes, stream);
    }
    return result;
}
int cuGraphDestroy(Graph *graph) { free(graph->copies); free(graph); return OK; }
int cuGraphExecDestroy(Graph *executable) { return cuGraphDestroy(executable); }

int cuEventCreate(Event **event, unsigned flags) { NEEDS_CONTEXT(); (void)flags; *event = calloc(1, sizeof **event); return OK; }
int cuEventDestroy_v2(Event *event) { NEEDS_CONTEXT(); free(event); return OK; }
int cuEventRecord(Event *event, Stream *stream) { (void)stream; event->recorded = 1; return OK; }
int cuEventSynchronize(Event *event) { (void)event; return OK; }

/* The bindings ask for functions by the names without suffix. */
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    (void)version, (void)flags;
    char newer[128] = "";
    strncat(strncat(newer, name, 120), "_v2", 4);
    *function = dlsym(RTLD_DEFAULT, newer);
    if (!*function && !strcmp(name, "cuGraphInstantiate")) *function = dlsym(RTLD_DEFAULT, "cuGraphInstantiateWithFlags");
    if (!*function) *function = dlsym(RTLD_DEFAULT, name);
    if (status) *status = *function ? 0 : 1;
    return OK;
}
