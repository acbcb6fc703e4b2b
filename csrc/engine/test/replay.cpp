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
    int64_t state_bytes, numbers = 0;  // of all outputs of a sample
    std::vector<int64_t> capacities;
    void* handle = nullptr;
};

struct Out {
    int64_t steps, rows;
    const int64_t* numbers;
};

struct Call {
    int64_t fresh, whole, steps, held, batch;
    const unsigned char* x;
    std::vector<Out> outs;
    const int64_t* clamped;
};

struct Program {
    int64_t number, sample, reports;
    std::vector<int64_t> sizes;  // of the outputs
    std::vector<Made> made;
    std::vector<Call> calls;
};

Program read(Corpus& from, int64_t number) {
    Program p;
    p.number = number;
    const int64_t element = from.next();
    p.sample = from.next();
    for (int64_t n = from.next(); n > 0; --n) p.sizes.push_back(from.next());
    p.reports = from.next();
    for (int64_t n = from.next(); n > 0; --n) {
        Made made;
        made.isa = int(from.next());
        made.state_bytes = from.next();
        for (int64_t size : p.sizes) {
            made.capacities.push_back(from.next());
            made.numbers += made.capacities.back() * size;
        }
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
        for (int64_t size : p.sizes) {
            Out out;
            out.steps = from.next();
            out.rows = from.next();
            out.numbers = from.numbers(call.batch * out.rows * size);
            call.outs.push_back(out);
        }
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
        std::vector<int64_t> out(size_t(call.batch * made.numbers) + 1, -1), clamped(size_t(p.reports), 0);
        std::vector<int64_t> steps(p.sizes.size(), -1);
        const int outcome = bitspike_engine_run(
            made.handle, call.x, 0, call.batch * p.sample, p.sample, call.steps, int(call.held), call.batch,
            call.whole ? nullptr : states.data(), out.data(), clamped.data(), threads, nullptr, steps.data());
        bool same = outcome == 0 && !std::memcmp(clamped.data(), call.clamped, size_t(p.reports) * 8);
        int64_t first = 0;
        for (size_t k = 0; k < p.sizes.size(); ++k) {
            const Out& wanted = call.outs[k];
            same = same && steps[k] == wanted.steps && wanted.rows <= made.capacities[k];
            for (int64_t b = 0; same && b < call.batch; ++b)
                same = !std::memcmp(out.data() + b * made.numbers + first, wanted.numbers + b * wanted.rows * p.sizes[k],
                                    size_t(wanted.rows * p.sizes[k]) * 8);
            first += p.sizes[k] * made.capacities[k];
            compared += call.batch * wanted.rows * p.sizes[k];
        }
        if (!same) {
            std::fprintf(stderr, "program %ld, call %zu, %s, %d threads: not the interpreter's numbers\n",
                         long(p.number), i, bitspike_engine_isa(made.isa), threads);
            return -1;
        }
        compared += p.reports;
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
