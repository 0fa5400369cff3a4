// Launches: all blocks of a grid, one after another.
//
//     pretended::launch(kernel, grid, block, shared_bytes, arguments…);
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include "machine.h"
#include "shared.h"

namespace pretended {

/// Which blocks of a grid run here.
struct Launch {
    Machine *machine;
    const char *name;
    dim3 grid, block;
    size_t shared_bytes;
};

template <class Call>
void run(const Launch &launch, const Call &call) {
    Machine *outer = machine;
    machine = launch.machine;
    machine->begin(launch.name, launch.grid, launch.block, launch.shared_bytes);
    Body body{[](const void *self) { (*static_cast<const Call *>(self))(); }, &call};
    for (unsigned z = 0; z < launch.grid.z; z++)
        for (unsigned y = 0; y < launch.grid.y; y++)
            for (unsigned x = 0; x < launch.grid.x; x++) {
                poison_shared(launch.shared_bytes);
                machine->run({x, y, z}, body);
                check_shared(launch.shared_bytes);
            }
    machine = outer;
}

/// As the driver has them: a pointer to each argument.
template <class... A, size_t... I>
void run_with(const Launch &launch, void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    run(launch, [=] { kernel(*static_cast<std::remove_const_t<A> *>(arguments[I])...); });
}

template <class... A>
void run_with(const Launch &launch, void (*kernel)(A...), void **arguments) {
    run_with(launch, kernel, arguments, std::index_sequence_for<A...>());
}

/// What a kernel takes, for those who trace it: a letter for each parameter, `p` for an address.
template <class... A>
const char *parameters(void (*)(A...)) {
    static const char letters[] = {(std::is_pointer_v<A> ? 'p' : 'v')..., 0};
    return letters;
}

/// For programs that test kernels themselves.
template <class... A, class... Given>
void launch(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared_bytes, Given &&...given) {
    static_assert(sizeof...(A) == sizeof...(Given), "as many arguments as the kernel takes");
    static Machine own;
    std::tuple<A...> arguments(static_cast<A>(given)...);
    run(Launch{&own, "under test", grid, block, shared_bytes}, [&] { std::apply(kernel, arguments); });
}

/// Memory of a device for such programs: poisoned, and a write or read behind its end is a fault.
template <class T>
class Memory {
  public:
    explicit Memory(size_t count) : count_(count), bytes_((count * sizeof(T) + PAGE - 1) / PAGE * PAGE + PAGE) {
        void *mapped = mmap(nullptr, bytes_ + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) abort();
        begin_ = static_cast<unsigned char *>(mapped);
        memset(begin_, POISON, bytes_);
        mprotect(begin_, PAGE, PROT_NONE);
        mprotect(begin_ + bytes_, PAGE, PROT_NONE);
        // Aligned as a device's memory may be used, by 16 bytes.
        data_ = reinterpret_cast<T *>(begin_ + (bytes_ - count * sizeof(T)) / 16 * 16);
    }
    template <class Values>
    static Memory of(const Values &values) {
        Memory memory(values.size());
        for (size_t i = 0; i < values.size(); i++) memory[i] = T(values[i]);
        return memory;
    }
    Memory(Memory &&other) : count_(other.count_), bytes_(other.bytes_), begin_(std::exchange(other.begin_, nullptr)), data_(other.data_) {}
    Memory &operator=(Memory &&) = delete;
    ~Memory() {
        if (begin_) munmap(begin_, bytes_ + PAGE);
    }
    operator T *() { return data_; }
    T &operator[](size_t i) { return data_[i]; }
    T *data() { return data_; }
    size_t size() const { return count_; }

  private:
    static constexpr size_t PAGE = 4096;
    size_t count_, bytes_;
    unsigned char *begin_;
    T *data_;
};

} // namespace pretended
