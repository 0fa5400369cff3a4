// How the threads of a block run on one thread of the CPU.
//
// Every thread of a block is a fibre: a stack of its own, switched when it waits. One fibre starts threads one after
// another until one of them waits, so that a kernel without barriers is a plain loop of calls. A machine runs one block
// at a time, in an order that is the same every time; what it finds wrong ends the program with the kernel's name.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

#include "types.h"

namespace pretended {

constexpr unsigned WARP = 32;
constexpr unsigned THREADS = 1024;
constexpr size_t STACK = 128 << 10;
constexpr size_t GUARD = 4 << 10;
/// The largest dynamic shared memory of a block, with opt-in, on an H100.
constexpr size_t DYNAMIC_SHARED = 232448;
/// Bytes after the dynamic shared memory that a kernel must leave alone.
constexpr size_t RED_ZONE = 1024;
/// What fresh memory is filled with: a NaN in each of float, double, half and bfloat16.
constexpr int POISON = 0xFF;

// Keeps the registers that a function must keep on the stack at hand, and goes on with another stack.
extern "C" void pretended_switch(void **from, void *to);
#if defined(__x86_64__)
asm(R"(
    .pushsection .text
    .type pretended_switch, @function
pretended_switch:
    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
    ret
    .size pretended_switch, .-pretended_switch
    .popsection
)");
constexpr unsigned SAVED_WORDS = 6, RETURN_WORD = 6, FRAME_WORDS = 8;
#elif defined(__aarch64__)
asm(R"(
    .pushsection .text
    .type pretended_switch, %function
pretended_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size pretended_switch, .-pretended_switch
    .popsection
)");
constexpr unsigned SAVED_WORDS = 20, RETURN_WORD = 11, FRAME_WORDS = 20;
#else
#error "stacks are switched on x86-64 and aarch64 only"
#endif

/// A kernel with its arguments, as one block's thread calls it.
struct Body {
    void (*call)(const void *self);
    const void *self;
};

struct Fibre {
    void *stack_pointer;
};

/// What the lanes of a warp do together: they bring values, the last one to come computes all results.
struct Collective {
    unsigned mask, arrived;
    const void *in[WARP];
    void *out[WARP];
    int line;
};

struct Warp {
    unsigned live;
    /// Lanes that have ended, as far as they exist.
    unsigned ended;
    unsigned pending_count;
    Collective pending[WARP];
};

/// Copies of 16 bytes to shared memory on their way. They arrive when the thread waits for their group and no sooner; until
/// then poison is in their place.
struct Copies {
    struct Copy {
        void *to;
        const void *from;
    };
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

struct Thread {
    Fibre *fibre;
    uint3 index;
    /// The line of the barrier at which it waits; 0 while it does not.
    int barrier_line;
    /// What it brings to a barrier that counts.
    int predicate;
};

class Machine {
  public:
    // What kernels read by CUDA's names.
    uint3 thread_index, block_index;
    dim3 block_size, grid_size;
    size_t dynamic_shared;
    const char *kernel = "?";

    Machine() {
        const char *order = getenv("PRETENDED_CUDA_ORDER");
        descending_ = order && !strcmp(order, "descending");
    }
    Machine(const Machine &) = delete;
    ~Machine() {
        for (void *stack : stacks_) munmap(stack, STACK);
        for (Fibre *fibre : fibres_) delete fibre;
    }

    void begin(const char *name, dim3 grid, dim3 block, size_t shared_bytes) {
        kernel = name;
        grid_size = grid;
        block_size = block;
        dynamic_shared = shared_bytes;
        count_ = block.x * block.y * block.z;
        if (count_ == 0 || count_ > THREADS) fail("%u threads in a block", count_);
        if (shared_bytes > DYNAMIC_SHARED) fail("%zu bytes of shared memory", shared_bytes);
        for (unsigned t = 0; t < count_; t++)
            threads_[t].index = {t % block.x, t / block.x % block.y, t / (block.x * block.y)};
    }

    /// Runs all threads of a block to their end.
    void run(uint3 block, Body body) {
        block_index = block;
        body_ = body;
        started_ = waiting_ = 0;
        live_ = count_;
        ready_first_ = ready_count_ = 0;
        for (unsigned w = 0; w * WARP < count_; w++) {
            unsigned lanes = count_ - w * WARP;
            warps_[w].live = lanes >= WARP ? ~0u : (1u << lanes) - 1;
            warps_[w].ended = warps_[w].pending_count = 0;
        }
        resume(&main_.stack_pointer, unused_fibre());
        if (live_) deadlock();
        copies_.clear();
    }

