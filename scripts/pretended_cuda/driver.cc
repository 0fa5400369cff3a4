// libcuda.so without a device: memory is the host's, everything happens at once and in order, and kernels are functions of
// libraries that the pretended NVRTC made, run on the thread that launches them.
//
// PRETENDED_CUDA_SM=80|89|90      the architecture (90)
// PRETENDED_CUDA_DEVICES=N        how many devices there are (1, at most 16)
// PRETENDED_CUDA_REPORT=FILE      writes at the end, and at pretended_cuda_report(), what was done, as JSON
// PRETENDED_CUDA_TRACE=1          prints every launch and copy; with 2, also what stands at the beginning of every argument
//                                 after a launch, and how many of its first 128 floats are NaN
//
// Own code after the public documentation of the driver API.

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "device/launch.h"

namespace {

using Address = uint64_t;

/// As in cuda.h.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_DEVICE = 101,
    INVALID_PTX = 218,
    NOT_FOUND = 500,
    NOT_SUPPORTED = 801,
};

constexpr int VERSION = 13000;
constexpr size_t TOTAL_MEMORY = size_t(16) << 30;
/// Memory up to this size is poisoned when it is allocated; filling more would only take room.
constexpr size_t POISONED = size_t(64) << 20;
constexpr unsigned SHARED_WITHOUT_OPT_IN = 48 << 10;

bool is_set(const char *name) {
    const char *value = getenv(name);
    return value && *value && strcmp(value, "0");
}

