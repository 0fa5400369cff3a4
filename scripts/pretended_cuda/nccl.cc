// libnccl.so.2 without devices: what one process sends from its memory another one receives into its own, by sockets of one
// machine, when the call returns. As with the real library, a send waits for its receive, and both name the same number of elements.
//
// PRETENDED_NCCL_REPORT=FOLDER    at the end every communicator writes FOLDER/RANK: how many bytes it sent, in how many messages
//
// Own code after the public documentation of NCCL's API. Only what is used is here: sends and receives of floats, in groups or not.

#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

/// As in nccl.h.
enum Result { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6 };
constexpr int FLOAT32 = 7;

constexpr auto PATIENCE = std::chrono::seconds(60);

thread_local std::string problem;

[[gnu::format(printf, 2, 3)]] int failed(Result result, const char *format, ...) {
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    problem = text;
    return result;
}

/// The folder in which ranks find each other, as text that ends with zero.
struct UniqueId {
    char folder[128];
};

struct Communicator {
    std::string folder;
    int rank = 0, ranks = 0, listener = -1;
    /// By rank; none to itself.
    std::vector<int> sockets;
    uint64_t bytes = 0, messages = 0;

    std::string place(int of) const { return folder + "/" + std::to_string(of); }
};

sockaddr_un address(const std::string &path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path.c_str());
    return address;
}

bool write_all(int socket, const void *from, size_t bytes) {
    auto at = static_cast<const char *>(from);
    while (bytes) {
        ssize_t done = send(socket, at, bytes, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        at += done, bytes -= size_t(done);
    }
    return true;
}

bool read_all(int socket, void *to, size_t bytes) {
    auto at = static_cast<char *>(to);
    while (bytes) {
        ssize_t done = recv(socket, at, bytes, 0);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        at += done, bytes -= size_t(done);
    }
    return true;
}

/// Connects to another rank, which may not be there yet.
int connect_to(const Communicator &self, int to) {
    auto until = std::chrono::steady_clock::now() + PATIENCE;
    auto there = address(self.place(to));
    while (std::chrono::steady_clock::now() < until) {
        int made = socket(AF_UNIX, SOCK_STREAM, 0);
        if (!connect(made, reinterpret_cast<sockaddr *>(&there), sizeof there) && write_all(made, &self.rank, sizeof self.rank)) return made;
        close(made);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return -1;
}

/// Operations of a group that is open in this thread.
thread_local int groups = 0;
thread_local std::vector<std::function<int()>> waiting;

int now_or_later(std::function<int()> operation) {
    if (!groups) return operation();
    return waiting.push_back(std::move(operation)), SUCCESS;
}

int check(const Communicator *communicator, int peer, int type) {
    if (!communicator) return failed(INVALID_ARGUMENT, "no communicator");
    if (type != FLOAT32) return failed(INVALID_ARGUMENT, "type %d is not pretended", type);
    if (peer < 0 || peer >= communicator->ranks || peer == communicator->rank)
        return failed(INVALID_ARGUMENT, "rank %d of %d exchanges with %d", communicator->rank, communicator->ranks, peer);
    return SUCCESS;
}

} // namespace

extern "C" {

int ncclGetVersion(int *version) { return *version = 22700, SUCCESS; }
const char *ncclGetErrorString(int result) {
    switch (result) {
    case SUCCESS: return "no error";
    case SYSTEM_ERROR: return "unhandled system error";
    case INVALID_ARGUMENT: return "invalid argument";
    case INVALID_USAGE: return "invalid usage";
    case REMOTE_ERROR: return "remote process exited or there was a network error";
    default: return "unknown result code";
    }
}
const char *ncclGetLastError(void *) { return problem.c_str(); }

int ncclGetUniqueId(UniqueId *id) {
    *id = {};
    snprintf(id->folder, sizeof id->folder, "/tmp/pretended-nccl-XXXXXX");
    return mkdtemp(id->folder) ? SUCCESS : failed(SYSTEM_ERROR, "mkdtemp: %s", strerror(errno));
}

int ncclCommInitRank(Communicator **made, int ranks, UniqueId id, int rank) {
    if (rank < 0 || rank >= ranks) return failed(INVALID_ARGUMENT, "rank %d of %d", rank, ranks);
    auto self = new Communicator{id.folder, rank, ranks, socket(AF_UNIX, SOCK_STREAM, 0), std::vector<int>(size_t(ranks), -1)};
    auto here = address(self->place(rank));
    if (bind(self->listener, reinterpret_cast<sockaddr *>(&here), sizeof here) || listen(self->listener, ranks))
        return failed(SYSTEM_ERROR, "%s: %s", here.sun_path, strerror(errno));
    for (int other = 0; other < rank; other++)
        if ((self->sockets[size_t(other)] = connect_to(*self, other)) < 0) return failed(REMOTE_ERROR, "rank %d is not there", other);
    for (int more = rank + 1; more < ranks; more++) {
        int come = accept(self->listener, nullptr, nullptr), from = -1;
        if (come < 0 || !read_all(come, &from, sizeof from) || from <= rank || from >= ranks || self->sockets[size_t(from)] >= 0)
            return failed(REMOTE_ERROR, "rank %d connects to rank %d", from, rank);
        self->sockets[size_t(from)] = come;
    }
    return *made = self, SUCCESS;
}

int ncclCommDestroy(Communicator *self) {
    if (const char *folder = getenv("PRETENDED_NCCL_REPORT")) {
        if (FILE *file = fopen((std::string(folder) + "/" + std::to_string(self->rank)).c_str(), "w")) {
            fprintf(file, "%" PRIu64 " %" PRIu64 "\n", self->bytes, self->messages);
            fclose(file);
        }
    }
    for (int socket : self->sockets)
        if (socket >= 0) close(socket);
    close(self->listener);
    unlink(self->place(self->rank).c_str());
    rmdir(self->folder.c_str()); // The last one succeeds.
    delete self;
    return SUCCESS;
}

int ncclGroupStart() { return groups++, SUCCESS; }

int ncclGroupEnd() {
    if (!groups) return failed(INVALID_USAGE, "no group is open");
    if (--groups) return SUCCESS;
    auto operations = std::move(waiting);
    waiting.clear();
    for (auto &operation : operations)
        if (int result = operation()) return result;
    return SUCCESS;
}

int ncclSend(const void *from, size_t count, int type, int peer, Communicator *self, void *) {
    if (int result = check(self, peer, type)) return result;
    return now_or_later([=]() -> int {
        uint64_t elements = count;
        int socket = self->sockets[size_t(peer)];
        if (!write_all(socket, &elements, sizeof elements) || !write_all(socket, from, count * sizeof(float)))
            return failed(REMOTE_ERROR, "rank %d is gone", peer);
        self->bytes += count * sizeof(float), self->messages++;
        return SUCCESS;
    });
}

int ncclRecv(void *to, size_t count, int type, int peer, Communicator *self, void *) {
    if (int result = check(self, peer, type)) return result;
    return now_or_later([=]() -> int {
        uint64_t elements = 0;
        int socket = self->sockets[size_t(peer)];
        if (!read_all(socket, &elements, sizeof elements)) return failed(REMOTE_ERROR, "rank %d is gone", peer);
        if (elements != count)
            return failed(INVALID_USAGE, "%zu elements are expected of rank %d, which sends %" PRIu64, count, peer, elements);
        return read_all(socket, to, count * sizeof(float)) ? int(SUCCESS) : failed(REMOTE_ERROR, "rank %d is gone", peer);
    });
}

} // extern "C"
