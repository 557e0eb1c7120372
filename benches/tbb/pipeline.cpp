// Source, map, sink through oneTBB's parallel_pipeline, an item a token, ordered.
//
//     pipeline even|skewed ITEMS THREADS ROUNDS
//
// Prints nanoseconds an item, processor nanoseconds an item and voluntary switches per 1,000 items.
// The work and the checks are those of benches/src/engine/work.rs. Fails when an item is lost,
// doubled or out of order.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/resource.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_pipeline.h>

namespace {

constexpr uint64_t key = 0x9E3779B97F4A7C15;

uint64_t opaque(uint64_t x) {
    asm volatile("" : "+r"(x));
    return x;
}

// As in Rust, whose black_box passes the value through memory.
__attribute__((noinline)) uint64_t chain(uint64_t rounds) {
    volatile uint64_t place;
    uint64_t x = 1;
    for (uint64_t i = 0; i < rounds; i++) {
        place = x;
        uint64_t y = place * 0xBF58476D1CE4E5B9;
        x = (y << 31) | (y >> 33);
    }
    return x;
}

bool is_heavy(uint64_t item) {
    uint64_t z = item + key;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return (z ^ (z >> 31)) % 100 == 0;
}

double processor_seconds() {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

long voluntary_switches() {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) {
        std::fprintf(stderr, "usage: pipeline even|skewed ITEMS THREADS ROUNDS\n");
        return 2;
    }
    const bool skewed = std::strcmp(argv[1], "skewed") == 0;
    const uint64_t items = std::strtoull(argv[2], nullptr, 10);
    const size_t threads = std::strtoull(argv[3], nullptr, 10);
    const uint64_t rounds = std::strtoull(argv[4], nullptr, 10);
    oneapi::tbb::global_control limit(
        oneapi::tbb::global_control::max_allowed_parallelism, threads);

    uint64_t next = 0, count = 0, sum = 0, out_of_order = 0;
    auto source = [&](oneapi::tbb::flow_control& control) -> uint64_t {
        if (next == items) {
            control.stop();
            return 0;
        }
        return next++;
    };
    auto map = [=](uint64_t item) -> uint64_t {
        if (rounds > 0) {
            opaque(chain(skewed && is_heavy(item) ? 100 * rounds : rounds));
        }
        return opaque(item) ^ key;
    };
    auto sink = [&](uint64_t mapped) {
        const uint64_t item = mapped ^ key;
        out_of_order += item != count;
        count++;
        sum += item;
    };
    using oneapi::tbb::filter_mode;
    const auto chain_of_filters =
        oneapi::tbb::make_filter<void, uint64_t>(filter_mode::serial_in_order, source) &
        oneapi::tbb::make_filter<uint64_t, uint64_t>(filter_mode::parallel, map) &
        oneapi::tbb::make_filter<uint64_t, void>(filter_mode::serial_in_order, sink);

    const double processor = processor_seconds();
    const long switches = voluntary_switches();
    const auto started = std::chrono::steady_clock::now();
    oneapi::tbb::parallel_pipeline(32 * threads, chain_of_filters);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - started;
    const double per = 1.0 / double(items);

    if (count != items || out_of_order != 0 || sum != items * (items - 1) / 2) {
        std::printf("lost, doubled or out of order: %lu of %lu\n", count, items);
        return 1;
    }
    std::printf("%.3f %.3f %.5f\n", took.count() * per,
                (processor_seconds() - processor) * 1e9 * per,
                double(voluntary_switches() - switches) * 1000.0 * per);
    return 0;
}