[[gnu::format(printf, 1, 2)]] void trace(const char *format, ...) {
    static const bool TRACES = is_set("PRETENDED_CUDA_TRACE");
    if (!TRACES) return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "pretended CUDA: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

int architecture() {
    static const int SM = [] {
        const char *value = getenv("PRETENDED_CUDA_SM");
        return value ? atoi(value) : 90;
    }();
    return SM;
}

constexpr int MOST_DEVICES = 16;

int devices() {
    static const int COUNT = [] {
        const char *value = getenv("PRETENDED_CUDA_DEVICES");
        return value ? std::min(atoi(value), MOST_DEVICES) : 1;
    }();
    return COUNT;
}

/// Contexts by the numbers of their devices, and the one in which a thread is.
char CONTEXTS[MOST_DEVICES];
thread_local char *current = CONTEXTS;
thread_local std::vector<char *> pushed;

/// Shared memory of a block with opt-in, as the programming guide's table of capabilities has it.
unsigned largest_shared() {
    switch (architecture()) {
    case 80: return 163 << 10;
    case 86:
    case 89: return 99 << 10;
    default: return 227 << 10;
    }
}

/// What was done since the program began.
struct Counters {
    std::mutex mutex;
    std::map<std::string, uint64_t> launches;
    uint64_t modules = 0, to_device = 0, to_host = 0, copies_to_device = 0, copies_to_host = 0, allocations = 0, waits = 0;
    uint64_t allocated = 0, peak = 0;

    void write() {
        const char *path = getenv("PRETENDED_CUDA_REPORT");
        FILE *file = path ? fopen(path, "w") : nullptr;
        if (!file) return;
        std::lock_guard lock(mutex);
        uint64_t all = 0;
        for (auto &[name, count] : launches) all += count;
        fprintf(file,
                "{\n  \"modules\": %" PRIu64 ",\n  \"launches\": %" PRIu64 ",\n  \"waits\": %" PRIu64
                ",\n  \"copies_to_device\": %" PRIu64 ",\n  \"bytes_to_device\": %" PRIu64 ",\n  \"copies_to_host\": %" PRIu64
                ",\n  \"bytes_to_host\": %" PRIu64 ",\n  \"allocations\": %" PRIu64 ",\n  \"peak_bytes\": %" PRIu64 ",\n  \"kernels\": {",
                modules, all, waits, copies_to_device, to_device, copies_to_host, to_host, allocations, peak);
        const char *separator = "\n";
        for (auto &[name, count] : launches) {
            fprintf(file, "%s    \"%s\": %" PRIu64, separator, name.c_str(), count);
            separator = ",\n";
        }
        fprintf(file, "\n  }\n}\n");
        fclose(file);
    }
};

Counters &counters() {
    // It outlives whatever runs at exit.
    static Counters *made = new Counters;
    return *made;
}

#define COUNT(statement)                                                                                                        \
    do {                                                                                                                        \
        std::lock_guard lock(counters().mutex);                                                                                 \
        statement;                                                                                                              \
    } while (0)

/// Memory between pages that nobody may touch, with a tail of poison up to the next page.
struct Allocation {
    unsigned char *data;
    size_t bytes, mapped;
};

class Allocations {
  public:
    Result allocate(Address *address, size_t bytes) {
        size_t inner = (bytes + PAGE - 1) / PAGE * PAGE, mapped = inner + 2 * PAGE;
        void *begin = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (begin == MAP_FAILED) return OUT_OF_MEMORY;
        auto data = static_cast<unsigned char *>(begin) + PAGE;
        mprotect(data - PAGE, PAGE, PROT_NONE);
        mprotect(data + inner, PAGE, PROT_NONE);
        if (bytes <= POISONED) memset(data, pretended::POISON, bytes);
        memset(data + bytes, pretended::POISON, inner - bytes);
        std::lock_guard lock(mutex_);
        all_[reinterpret_cast<Address>(data)] = {data, bytes, mapped};
        *address = reinterpret_cast<Address>(data);
        COUNT(counters().allocations++; counters().allocated += bytes; counters().peak = std::max(counters().peak, counters().allocated));
        return SUCCESS;
    }

    Result free(Address address) {
        std::lock_guard lock(mutex_);
        auto found = all_.find(address);
        if (found == all_.end()) return address ? INVALID_VALUE : SUCCESS;
        Allocation freed = found->second;
        all_.erase(found);
        munmap(freed.data - PAGE, freed.mapped);
        COUNT(counters().allocated -= freed.bytes);
        return SUCCESS;
    }

    /// Ends the program if a kernel wrote behind an allocation.
    void check(const char *kernel) {
        std::lock_guard lock(mutex_);
        for (auto &[address, allocation] : all_)
            for (size_t at = allocation.bytes; at < allocation.mapped - 2 * PAGE; at++)
                if (allocation.data[at] != (pretended::POISON & 0xFF)) {
                    fprintf(stderr, "pretended CUDA: kernel %s wrote %zu bytes behind an allocation of %zu bytes\n", kernel,
                            at - allocation.bytes, allocation.bytes);
                    abort();
                }
    }

    /// The bytes from an address to the end of its allocation; 0 if it is in none.
    size_t bytes_from(Address address) {
        std::lock_guard lock(mutex_);
        auto after = all_.upper_bound(address);
        if (after == all_.begin()) return 0;
        auto &[begin, allocation] = *std::prev(after);
        return address < begin + allocation.bytes ? begin + allocation.bytes - address : 0;
    }

    /// Where an address is, for whoever crashes: nothing is locked.
    std::string describe(Address address) {
        std::string text = "no allocation is near";
        int64_t nearest = int64_t(1) << 40;
        for (auto &[begin, allocation] : all_) {
            int64_t distance = address < begin ? int64_t(begin - address) : int64_t(address - begin - allocation.bytes);
            if (distance >= nearest) continue;
            nearest = distance;
            text = std::to_string(distance) + (address < begin ? " bytes before" : " bytes behind") + " an allocation of " + std::to_string(allocation.bytes);
        }
        return text;
    }

  private:
    static constexpr size_t PAGE = 4096;
    std::mutex mutex_;
    std::map<Address, Allocation> all_;
};

Allocations &allocations() {
    static Allocations *made = new Allocations;
    return *made;
}

using Trampoline = void (*)(const pretended::Launch *, void **);

struct Function {
    std::string name, parameters;
    Trampoline call;
    unsigned shared_limit = SHARED_WITHOUT_OPT_IN;
};

struct Module {
    void *library = nullptr;
    std::string ptx;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

/// The kernel that runs, for whoever looks at a crash.
std::atomic<const char *> running{nullptr};

void say_crash(int signal, siginfo_t *info, void *) {
    char text[400];
    const char *kernel = running;
    auto address = reinterpret_cast<Address>(info->si_addr);
    int length = snprintf(text, sizeof text, "pretended CUDA: access to memory that is none, %s%s: %s\n", kernel ? "in the kernel " : "outside of kernels",
                          kernel ? kernel : "", allocations().describe(address).c_str());
    if (length > 0 && write(2, text, size_t(length)) < 0) _exit(1);
    ::signal(signal, SIG_DFL);
    raise(signal);
}

void watch_crashes() {
    // Rust's runtime looks at overflows of its own stacks; whatever it does not know comes back here.
    struct sigaction action{};
    action.sa_sigaction = say_crash;
    action.sa_flags = SA_ONSTACK | SA_NODEFER | SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
}

/// With PRETENDED_CUDA_TRACE=2.
void trace_arguments(const Function &function, void **arguments) {
    const char *level = getenv("PRETENDED_CUDA_TRACE");
    if (!level || atoi(level) < 2) return;
    for (size_t i = 0; i < function.parameters.size(); i++) {
        if (function.parameters[i] != 'p') continue;
        auto address = *static_cast<Address *>(arguments[i]);
        size_t count = allocations().bytes_from(address) / sizeof(float), nans = 0;
        if (!count) continue;
        count = std::min(count, size_t(128));
        auto values = reinterpret_cast<const float *>(address);
        for (size_t v = 0; v < count; v++) nans += values[v] != values[v];
        trace("    argument %zu at %" PRIx64 ": %g %g %g %g ..., %zu NaNs of %zu", i, address, values[0], values[count > 1], values[count > 2 ? 2 : 0],
              values[count > 3 ? 3 : 0], nans, count);
    }
}

Result launch(Function &function, dim3 grid, dim3 block, unsigned shared_bytes, void **arguments) {
    trace("%s grid %u,%u,%u block %u,%u,%u shared %u, first argument %" PRIx64, function.name.c_str(), grid.x, grid.y, grid.z, block.x, block.y,
          block.z, shared_bytes, arguments && arguments[0] ? *static_cast<Address *>(arguments[0]) : 0);
    uint64_t threads = uint64_t(block.x) * block.y * block.z;
    bool block_fits = threads && threads <= pretended::THREADS && block.z <= 64;
    bool grid_fits = grid.x && grid.y && grid.z && grid.x <= 0x7FFFFFFF && grid.y <= 65535 && grid.z <= 65535;
    if (!block_fits || !grid_fits || shared_bytes > function.shared_limit) {
        fprintf(stderr, "pretended CUDA: refuses to launch %s on a grid of %u,%u,%u blocks of %u,%u,%u threads with %u bytes of %u of shared memory\n",
                function.name.c_str(), grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes, function.shared_limit);
        return INVALID_VALUE;
    }
    COUNT(counters().launches[function.name]++);
    static std::mutex one_at_a_time;
    static auto *machine = new pretended::Machine;
    std::lock_guard lock(one_at_a_time);
    static bool watched = (watch_crashes(), true);
    (void)watched;
    running = function.name.c_str();
    pretended::Launch launch{machine, function.name.c_str(), grid, block, shared_bytes};
    function.call(&launch, arguments);
    allocations().check(running);
    running = nullptr;
    trace_arguments(function, arguments);
    return SUCCESS;
}

template <class T>
T *at(Address address) {
    return reinterpret_cast<T *>(address);
}

/// CUDA_MEMCPY2D, whose memory is of the host (1) or the device (2).
struct Copy2D {
    size_t from_x, from_y;
    int from_kind;
    const void *from_host;
    Address from_device;
    void *from_array;
    size_t from_pitch;
    size_t to_x, to_y;
    int to_kind;
    void *to_host;
    Address to_device;
    void *to_array;
    size_t to_pitch;
    size_t width, height;
};

Result copy_2d(const Copy2D &copy) {
    enum { HOST = 1, DEVICE = 2 };
    trace("%zu rows of %zu bytes, %s to %s, %" PRIx64, copy.height, copy.width, copy.from_kind == HOST ? "host" : "device",
          copy.to_kind == HOST ? "host" : "device", copy.to_kind == HOST ? copy.from_device : copy.to_device);
    auto from = copy.from_kind == HOST ? static_cast<const char *>(copy.from_host) : at<const char>(copy.from_device);
    auto to = copy.to_kind == HOST ? static_cast<char *>(copy.to_host) : at<char>(copy.to_device);
    from += copy.from_y * copy.from_pitch + copy.from_x;
    to += copy.to_y * copy.to_pitch + copy.to_x;
    for (size_t row = 0; row < copy.height; row++) memcpy(to + row * copy.to_pitch, from + row * copy.from_pitch, copy.width);
    size_t bytes = copy.width * copy.height;
    if (copy.from_kind == HOST && copy.to_kind == DEVICE) COUNT(counters().copies_to_device++; counters().to_device += bytes);
    if (copy.from_kind == DEVICE && copy.to_kind == HOST) COUNT(counters().copies_to_host++; counters().to_host += bytes);
    return SUCCESS;
}

} // namespace

// The driver API, as far as it is called.
extern "C" {

void pretended_cuda_report() { counters().write(); }

int cuInit(unsigned) {
    static const int REGISTERED = atexit(pretended_cuda_report);
    return REGISTERED ? INVALID_VALUE : SUCCESS;
}
int cuDriverGetVersion(int *version) { return *version = VERSION, SUCCESS; }
int cuGetErrorName(int error, const char **name) {
    static const std::map<int, const char *> NAMES = {{SUCCESS, "CUDA_SUCCESS"},
                                                      {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
                                                      {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                      {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
                                                      {INVALID_PTX, "CUDA_ERROR_INVALID_PTX"},
                                                      {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
                                                      {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"}};
    auto found = NAMES.find(error);
    *name = found == NAMES.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
    return SUCCESS;
}
int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }

int cuDeviceGetCount(int *count) { return *count = devices(), SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal < 0 || ordinal >= devices() ? INVALID_DEVICE : SUCCESS; }
int cuDeviceGetName(char *name, int size, int) { return snprintf(name, size_t(size), "NVIDIA H100 (pretended)"), SUCCESS; }
int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = TOTAL_MEMORY, SUCCESS; }
int cuDeviceGetPCIBusId(char *id, int size, int device) { return snprintf(id, size_t(size), "0000:%02x:00.0", device + 1), SUCCESS; }
int cuDeviceGetUuid(void *uuid, int device) { return memset(uuid, 7 + device, 16), SUCCESS; }
int cuDeviceGetUuid_v2(void *uuid, int device) { return cuDeviceGetUuid(uuid, device); }
int cuDeviceCanAccessPeer(int *can, int, int) { return *can = 0, SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
    case 1: *value = 1024; break;                         // threads of a block
    case 2: case 3: *value = 1024; break;                 // along x, y
    case 4: *value = 64; break;                           // along z
    case 5: *value = 0x7FFFFFFF; break;                   // blocks of a grid along x
    case 6: case 7: *value = 65535; break;                // along y, z
    case 8: *value = SHARED_WITHOUT_OPT_IN; break;        // shared memory of a block
    case 10: *value = 32; break;                          // threads of a warp
    case 12: *value = 65536; break;                       // registers of a block
    case 16: *value = architecture() == 80 ? 108 : 132; break; // multiprocessors
    case 39: *value = 2048; break;                        // threads of a multiprocessor
    case 75: *value = architecture() / 10; break;         // compute capability
    case 76: *value = architecture() % 10; break;
    case 81: *value = int(largest_shared() + 1024); break; // shared memory of a multiprocessor
    case 97: *value = int(largest_shared()); break;       // of a block, with opt-in
    default: *value = 1;
    }
    return SUCCESS;
}

// A device has one context, and one is always current; memory and counters are of all of them.
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &CONTEXTS[device], SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void *context) { return current = context ? static_cast<char *>(context) : CONTEXTS, SUCCESS; }
int cuCtxGetCurrent(void **context) { return *context = current, SUCCESS; }
int cuCtxGetDevice(int *device) { return *device = int(current - CONTEXTS), SUCCESS; }
int cuCtxPushCurrent_v2(void *context) { return pushed.push_back(current), cuCtxSetCurrent(context); }
int cuCtxPopCurrent_v2(void **context) {
    *context = current;
    if (!pushed.empty()) current = pushed.back(), pushed.pop_back();
    return SUCCESS;
}
int cuCtxSynchronize() {
    COUNT(counters().waits++);
    return SUCCESS;
}
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, SUCCESS; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    *total = TOTAL_MEMORY;
    COUNT(*free = TOTAL_MEMORY - counters().allocated);
    return SUCCESS;
}

// Everything is done when a call returns: streams and events are only told apart.
int cuStreamCreate(void **stream, unsigned) {
    static std::atomic<uintptr_t> last{0x100};
    return *stream = reinterpret_cast<void *>(++last), SUCCESS;
}
int cuStreamCreateWithPriority(void **stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
int cuStreamSynchronize(void *) {
    COUNT(counters().waits++);
    return SUCCESS;
}
int cuStreamQuery(void *) { return SUCCESS; }
int cuStreamDestroy_v2(void *) { return SUCCESS; }
int cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
int cuStreamBeginCapture_v2(void *, int) { return NOT_SUPPORTED; }
int cuStreamEndCapture(void *, void **) { return NOT_SUPPORTED; }
int cuGraphDestroy(void *) { return SUCCESS; }
int cuEventCreate(void **event, unsigned flags) { return cuStreamCreate(event, flags); }
int cuEventRecord(void *, void *) { return SUCCESS; }
int cuEventSynchronize(void *) {
    COUNT(counters().waits++);
    return SUCCESS;
}
int cuEventQuery(void *) { return SUCCESS; }
int cuEventDestroy_v2(void *) { return SUCCESS; }
int cuEventElapsedTime(float *milliseconds, void *, void *) { return *milliseconds = 1, SUCCESS; }
int cuEventElapsedTime_v2(float *milliseconds, void *begin, void *end) { return cuEventElapsedTime(milliseconds, begin, end); }

int cuMemAlloc_v2(Address *address, size_t bytes) { return bytes ? allocations().allocate(address, bytes) : INVALID_VALUE; }
int cuMemAllocAsync(Address *address, size_t bytes, void *) { return cuMemAlloc_v2(address, bytes); }
int cuMemFree_v2(Address address) { return allocations().free(address); }
int cuMemFreeAsync(Address address, void *) { return cuMemFree_v2(address); }
int cuMemAllocHost_v2(void **memory, size_t bytes) { return posix_memalign(memory, 4096, bytes ? bytes : 1) ? OUT_OF_MEMORY : SUCCESS; }
int cuMemFreeHost(void *memory) { return free(memory), SUCCESS; }
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *) {
    trace("%zu bytes to the device, %" PRIx64, bytes, to);
    memcpy(at<void>(to), from, bytes);
    COUNT(counters().copies_to_device++; counters().to_device += bytes);
    return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *) {
    trace("%zu bytes from the device, %" PRIx64, bytes, from);
    memcpy(to, at<void>(from), bytes);
    COUNT(counters().copies_to_host++; counters().to_host += bytes);
    return SUCCESS;
}
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *) { return memmove(at<void>(to), at<void>(from), bytes), SUCCESS; }
int cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) { return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr); }
int cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr); }
int cuMemcpy2DAsync_v2(const Copy2D *copy, void *) { return copy_2d(*copy); }
int cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *) { return memset(at<void>(to), value, bytes), SUCCESS; }
int cuMemsetD32Async(Address to, unsigned value, size_t count, void *) {
    for (size_t i = 0; i < count; i++) at<unsigned>(to)[i] = value;
    return SUCCESS;
}

