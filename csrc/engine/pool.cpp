#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() asm volatile("yield")
#else
#define RELAX() std::this_thread::yield()
#endif

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace {

struct Job {
    void (*body)(void*, long, int) = nullptr;
    void* ctx = nullptr;
    int threads = 0;
};

// The tasks of one thread, on a line of memory of its own. What neighbouring tasks write is read by neighbouring tasks of
// the next job, so a thread takes its own share first, in order, and then helps others.
struct alignas(64) Share {
    std::atomic<long> next{0};
    long end = 0;
};

struct Pool {
    std::mutex owner;            // held by the caller that has the workers
    std::mutex sleep;            // guards awake
    std::condition_variable wake;
    bool awake = false;          // a caller has the workers: they spin
    int started = 0;             // workers that exist; changed by the owner only
    Job job;
    Share shares[MAX_THREADS];
    unsigned rounds = 0;             // jobs so far; changed by the owner only
    std::atomic<unsigned> open{0};   // the job that can be joined, 0 for none
    std::atomic<int> inside{0};      // workers that may look at the job
};

Pool* pool = new Pool;  // never destroyed: workers may sleep in it when the process ends

void take_tasks(Pool& p, int thread) {
    for (int i = 0; i < p.job.threads; ++i) {
        const int whose = thread + i < p.job.threads ? thread + i : thread + i - p.job.threads;
        Share& share = p.shares[whose];
        while (share.next.load(std::memory_order_relaxed) < share.end) {
            const long task = share.next.fetch_add(1, std::memory_order_relaxed);
            if (task >= share.end) break;
            p.job.body(p.job.ctx, task, thread);
        }
    }
}

// A worker comes in first and then asks whether the job is still open; the caller closes it first and then waits until
// nobody is inside. So a worker that is not running holds nobody up, and none sees a job that has ended.
void work(Pool* p, int thread) {
    unsigned seen = 0;
    for (int spins = 0;;) {
        const unsigned job = p->open.load();
        if (job && job != seen) {
            seen = job;
            spins = 0;
            p->inside.fetch_add(1);
            if (p->open.load() == job && thread < p->job.threads) take_tasks(*p, thread);
            p->inside.fetch_sub(1);
            continue;
        }
        if (++spins < 4096) {
            RELAX();
            continue;
        }
        spins = 0;
        std::unique_lock<std::mutex> lock(p->sleep);
        if (p->awake) {  // the machine may be short of cores: let others run
            lock.unlock();
            std::this_thread::yield();
            continue;
        }
        p->wake.wait(lock, [&] { return p->awake; });
    }
}

// A fork leaves the child without the workers, whatever the pool says: it gets a new one.
#if !defined(_WIN32)
void after_fork() { pool = new Pool; }
const int forked = pthread_atfork(nullptr, nullptr, after_fork);
#endif

thread_local Pool* owned = nullptr;

}  // namespace

bool pool_take(int threads) {
    Pool* p = pool;
    if (threads <= 1 || owned || !p->owner.try_lock()) return false;
    const int wanted = (threads < MAX_THREADS ? threads : MAX_THREADS) - 1;
    while (p->started < wanted) {
        // Without exceptions a failed start would end the process; pthread_create tells instead.
#if defined(_WIN32)
        std::thread(work, p, p->started + 1).detach();
#else
        struct Start {
            Pool* pool;
            int thread;
        };
        Start* start = new Start{p, p->started + 1};
        pthread_t handle;
        const int failed = pthread_create(&handle, nullptr, [](void* given) -> void* {
            const Start own = *static_cast<Start*>(given);
            delete static_cast<Start*>(given);
            work(own.pool, own.thread);
            return nullptr;
        }, start);
        if (failed) {
            delete start;
            break;
        }
        pthread_detach(handle);
#endif
        ++p->started;
    }
    if (!p->started) {
        p->owner.unlock();
        return false;
    }
    {
        std::lock_guard<std::mutex> lock(p->sleep);
        p->awake = true;
    }
    p->wake.notify_all();
    owned = p;
    return true;
}

void pool_release() {
    Pool* p = owned;
    if (!p) return;
    {
        std::lock_guard<std::mutex> lock(p->sleep);
        p->awake = false;
    }
    owned = nullptr;
    p->owner.unlock();
}

void pool_run(long tasks, int threads, void (*body)(void*, long, int), void* ctx) {
    Pool* p = owned;
    if (threads <= 1 || tasks <= 1 || !p) {
        for (long task = 0; task < tasks; ++task) body(ctx, task, 0);
        return;
    }
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    p->job = Job{body, ctx, threads};
    for (int i = 0; i < threads; ++i) {
        p->shares[i].next.store(tasks * i / threads, std::memory_order_relaxed);
        p->shares[i].end = tasks * (i + 1) / threads;
    }
    p->open.store(++p->rounds ? p->rounds : ++p->rounds);
    take_tasks(*p, 0);
    p->open.store(0);
    for (int spins = 0; p->inside.load();) {
        if (++spins < 4096) {
            RELAX();
        } else {  // the last worker may have lost its core
            std::this_thread::yield();
        }
    }
}
