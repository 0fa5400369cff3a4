// libnvrtc.so that compiles for the CPU: a program becomes a library of kernels by g++, and its "PTX" is a line that names the
// library, which the pretended driver loads. Libraries are kept, under a name made of all that they depend on.
//
// Built with PRETENDED_SOURCE, the folder of this file. PRETENDED_CUDA_CACHE names the folder of libraries (by default one
// beside libnvrtc.so), PRETENDED_CUDA_CXX the compiler. PRETENDED_CUDA_CHECK names a toolkit with the real NVRTC, which then
// compiles every program, too, for all architectures that we support: what it refuses is refused here.

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <spawn.h>
#include <stdexcept>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char **environ;

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

/// As in nvrtc.h.
enum Result { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, COMPILATION = 6, INTERNAL_ERROR = 11 };

/// The CUDA that is pretended.
constexpr int MAJOR = 13, MINOR = 0;

struct Program {
    std::string source, log, ptx;
};

std::string read(const fs::path &path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

void write(const fs::path &path, const std::string &text) {
    std::ofstream(path, std::ios::binary) << text;
}

/// FNV-1a, as hexadecimal digits of two starts.
std::string digest(const std::string &text) {
    char digits[33];
    uint64_t hashes[2] = {0xCBF29CE484222325, 0x84222325CBF29CE4};
    for (uint64_t &hash : hashes)
        for (unsigned char byte : text) hash = (hash ^ byte) * 0x100000001B3;
    snprintf(digits, sizeof digits, "%016llx%016llx", (unsigned long long)(hashes[0]), (unsigned long long)(hashes[1]));
    return digits;
}

std::string variable(const char *name, const std::string &otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

/// The folder of this library.
fs::path here() {
    Dl_info info{};
    dladdr(reinterpret_cast<void *>(&here), &info);
    return fs::absolute(info.dli_fname).parent_path();
}

/// Runs a command to its end; what it says goes to a file.
bool run(const Words &words, const fs::path &output) {
    std::vector<char *> arguments;
    for (const std::string &word : words) arguments.push_back(const_cast<char *>(word.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    int status = 0;
    return !failed && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool part_of_name(char c) {
    return isalnum((unsigned char)(c)) || c == '_';
}

/// The index after white space from `at` on.
size_t skip_space(const std::string &text, size_t at) {
    while (at < text.size() && isspace((unsigned char)(text[at]))) at++;
    return at;
}

/// The index after the parentheses that open at `at`.
size_t skip_parentheses(const std::string &text, size_t at) {
    int depth = 0;
    for (; at < text.size(); at++) {
        if (text[at] == '(') depth++;
        if (text[at] == ')' && --depth == 0) return at + 1;
    }
    return at;
}

/// Names of `extern __shared__ … name[]` that device/shared.h does not know.
Words dynamic_shared(const std::string &text) {
    static const Words KNOWN = {"dynamic_shared", "dynamic_shared_mem", "dynamic_shared_memory", "shared_memory", "shared_bytes", "shared_", "smem"};
    Words names = KNOWN;
    for (size_t mark = text.find("extern __shared__"); mark != std::string::npos; mark = text.find("extern __shared__", mark + 1)) {
        size_t end = text.find('[', mark), begin = end;
        if (end == std::string::npos) break;
        while (begin > mark && part_of_name(text[begin - 1])) begin--;
        std::string name = text.substr(begin, end - begin);
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    return Words(names.begin() + long(KNOWN.size()), names.end());
}

/// The compiler, and the header that stands before every program, translated once.
class Compiler {
  public:
    static const Compiler &get() {
        static Compiler compiler;
        return compiler;
    }

    /// The library of a program, which is compiled unless it is there.
    bool compile(const std::string &source, const std::string &before, const Words &kernels, fs::path &library, std::string &log) const {
        std::string text = before + source;
        for (const std::string &name : dynamic_shared(source)) text += "\nasm(\".set " + name + ", pretended_dynamic_shared\");";
        for (const std::string &kernel : kernels)
            text += "\nextern \"C\" void pretended_launch_" + kernel + "(const pretended::Launch *launch, void **arguments) { pretended::run_with(*launch, &" +
                    kernel + ", arguments); }\nextern \"C\" const char *pretended_parameters_" + kernel + "() { return pretended::parameters(&" + kernel + "); }";
        text += '\n';
        std::string name = digest(identity_ + text);
        library = cache_ / (name + ".so");
        if (fs::exists(library)) return true;
        std::string mine = name + '.' + std::to_string(getpid());
        fs::path code = cache_ / (mine + ".cc"), made = cache_ / (mine + ".so"), said = cache_ / (mine + ".log");
        write(code, text);
        Words words = command_;
        for (const char *word : {"-shared", "-include"}) words.push_back(word);
        words.insert(words.end(), {header_.string(), code.string(), "-o", made.string()});
        bool done = run(words, said);
        log = read(said);
        fs::remove(said);
        if (done) {
            // The source stays beside its library, for whoever looks into a kernel.
            fs::rename(code, cache_ / (name + ".cc"));
            fs::rename(made, library);
        } else if (getenv("PRETENDED_CUDA_KEEP")) {
            log += "(" + code.string() + ")\n";
        } else {
            fs::remove(code);
        }
        return done;
    }

    /// The program with its macros expanded, without what it includes.
    std::string preprocess(const std::string &source, const std::string &before) const {
        std::string name = digest(before + source) + '.' + std::to_string(getpid());
        fs::path code = cache_ / (name + ".pre.cc"), said = cache_ / (name + ".pre");
        write(code, "#define PRETENDED_CUDA 1\n" + before + source);
        run({compiler_, "-E", "-P", "-w", "-std=c++17", "-I", empty_.string(), code.string()}, said);
        std::string text = read(said);
        fs::remove(code);
        fs::remove(said);
        return text;
    }

  private:
    std::string compiler_, identity_;
    fs::path cache_, header_, empty_;
    Words command_;

    Compiler() : compiler_(variable("PRETENDED_CUDA_CXX", "g++")), cache_(variable("PRETENDED_CUDA_CACHE", here() / "cache")) {
        // Speed is that of one core of an old machine; -O2 would take longer to compile than it saves.
        command_ = {compiler_, "-std=c++17", "-O1", "-fPIC", "-w", "-fno-exceptions", "-ffp-contract=fast", "-fno-strict-aliasing", "-fvisibility=default",
                    // Shared memory of functions that two libraries have alike is not the same.
                    "-fno-gnu-unique"};
        fs::path source = PRETENDED_SOURCE;
        command_.insert(command_.end(), {"-I", (source / "include").string(), "-I", source.string()});
#if defined(__x86_64__)
        command_.push_back("-mtls-dialect=gnu2");
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            command_.insert(command_.end(), {"-mavx2", "-mfma", "-mf16c"});
#endif
        std::string all;
        for (const std::string &word : command_) all += word + ' ';
        Words headers;
        for (const auto &entry : fs::recursive_directory_iterator(source))
            if (entry.path().extension() == ".h") headers.push_back(digest(read(entry.path())));
        std::sort(headers.begin(), headers.end());
        for (const std::string &header : headers) all += header;
        identity_ = digest(all);
        fs::create_directories(cache_);
        empty_ = cache_ / "empty";
        make_empty(source / "include");
        header_ = cache_ / ("device." + identity_ + ".h");
        translate_header(source / "device.h");
    }

    /// Files by the names of NVIDIA's headers with nothing in them.
    void make_empty(const fs::path &include) {
        for (const auto &entry : fs::recursive_directory_iterator(include))
            if (entry.is_regular_file()) {
                fs::path empty = empty_ / fs::relative(entry.path(), include);
                fs::create_directories(empty.parent_path());
                write(empty, "");
            }
    }

    void translate_header(const fs::path &header) {
        fs::path translated = header_.string() + ".gch";
        if (fs::exists(translated)) return;
        write(header_, "#include \"" + header.string() + "\"\n");
        std::string mine = translated.string() + '.' + std::to_string(getpid());
        Words words = command_;
        words.insert(words.end(), {"-x", "c++-header", header_.string(), "-o", mine});
        fs::path said = mine + ".log";
        // Without it every program translates the header itself.
        if (run(words, said)) fs::rename(mine, translated);
        fs::remove(said);
    }
};

/// The pieces of a text between colons (or commas) that stand in no quotes and no parentheses.
Words split(const std::string &text, char separator) {
    Words pieces(1);
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.size(); i++) {
        char c = text[i];
        if (c == '"' && (i == 0 || text[i - 1] != '\\')) quoted = !quoted;
        if (!quoted) depth += (c == '(') - (c == ')');
        if (c == separator && !quoted && depth == 0)
            pieces.emplace_back();
        else
            pieces.back() += c;
    }
    return pieces;
}

/// The expressions of a list of operands, `"=f"(x), "r"(y)`.
std::string operands(const std::string &list) {
    std::string expressions;
    for (const std::string &operand : split(list, ',')) {
        size_t open = operand.find('(', operand.rfind('"') + 1), close = operand.rfind(')');
        if (operand.find('"') == std::string::npos || open == std::string::npos || close == std::string::npos) continue;
        if (!expressions.empty()) expressions += ", ";
        expressions += operand.substr(open + 1, close - open - 1);
    }
    return expressions;
}

/// The text with `asm volatile("…" : outputs : inputs : …)` as calls of `pretended::ptx` (device/ptx.h).
std::string without_asm(const std::string &text) {
    std::string made;
    size_t done = 0;
    for (size_t mark = text.find("asm"); mark != std::string::npos; mark = text.find("asm", mark + 3)) {
        if (mark < done || (mark > 0 && part_of_name(text[mark - 1]))) continue;
        size_t at = skip_space(text, mark + 3);
        if (text.compare(at, 8, "volatile") == 0) at = skip_space(text, at + 8);
        if (at >= text.size() || text[at] != '(') continue;
        size_t end = skip_parentheses(text, at);
        Words parts = split(text.substr(at + 1, end - at - 2), ':');
        parts.resize(std::max(parts.size(), size_t(3)));
        std::string inputs = operands(parts[2]);
        made += text.substr(done, mark - done) + "pretended::ptx(" + parts[0] + ", std::tie(" + operands(parts[1]) + ")" + (inputs.empty() ? "" : ", " + inputs) + ")";
        done = end;
    }
    return made + text.substr(done);
}

/// The names of the `__global__` functions that a text defines: after the attributes, the last name before parentheses that
/// is not an attribute itself.
Words kernels_of(const std::string &text) {
    static const std::string MARK = "__global__";
    Words names;
    for (size_t mark = text.find(MARK); mark != std::string::npos; mark = text.find(MARK, mark + 1)) {
        size_t at = mark + MARK.size();
        std::string name;
        while (at < text.size()) {
            at = skip_space(text, at);
            size_t end = at;
            while (end < text.size() && part_of_name(text[end])) end++;
            if (end == at) break;
            name = text.substr(at, end - at);
            at = skip_space(text, end);
            if (at < text.size() && text[at] == '(') {
                if (name.rfind("__launch_bounds__", 0) != 0 && name.rfind("__cluster_dims__", 0) != 0) break;
                at = skip_parentheses(text, at);
            }
        }
        // A declaration before the definition names it twice.
        if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    return names;
}

/// What options say, as lines before the program.
std::string preamble(const Words &options) {
    std::string lines;
    auto value = [&](const std::string &option, const char *name) {
        std::string prefix = name;
        return option.rfind(prefix, 0) == 0 ? option.substr(prefix.size()) : std::string();
    };
    auto define = [&](const std::string &macro) {
        size_t equals = macro.find('=');
        lines += "#define " + (equals == std::string::npos ? macro + " 1" : macro.substr(0, equals) + ' ' + macro.substr(equals + 1)) + '\n';
    };
    for (size_t o = 0; o < options.size(); o++) {
        std::string found;
        if (!(found = value(options[o], "--define-macro=")).empty() || !(found = value(options[o], "-D")).empty())
            define(found);
        else if (options[o] == "-D" && o + 1 < options.size())
            define(options[++o]);
        else if (!(found = value(options[o], "--gpu-architecture=")).empty() || !(found = value(options[o], "-arch=")).empty())
            lines += "#undef __CUDA_ARCH__\n#define __CUDA_ARCH__ " + std::to_string(10 * atoi(found.c_str() + found.find('_') + 1)) + '\n';
    }
    return lines + "#line 1 \"program.cu\"\n";
}

/// The real NVRTC, of a toolkit as NVIDIA or PyPI installs it.
class RealCompiler {
  public:
    /// None where PRETENDED_CUDA_CHECK is not set.
    static const RealCompiler *get() {
        static const std::string folder = variable("PRETENDED_CUDA_CHECK", "");
        static const RealCompiler compiler(folder);
        return folder.empty() ? nullptr : &compiler;
    }

    /// Whether a program compiles for every architecture; `log` is what the compiler says, with registers and spills.
    bool check(const std::string &source, const Words &given, std::string &log) const {
        bool all = true;
        for (const char *architecture : {"sm_80", "sm_89", "sm_90"}) {
            Words options = {std::string("--gpu-architecture=") + architecture, "--ptxas-options=-v", "--include-path=" + (toolkit_ / "include").string(),
                             "--include-path=" + (toolkit_ / "include/cccl").string()};
            for (const std::string &option : given)
                if (option.find("-architecture=") == std::string::npos && option.find("--include-path=") == std::string::npos) options.push_back(option);
            std::vector<const char *> words;
            for (const std::string &option : options) words.push_back(option.c_str());
            void *program = nullptr;
            size_t size = 0;
            if (create_(&program, source.c_str(), nullptr, 0, nullptr, nullptr)) throw std::runtime_error("the real NVRTC creates no program");
            bool done = compile_(program, int(words.size()), words.data()) == SUCCESS;
            log_size_(program, &size);
            std::string said(size, 0);
            log_(program, said.data());
            destroy_(&program);
            log += std::string(architecture) + ": " + said.c_str() + '\n';
            all = all && done;
        }
        return all;
    }

  private:
    fs::path toolkit_;
    int (*create_)(void **, const char *, const char *, int, const char *const *, const char *const *) = nullptr;
    int (*compile_)(void *, int, const char *const *) = nullptr;
    int (*log_size_)(void *, size_t *) = nullptr;
    int (*log_)(void *, char *) = nullptr;
    int (*destroy_)(void **) = nullptr;

    explicit RealCompiler(const fs::path &toolkit) : toolkit_(toolkit) {
        if (toolkit.empty()) return;
        // The second is what the first asks for by name when it compiles.
        void *library = open(toolkit, "libnvrtc.so");
        open(toolkit, "libnvrtc-builtins.so");
        if (!library) throw std::runtime_error("no NVRTC in " + toolkit.string());
        load(library, "nvrtcCreateProgram", create_);
        load(library, "nvrtcCompileProgram", compile_);
        load(library, "nvrtcGetProgramLogSize", log_size_);
        load(library, "nvrtcGetProgramLog", log_);
        load(library, "nvrtcDestroyProgram", destroy_);
    }

    /// The first library of the toolkit whose name begins so, or null.
    static void *open(const fs::path &toolkit, const std::string &name) {
        for (const char *folder : {"lib64", "lib"}) {
            if (!fs::is_directory(toolkit / folder)) continue;
            for (const auto &entry : fs::directory_iterator(toolkit / folder))
                if (entry.path().filename().string().rfind(name, 0) == 0)
                    if (void *library = dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
        }
        return nullptr;
    }

    template <class F>
    static void load(void *library, const char *name, F &function) {
        function = reinterpret_cast<F>(dlsym(library, name));
        if (!function) throw std::runtime_error(std::string("the real NVRTC lacks ") + name);
    }
};

void compile(Program &program, const Words &options, bool &done) {
    const Compiler &compiler = Compiler::get();
    std::string before = preamble(options);
    bool has_macros = program.source.find("#define") != std::string::npos || before.find("#define") != std::string::npos;
    Words kernels = kernels_of(has_macros ? compiler.preprocess(program.source, before) : program.source);
    if (kernels.empty()) throw std::runtime_error("no kernels were found:\n" + compiler.preprocess(program.source, before));
    fs::path library;
    done = compiler.compile(without_asm(program.source), before, kernels, library, program.log);
    if (!done) return;
    fs::path checked = fs::path(library).replace_extension(".nvrtc");
    if (const RealCompiler *real = RealCompiler::get(); real && !fs::exists(checked)) {
        std::string log;
        done = real->check(program.source, options, log);
        if (done)
            write(checked, log);
        else
            program.log += log;
        if (!done) return;
    }
    program.ptx = "// pretended " + library.string() + "\n";
    for (const std::string &kernel : kernels) program.ptx += ".visible .entry " + kernel + "()\n";
}

size_t size_of(const std::string &text) {
    return text.size() + 1;
}

} // namespace

extern "C" {

const char *nvrtcGetErrorString(int result) {
    switch (result) {
    case SUCCESS: return "NVRTC_SUCCESS";
    case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case COMPILATION: return "NVRTC_ERROR_COMPILATION";
    default: return "NVRTC_ERROR_INTERNAL_ERROR";
    }
}

int nvrtcVersion(int *major, int *minor) {
    *major = MAJOR;
    *minor = MINOR;
    return SUCCESS;
}

int nvrtcCreateProgram(Program **program, const char *source, const char *, int headers, const char *const *, const char *const *) {
    if (!program || !source || headers) return INVALID_INPUT;
    *program = new Program{source, "", ""};
    return SUCCESS;
}

int nvrtcDestroyProgram(Program **program) {
    if (!program || !*program) return INVALID_PROGRAM;
    delete *program;
    *program = nullptr;
    return SUCCESS;
}

int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    static std::mutex one_at_a_time;
    std::lock_guard lock(one_at_a_time);
    bool done = false;
    try {
        compile(*program, Words(options, options + count), done);
    } catch (const std::exception &error) {
        program->log = error.what();
        return INTERNAL_ERROR;
    }
    return done ? SUCCESS : COMPILATION;
}

int nvrtcGetPTXSize(Program *program, size_t *size) { return *size = size_of(program->ptx), SUCCESS; }
int nvrtcGetPTX(Program *program, char *text) { return memcpy(text, program->ptx.c_str(), size_of(program->ptx)), SUCCESS; }
int nvrtcGetProgramLogSize(Program *program, size_t *size) { return *size = size_of(program->log), SUCCESS; }
int nvrtcGetProgramLog(Program *program, char *text) { return memcpy(text, program->log.c_str(), size_of(program->log)), SUCCESS; }

} // extern "C"