int cuModuleLoadData(Module **module, const void *image) {
    auto made = std::make_unique<Module>();
    made->ptx = static_cast<const char *>(image);
    if (made->ptx.find(".visible .entry") == std::string::npos) return INVALID_PTX;
    const std::string MARK = "// pretended ";
    if (made->ptx.rfind(MARK, 0) != 0) {
        fprintf(stderr, "pretended CUDA: kernels that were not compiled by the pretended NVRTC do not run here\n");
        return INVALID_PTX;
    }
    std::string library = made->ptx.substr(MARK.size(), made->ptx.find('\n') - MARK.size());
    // It stays loaded: fibres that it started run the kernels of others.
    made->library = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!made->library) {
        fprintf(stderr, "pretended CUDA: %s\n", dlerror());
        return INVALID_PTX;
    }
    COUNT(counters().modules++);
    *module = made.release();
    return SUCCESS;
}
int cuModuleGetFunction(Function **function, Module *module, const char *name) {
    if (module->ptx.find(std::string(".visible .entry ") + name + '(') == std::string::npos) return NOT_FOUND;
    auto &kept = module->functions[name];
    if (!kept) {
        auto call = reinterpret_cast<Trampoline>(dlsym(module->library, ("pretended_launch_" + std::string(name)).c_str()));
        if (!call) return NOT_FOUND;
        auto parameters = reinterpret_cast<const char *(*)()>(dlsym(module->library, ("pretended_parameters_" + std::string(name)).c_str()));
        kept.reset(new Function{name, parameters ? parameters() : "", call});
    }
    *function = kept.get();
    return SUCCESS;
}
int cuModuleUnload(Module *module) { return delete module, SUCCESS; }
int cuFuncSetAttribute(Function *function, int attribute, int value) {
    constexpr int MAX_DYNAMIC_SHARED = 8;
    if (attribute != MAX_DYNAMIC_SHARED) return SUCCESS;
    if (value < 0 || unsigned(value) > largest_shared()) return INVALID_VALUE;
    // Less than what every kernel has is no limit.
    function->shared_limit = std::max(unsigned(value), SHARED_WITHOUT_OPT_IN);
    return SUCCESS;
}
int cuFuncSetCacheConfig(Function *, int) { return SUCCESS; }
int cuFuncGetAttribute(int *value, int, Function *) { return *value = 0, SUCCESS; }
int cuLaunchKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void *, void **arguments, void **) {
    return launch(*function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, arguments);
}
// No kernel without autotune takes one.
int cuTensorMapEncodeTiled(void *, ...) { return NOT_SUPPORTED; }

} // extern "C"
