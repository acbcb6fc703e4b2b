/* Preloaded (glibc): runs a function of the engine and writes down what it asks of malloc and gives back. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
extern void __libc_free(void*);

enum { MOST = 64 };
static int on, count;
static int64_t noted[MOST]; /* bytes asked for, or -1 for memory given back */

static void note(int64_t bytes) {
    if (!__atomic_load_n(&on, __ATOMIC_ACQUIRE)) return;
    const int at = __atomic_fetch_add(&count, 1, __ATOMIC_ACQ_REL);
    if (at < MOST) noted[at] = bytes;
}

void* malloc(size_t bytes) { return note((int64_t)bytes), __libc_malloc(bytes); }
void* calloc(size_t n, size_t each) { return note((int64_t)(n * each)), __libc_calloc(n, each); }
void* memalign(size_t to, size_t bytes) { return note((int64_t)bytes), __libc_memalign(to, bytes); }
void* aligned_alloc(size_t to, size_t bytes) { return memalign(to, bytes); }
int posix_memalign(void** where, size_t to, size_t bytes) {
    *where = memalign(to, bytes);
    return *where ? 0 : 12;
}
void* realloc(void* old, size_t bytes) {
    if (old) note(-1);
    return note((int64_t)bytes), __libc_realloc(old, bytes);
}
void free(void* old) {
    if (old) note(-1);
    __libc_free(old);
}

/* As bitspike_engine_run in csrc/engine/api.h. */
typedef int (*Run)(void*, const void*, int, int64_t, int64_t, int64_t, int, int64_t, unsigned char*, int64_t*,
                   int64_t*, int, int64_t*, int64_t*);

/* Returns how many notes there are, the first of them in `notes` [64]; -1 where the run failed. */
int counted_run(Run run, void* handle, const void* x, int64_t step, int64_t sample, int64_t steps, int64_t batch,
                unsigned char* states, int64_t* out, int64_t* clamped, int threads, int64_t* done,
                int64_t* notes) {
    __atomic_store_n(&count, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&on, 1, __ATOMIC_RELEASE);
    const int outcome = run(handle, x, 0, step, sample, steps, 0, batch, states, out, clamped, threads, NULL, done);
    __atomic_store_n(&on, 0, __ATOMIC_RELEASE);
    memcpy(notes, noted, sizeof noted);
    return outcome ? -1 : count;
}