    /// `__syncthreads`: returns how many threads brought a predicate that is not 0.
    int barrier(int line, int predicate) {
        Thread &self = threads_[current_];
        self.barrier_line = line;
        self.predicate = predicate != 0;
        if (++waiting_ == live_)
            open_barrier();
        else
            wait();
        return barrier_sum_;
    }

    /// How many threads took part in the last barrier.
    int barrier_size() const { return barrier_size_; }

    unsigned lane() const { return current_ % WARP; }

    /// `from` null stands for zeros.
    void copy_later(void *to, const void *from, int line) {
        if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16)
            fail("line %d: an asynchronous copy between addresses that are not aligned by 16 bytes", line);
        if (copies_.empty()) copies_.resize(THREADS);
        memset(to, POISON, 16);
        copies_[current_].open.push_back({to, from});
    }

    void close_copies() {
        if (copies_.empty()) copies_.resize(THREADS);
        Copies &copies = copies_[current_];
        copies.groups.push_back(std::move(copies.open));
        copies.open.clear();
    }

    /// All groups but the last `but` arrive.
    void finish_copies(size_t but) {
        if (copies_.empty()) return;
        auto &groups = copies_[current_].groups;
        while (groups.size() > but) {
            for (auto [to, from] : groups.front()) from ? memcpy(to, from, 16) : memset(to, 0, 16);
            groups.erase(groups.begin());
        }
    }

    /// Brings `in` to what the lanes of `mask` do together and comes back when `combine` has written `out`. `combine`
    /// gets null for lanes that do not take part.
    template <class In, class Out, class Combine>
    void collect(unsigned mask, const In &in, Out &out, int line, Combine combine) {
        Warp &warp = warps_[current_ / WARP];
        unsigned bit = 1u << lane();
        if (!(mask & bit)) fail("line %d: lane %u is not in the mask %08x of its warp's exchange", line, lane(), mask);
        if (mask & warp.ended) fail("line %d: an exchange of the lanes %08x, of which %08x have ended", line, mask, mask & warp.ended);
        mask &= warp.live;
        Collective &group = find(warp, mask, line);
        group.arrived |= bit;
        group.in[lane()] = &in;
        group.out[lane()] = &out;
        if (group.arrived != mask) return wait();
        const In *ins[WARP];
        Out *outs[WARP];
        for (unsigned l = 0; l < WARP; l++) {
            bool part = mask >> l & 1;
            ins[l] = part ? static_cast<const In *>(group.in[l]) : nullptr;
            outs[l] = part ? static_cast<Out *>(group.out[l]) : nullptr;
        }
        group = warp.pending[--warp.pending_count];
        combine(ins, outs);
        for (unsigned l = 0; l < WARP; l++)
            if (mask >> l & 1 && l != lane()) make_ready(current_ / WARP * WARP + l);
    }

    [[noreturn, gnu::format(printf, 2, 3)]] void fail(const char *format, ...) const {
        fprintf(stderr, "pretended CUDA: kernel %s, block (%u, %u, %u), thread (%u, %u, %u): ", kernel, block_index.x,
                block_index.y, block_index.z, thread_index.x, thread_index.y, thread_index.z);
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
        abort();
    }

  private:
    Fibre main_;
    Body body_;
    unsigned count_ = 0, live_ = 0, started_ = 0, current_ = 0;
    /// Threads at the barrier.
    unsigned waiting_ = 0;
    int barrier_sum_ = 0, barrier_size_ = 0;
    bool descending_;
    Thread threads_[THREADS];
    Warp warps_[THREADS / WARP];
    std::vector<Copies> copies_;
    /// Threads that may go on, in a ring.
    unsigned ready_[THREADS], ready_first_ = 0, ready_count_ = 0;
    Fibre *fibre_ = nullptr;
    std::vector<Fibre *> unused_, fibres_;
    std::vector<void *> stacks_;

    /// The waiting group of a mask, or a new one.
    Collective &find(Warp &warp, unsigned mask, int line) {
        for (unsigned p = 0; p < warp.pending_count; p++) {
            Collective &group = warp.pending[p];
            if (group.mask == mask) {
                if (group.line != line) fail("lanes of one warp wait in exchanges of the lines %d and %d", group.line, line);
                return group;
            }
            if (group.mask & mask & group.arrived) fail("line %d: a lane waits in two exchanges", line);
        }
        Collective &group = warp.pending[warp.pending_count++];
        group.mask = mask;
        group.arrived = 0;
        group.line = line;
        return group;
    }

