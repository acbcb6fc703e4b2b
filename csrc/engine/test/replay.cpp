// Replays calls that tests/programs/corpus.py has recorded from the interpreter, and compares every number.
//
//   replay CORPUS [callers]      callers: threads that call every program at once (default 1)
//   replay CORPUS fork           processes that begin while other threads call

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "api.h"

namespace {

constexpr int64_t MAGIC = 0x62737263;  // as in corpus.py

struct Corpus {
    std::vector<int64_t> words;
    size_t at = 0;

    int64_t next() {
        if (at >= words.size()) {
            std::fprintf(stderr, "the corpus ends too early\n");
            std::exit(2);
        }
        return words[at++];
    }
    const int64_t* numbers(int64_t count) {
        const int64_t* from = words.data() + at;
        at += size_t(count);
        if (at > words.size()) std::exit(2);
        return from;
    }
    const unsigned char* bytes(int64_t count) { return reinterpret_cast<const unsigned char*>(numbers((count + 7) / 8)); }
};

struct Made {  // a program for one instruction set
    int isa;
    int64_t state_bytes, capacity;
    void* handle = nullptr;
};

struct Call {
    int64_t fresh, whole, steps, held, batch, out_steps, rows;
    const unsigned char* x;
    const int64_t *out, *clamped;
};

struct Program {
    int64_t number, sample, size, reports;
    std::vector<Made> made;
    std::vector<Call> calls;
};

Program read(Corpus& from, int64_t number) {
    Program p;
    p.number = number;
    const int64_t element = from.next();
    p.sample = from.next();
    p.size = from.next();
    p.reports = from.next();
    for (int64_t n = from.next(); n > 0; --n) {
        Made made;
        made.isa = int(from.next());
        made.state_bytes = from.next();
        made.capacity = from.next();
        const int64_t count = from.next();
        const int64_t* words = from.numbers(count);
        std::vector<const int32_t*> tables;
        std::vector<int64_t> lengths;
        for (int64_t k = from.next(); k > 0; --k) {
            lengths.push_back(from.next());
            tables.push_back(reinterpret_cast<const int32_t*>(from.bytes(lengths.back() * 4)));
        }
        if (!bitspike_engine_isa(made.isa)) continue;
        const char* error = "";
        made.handle = bitspike_engine_create(words, count, tables.data(), lengths.data(), int64_t(tables.size()), made.isa,
                                             &error);
        if (!made.handle) {
            std::fprintf(stderr, "program %ld: %s\n", long(number), error);
            std::exit(1);
        }
        p.made.push_back(made);
    }
    for (int64_t n = from.next(); n > 0; --n) {
        Call call;
        call.fresh = from.next();
        call.whole = from.next();
        call.steps = from.next();
        call.held = from.next();
        call.batch = from.next();
        call.x = from.bytes((call.held ? 1 : call.steps) * call.batch * p.sample * element);
        call.out_steps = from.next();
        call.rows = from.next();
        call.out = from.numbers(call.batch * call.rows * p.size);
        call.clamped = from.numbers(p.reports);
        p.calls.push_back(call);
    }
    return p;
}

// All calls of a program; how many numbers were compared, or -1.
int64_t replay(const Program& p, const Made& made, int threads) {
    int64_t compared = 0;
    std::vector<unsigned char> states;
    for (size_t i = 0; i < p.calls.size(); ++i) {
        const Call& call = p.calls[i];
        if (call.fresh) {
            states.assign(size_t(made.state_bytes * call.batch), 0);
            if (!call.whole) bitspike_engine_reset(made.handle, states.data(), call.batch);
        }
        std::vector<int64_t> out(size_t(call.batch * made.capacity * p.size) + 1, -1), clamped(size_t(p.reports), 0);
        int64_t steps = -1;
        const int outcome = bitspike_engine_run(
            made.handle, call.x, 0, call.batch * p.sample, p.sample, call.steps, int(call.held), call.batch,
            call.whole ? nullptr : states.data(), out.data(), made.capacity, clamped.data(), threads, nullptr, &steps);
        bool same = outcome == 0 && steps == call.out_steps &&
                    !std::memcmp(clamped.data(), call.clamped, size_t(p.reports) * 8) && call.rows <= made.capacity;
        for (int64_t b = 0; same && b < call.batch; ++b)
            same = !std::memcmp(out.data() + b * made.capacity * p.size, call.out + b * call.rows * p.size,
                                size_t(call.rows * p.size) * 8);
        if (!same) {
            std::fprintf(stderr, "program %ld, call %zu, %s, %d threads: not the interpreter's numbers\n",
                         long(p.number), i, bitspike_engine_isa(made.isa), threads);
            return -1;
        }
        compared += call.batch * call.rows * p.size + p.reports;
    }
    return compared;
}

struct Tally {
    int64_t programs = 0, calls = 0, numbers = 0;
    bool failed = false;
};

void replay_all(const std::vector<Program>& programs, std::vector<Tally>& tallies, int seed) {
    for (const Program& p : programs)
        for (const Made& made : p.made) {
            const int64_t compared = replay(p, made, 1 + int((p.number + made.isa + seed) % 3));
            Tally& tally = tallies[size_t(made.isa)];
            tally.failed = tally.failed || compared < 0;
            ++tally.programs;
            tally.calls += int64_t(p.calls.size());
            tally.numbers += compared;
        }
}

constexpr int ISAS = 8;  // more than there are

#if !defined(_WIN32)
// Children that begin while other threads are within calls must be able to call, too.
bool forks(const std::vector<Program>& programs) {
    bool stop = false, good = true;
    std::vector<std::thread> callers;
    std::vector<Tally> tallies[2] = {std::vector<Tally>(ISAS), std::vector<Tally>(ISAS)};
    for (int i = 0; i < 2; ++i)
        callers.emplace_back([&, i] {
            while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) replay_all(programs, tallies[i], i);
        });
    for (int i = 0; i < 40; ++i) {
        const pid_t child = fork();
        if (!child) {
            alarm(60);  // one that hangs ends, and counts as failed
            bool same = true;
            for (size_t k = size_t(i); k < programs.size(); k += 40)
                for (const Made& made : programs[k].made) same = same && replay(programs[k], made, 3) >= 0;
            _exit(same ? 0 : 1);
        }
        int status = -1;
        good = child > 0 && waitpid(child, &status, 0) == child && status == 0 && good;
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (std::thread& caller : callers) caller.join();
    for (const auto& tally : tallies)
        for (const Tally& each : tally) good = good && !each.failed;
    return good;
}
#endif

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) {
        std::fprintf(stderr, "usage: replay CORPUS [callers | fork]\n");
        return 2;
    }
    Corpus from;
    FILE* file = std::fopen(arguments[1], "rb");
    if (!file) return 2;
    std::fseek(file, 0, SEEK_END);
    from.words.resize(size_t(std::ftell(file)) / 8);
    std::rewind(file);
    if (std::fread(from.words.data(), 8, from.words.size(), file) != from.words.size()) return 2;
    std::fclose(file);
    if (from.next() != MAGIC) {
        std::fprintf(stderr, "%s is no corpus, or was written with another byte order\n", arguments[1]);
        return 2;
    }
    std::vector<Program> programs;
    const int64_t n = from.next();
    for (int64_t i = 0; i < n; ++i) programs.push_back(read(from, i));
    const std::string mode = count > 2 ? arguments[2] : "1";
    bool good = true;
    if (mode == "fork") {
#if !defined(_WIN32)
        good = forks(programs);
        std::printf("fork: %s\n", good ? "40 children had the interpreter's numbers" : "FAILED");
#endif
    } else {
        const int callers = std::atoi(mode.c_str());
        std::vector<std::vector<Tally>> tallies;
        for (int i = 0; i < callers; ++i) tallies.emplace_back(ISAS);
        std::vector<std::thread> threads;
        for (int i = 1; i < callers; ++i)
            threads.emplace_back([&, i] { replay_all(programs, tallies[size_t(i)], i); });
        replay_all(programs, tallies[0], 0);
        for (std::thread& thread : threads) thread.join();
        for (int isa = 0; isa < ISAS; ++isa) {
            Tally sum;
            for (const auto& tally : tallies) {
                sum.programs += tally[size_t(isa)].programs;
                sum.calls += tally[size_t(isa)].calls;
                sum.numbers += tally[size_t(isa)].numbers;
                good = good && !tally[size_t(isa)].failed;
            }
            if (sum.programs)
                std::printf("%s: %ld programs, %ld calls, %ld numbers\n", bitspike_engine_isa(isa), long(sum.programs),
                            long(sum.calls), long(sum.numbers));
        }
    }
    for (const Program& p : programs)
        for (const Made& made : p.made) bitspike_engine_free(made.handle);
    return good ? 0 : 1;
}
