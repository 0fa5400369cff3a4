// Shared memory is thread-local: `thread_local` is the one specifier that stands for `__shared__` both in `__shared__ float
// tile[32]` and in `extern __shared__ float all[]`. All of it is poisoned when a block starts, so that what no thread
// wrote shows as NaN.
#pragma once

#include <link.h>

#include "machine.h"

// What `extern __shared__` may be named: labels of one place.
#define PRETENDED_DYNAMIC_SHARED(...) PRETENDED_DYNAMIC_SHARED_TEXT(#__VA_ARGS__)
asm(R"(
    .pushsection .tbss, "awT", %nobits
    .balign 1024
pretended_dynamic_shared:
dynamic_shared:
dynamic_shared_mem:
dynamic_shared_memory:
shared_memory:
shared_bytes:
shared_:
smem:
    .zero 233472
    .popsection
)");
extern "C" {
extern thread_local unsigned char pretended_dynamic_shared[];
}

namespace pretended {

static_assert(DYNAMIC_SHARED + RED_ZONE == 233472, "as reserved above");

/// The thread-local memory of this library or program.
struct LocalMemory {
    unsigned char *begin = nullptr;
    size_t bytes = 0;

    static LocalMemory find() {
        LocalMemory found;
        dl_iterate_phdr(
            [](dl_phdr_info *info, size_t, void *into) {
                auto here = reinterpret_cast<uintptr_t>(&pretended_dynamic_shared);
                auto begin = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
                for (int h = 0; h < info->dlpi_phnum; h++) {
                    const auto &header = info->dlpi_phdr[h];
                    if (header.p_type == PT_TLS && begin && begin <= here && here < begin + header.p_memsz)
                        *static_cast<LocalMemory *>(into) = {reinterpret_cast<unsigned char *>(begin), header.p_memsz};
                }
                return 0;
            },
            &found);
        return found;
    }
};

/// Fills shared memory with poison, and its own state not.
inline void poison_shared(size_t dynamic_bytes) {
    static thread_local LocalMemory local = LocalMemory::find();
    struct Range {
        unsigned char *begin, *end;
    };
    auto bytes = [](auto &of, size_t size) {
        auto begin = reinterpret_cast<unsigned char *>(&of);
        return Range{begin, begin + size};
    };
    Range keep[] = {bytes(local, sizeof local), bytes(machine, sizeof machine),
                    bytes(pretended_dynamic_shared, DYNAMIC_SHARED + RED_ZONE)};
    unsigned char *end = local.begin + local.bytes;
    for (unsigned char *at = local.begin; at < end;) {
        unsigned char *next = end;
        Range *inside = nullptr;
        for (Range &range : keep) {
            if (range.begin <= at && at < range.end) inside = &range;
            if (range.begin > at && range.begin < next) next = range.begin;
        }
        if (inside)
            at = inside->end;
        else
            memset(at, POISON, size_t(next - at)), at = next;
    }
    memset(pretended_dynamic_shared, POISON, dynamic_bytes + RED_ZONE);
}

/// Ends the program if the block wrote behind its dynamic shared memory.
inline void check_shared(size_t dynamic_bytes) {
    for (size_t at = dynamic_bytes; at < dynamic_bytes + RED_ZONE; at++)
        if (pretended_dynamic_shared[at] != (POISON & 0xFF))
            machine->fail("writes %zu bytes behind its %zu bytes of dynamic shared memory", at - dynamic_bytes, dynamic_bytes);
}

} // namespace pretended