    void make_ready(unsigned thread) {
        ready_[(ready_first_ + ready_count_++) % THREADS] = thread;
    }

    void open_barrier() {
        int line = 0;
        barrier_sum_ = 0;
        barrier_size_ = int(waiting_);
        waiting_ = 0;
        for (unsigned t = 0; t < count_; t++) {
            Thread &thread = threads_[t];
            if (!thread.barrier_line) continue;
            if (line && thread.barrier_line != line)
                fail("threads wait at the barriers of the lines %d and %d", line, thread.barrier_line);
            line = thread.barrier_line;
            thread.barrier_line = 0;
            barrier_sum_ += thread.predicate;
            // The current thread opened it, by coming or by ending.
            if (t != current_) make_ready(t);
        }
    }

    void become(unsigned thread) {
        current_ = thread;
        thread_index = threads_[thread].index;
    }

    /// Gives the CPU to another thread until this one is ready.
    void wait() {
        unsigned self = current_;
        threads_[self].fibre = fibre_;
        go_on();
        become(self);
    }

    /// From the current fibre to a thread that may go on, or to a fibre that starts the next one.
    void go_on() {
        Fibre *from = fibre_;
        if (ready_count_) {
            unsigned thread = ready_[ready_first_];
            ready_first_ = (ready_first_ + 1) % THREADS;
            ready_count_--;
            resume(&from->stack_pointer, threads_[thread].fibre);
        } else if (started_ < count_) {
            resume(&from->stack_pointer, unused_fibre());
        } else {
            fibre_ = nullptr;
            pretended_switch(&from->stack_pointer, main_.stack_pointer);
        }
    }

    void resume(void **from, Fibre *to) {
        fibre_ = to;
        pretended_switch(from, to->stack_pointer);
    }

    /// Starts threads one after another; a thread that waits takes the fibre with it.
    void start_threads() {
        for (;;) {
            while (!ready_count_ && started_ < count_) {
                unsigned next = started_++;
                become(descending_ ? count_ - 1 - next : next);
                body_.call(body_.self);
                end();
            }
            unused_.push_back(fibre_);
            go_on();
        }
    }

    void end() {
        Warp &warp = warps_[current_ / WARP];
        unsigned bit = 1u << lane();
        warp.ended |= bit;
        live_--;
        for (unsigned p = 0; p < warp.pending_count; p++)
            if (warp.pending[p].mask & bit)
                fail("the thread has ended, and lanes of its warp wait for it in an exchange of line %d", warp.pending[p].line);
        if (live_ && waiting_ == live_) open_barrier();
    }

    Fibre *unused_fibre() {
        if (!unused_.empty()) {
            Fibre *fibre = unused_.back();
            unused_.pop_back();
            return fibre;
        }
        void *stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) fail("no memory for a stack");
        mprotect(stack, GUARD, PROT_NONE);
        stacks_.push_back(stack);
        fibres_.push_back(new Fibre);
        // The first switch to the stack "returns" to the start; the machine is in a register that it restores.
        void **top = reinterpret_cast<void **>(static_cast<char *>(stack) + STACK) - FRAME_WORDS;
        memset(top, 0, FRAME_WORDS * sizeof *top);
        top[RETURN_WORD] = reinterpret_cast<void *>(&first_steps);
        fibres_.back()->stack_pointer = top;
        return fibres_.back();
    }

    static void first_steps();

    [[noreturn]] void deadlock() {
        unsigned exchanging = 0;
        int line = 0;
        for (unsigned w = 0; w * WARP < count_; w++)
            for (unsigned p = 0; p < warps_[w].pending_count; p++) {
                exchanging += unsigned(__builtin_popcount(warps_[w].pending[p].arrived));
                line = warps_[w].pending[p].line;
            }
        int barrier_line = 0;
        for (unsigned t = 0; t < count_; t++)
            if (threads_[t].barrier_line) barrier_line = threads_[t].barrier_line;
        fail("of %u threads %u have not ended: %u wait at a barrier (line %d), %u in exchanges of a warp (line %d)", count_,
             live_, waiting_, barrier_line, exchanging, line);
    }
};

/// The machine whose block runs on this thread of the CPU.
static thread_local Machine *machine;

inline void Machine::first_steps() {
    machine->start_threads();
}

} // namespace pretended
