// libedgetalk around its calls of TensorRT and of the NVIDIA driver, whose libraries are doubles here that say so:
// order, lifetime and errors. Nothing in it is the work of a GPU. Usage: test_tensorrt DOUBLE-OF-TENSORRT; the double
// of the driver has to be where the dynamic linker finds it.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include <NvInferRuntime.h>

#include "check.h"
#include "edgetalk.h"

#ifdef TRT_MAJOR_RTX
static const std::string product = "TensorRT-RTX", magic = "vtrt", other_magic = "ftrt";
#else
static const std::string product = "TensorRT", magic = "ftrt", other_magic = "vtrt";
#endif
static const int version_number = NV_TENSORRT_VERSION;
static const std::string version = std::to_string(version_number / 10000) + "." +
                                   std::to_string(version_number / 100 % 100) + "." +
                                   std::to_string(version_number % 100);

// Memory that runs out: from the allocation on that comes after `allocations` of them, where that is not negative.
static thread_local long allocations = -1;

void *operator new(size_t size) {
    if (allocations == 0) throw std::bad_alloc();
    if (allocations > 0) --allocations;
    if (void *made = std::malloc(size ? size : 1)) return made;
    throw std::bad_alloc();
}
void operator delete(void *made) noexcept { std::free(made); }
void operator delete(void *made, size_t) noexcept { std::free(made); }

static const char *library;  // the double
static const char *(*calls)();
static size_t (*left)();
static void (*fail)(const char *, size_t);

static const std::string about = R"({"format":1,"family":"amnet","source":"w","precision":"fp16","audio":{},)"
                                 R"("engine":{"compute_capability":["8.7","9.0"],"cuda":"12"}})";

// A plan as far as it is looked at: header, our metadata among other bytes.
static std::string plan(const std::string &metadata = about, std::string first = magic, uint64_t whole = 0,
                        int layout = 0, std::vector<int> built = {}) {
    if (built.empty()) built = {version_number / 10000, version_number / 100 % 100, version_number % 100, 26};
    std::string file = first + static_cast<char>(layout) + std::string(11, '\0');
    const std::string body = std::string(100, '\0') + "{\"format\": {\"format\":" + std::string(80, '\0') + metadata;
    if (!whole) whole = 64 + body.size();
    for (int k = 0; k < 8; ++k) file += static_cast<char>(whole >> (8 * k) & 255);
    for (const int number : built) file += static_cast<char>(number);
    file.resize(64);
    return file + body;
}

static void write(const char *name, const std::string &bytes) {
    std::ofstream(name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// An avatar whose features are 100, 101, ...; of another type they are nonsense.
static std::string avatar(const std::string &type = "F32", size_t item_size = 4) {
    const std::string header =
        R"({"__metadata__":{"format":"1","family":"amnet","weights":"w","licence":"","consent":"","name":""},)"
        R"("source":{"dtype":"U8","shape":[1,1,3],"data_offsets":[0,3]},)"
        R"("boxes":{"dtype":"F32","shape":[1,4],"data_offsets":[3,19]},)"
        R"("appearance":{"dtype":")" +
        type + R"(","shape":[1,2,2,12],"data_offsets":[19,)" + std::to_string(19 + 48 * item_size) + "]}}";
    std::string file;
    for (size_t k = 0, size = header.size(); k < 8; ++k, size >>= 8) file += static_cast<char>(size & 255);
    file += header + std::string(19, '\0');
    for (int k = 0; k < 48; ++k) {
        const float value = static_cast<float>(100 + k);
        file.append(reinterpret_cast<const char *>(&value), item_size);
    }
    return file;
}

struct Session {
    et_session *at = nullptr;
    et_status status;

    explicit Session(const char *from = library, const char *device = nullptr) {
        et_options options = {};
        options.struct_size = sizeof options;
        options.tensorrt = from;
        options.device = device;
        options.motion = "still";
        status = et_open("amnet.plan", nullptr, &options, &at);
    }
    Session(const Session &) = delete;
    ~Session() { et_close(at); }

    // The first byte of a frame; -1 where there is none.
    int step(float mel, float yaw, float lid) {
        std::vector<float> window(32 * 80);
        window[0] = mel;
        const float pose[3] = {yaw, 0, 0}, blink[2] = {lid, 0};
        uint8_t frame[48];
        if (et_step(at, window.data(), pose, blink, frame) != ET_OK) return -1;
        for (int k = 1; k < 48; ++k)
            if (frame[k] != static_cast<uint8_t>(frame[0] + k)) return -2;
        return frame[0];
    }
};

// Whether opening fails so, in one line, and leaves nothing behind.
static bool refuses(et_status status, const std::string &wanted, const char *from = library,
                    const char *device = nullptr) {
    const Session session(from, device);
    const std::string told = et_last_error();
    const bool good = session.status == status && !session.at && told.find(wanted) != std::string::npos &&
                      told.find('\n') == std::string::npos && left() == 0;
    if (!good)
        std::fprintf(stderr, "got %d \"%s\", %zu left; expected %d \"%s\"\n", session.status, told.c_str(), left(),
                     status, wanted.c_str());
    return good;
}

static std::string refusal(const std::string &bytes) {
    write("amnet.plan", bytes);
    return Session().status == ET_OK ? "" : et_last_error();
}

static bool called(const char *word) { return std::strstr(calls(), word) != nullptr; }

static void runs() {
    calls();
    {
        Session session;
        CHECK(session.status == ET_OK);
        et_info info = {};
        info.struct_size = sizeof info;
        CHECK(et_get_info(session.at, &info) == ET_OK);
        CHECK(info.width == 4 && info.height == 4 && info.frame_bytes == 48 && info.mel_frames == 32);
        CHECK(info.takes_pose && info.takes_blink && info.gives_landmarks);
        CHECK(info.metadata == about);
        CHECK(info.device == "a stub, no GPU (9.0), " + product + " " + version + ", fp16");
        const std::string opened = calls();
        CHECK(opened.find(
                  "createInferRuntime deserializeCudaEngine createExecutionContext malloc:192 setTensorAddress") == 0);
        CHECK(opened.find("upload") == opened.npos && opened.find("enqueue") == opened.npos);

        CHECK(session.step(7, 1, 1) == 100 + 7 + 2 + 4);
        // The avatar's features travel to the device once.
        const std::string first = calls(),
                          later = "upload:8 upload:10240 upload:12 enqueueV3 download:48 download:848 wait ";
        CHECK(first == "upload:192 " + later);
        for (const int mel : {3, 5}) {
            CHECK(session.step(static_cast<float>(mel), 0, 0) == 100 + mel);
            CHECK(calls() == later);
        }
        float marks[212];
        CHECK(et_get_landmarks(session.at, marks) == ET_OK && marks[0] == 5 && marks[211] == 5);

        // Sound goes the same way; silence is -4.
        const std::vector<float> pcm(6400);
        uint8_t frame[48];
        int frames = 0;
        CHECK(et_push(session.at, pcm.data(), pcm.size()) == ET_OK && et_finish(session.at) == ET_OK);
        for (; et_next(session.at, frame) == ET_OK; ++frames) CHECK(frame[0] == 96);
        CHECK(frames == 10);

        calls();
        setenv("DOUBLE_FAILS", "enqueueV3", 1);
        CHECK(session.step(1, 0, 0) == -1);
        CHECK(!std::strcmp(et_last_error(), "amnet.plan failed while it ran: enqueueV3: Error Code 7"));
        unsetenv("DOUBLE_FAILS");
        CHECK(session.step(2, 0, 0) == 102);
        calls();
    }
    const std::string closed = calls();
    CHECK(closed == "~context ~engine ~runtime free free free free free free ");
    CHECK(left() == 0);
}

static void runs_beside_another() {
    write("amnet.plan", plan());
    int wrong = 0;
    const auto speak = [&wrong](int from) {
        Session session;
        for (int k = 0; k < 200; ++k)
            if (session.step(static_cast<float>(from + k % 20), 0, 0) != 100 + from + k % 20) ++wrong;
    };
    std::vector<std::thread> threads;
    for (const int from : {0, 20, 40}) threads.emplace_back(speak, from);
    for (std::thread &thread : threads) thread.join();
    CHECK(wrong == 0 && left() == 0);
    calls();
}

static void fails_beside_another() {
    int wrong = 0;
    setenv("DOUBLE_FAILS", "enqueueV3", 1);
    const auto speak = [&wrong] {
        Session session;
        for (int k = 0; k < 2000; ++k)
            if (session.step(1, 0, 0) != -1 ||
                std::strcmp(et_last_error(), "amnet.plan failed while it ran: enqueueV3: Error Code 7"))
                ++wrong;
    };
    std::vector<std::thread> threads;
    for (int k = 0; k < 3; ++k) threads.emplace_back(speak);
    for (std::thread &thread : threads) thread.join();
    unsetenv("DOUBLE_FAILS");
    CHECK(wrong == 0 && left() == 0);
    calls();
}

static void refuses_files() {
    const auto file = [](const std::string &bytes, const std::string &part) {
        write("amnet.plan", bytes);
        return refuses(ET_ERROR_MODEL, part);
    };
    const std::string good = plan(), build = "edgetalk build amnet.onnx -o amnet.plan";
    const std::string again = build + " --precision fp16", for_devices = " --compute-capability 8.7,8.9,9.0";
    const auto changed = [](const std::string &from, const std::string &to) {
        std::string text = about;
        return plan(text.replace(text.find(from), from.size(), to));
    };
    calls();
    CHECK(file("", "amnet.plan is no TensorRT plan, it is empty; build one with: " + build));
    CHECK(
        file("hello, this is text\n", "amnet.plan is no TensorRT plan, it begins with \"hello, t\"; build one with: "));
    CHECK(file(good.substr(0, 40), "amnet.plan is truncated at 40 bytes; copy it again"));
    const std::string whole = std::to_string(good.size());
    CHECK(file(good.substr(0, 100), "amnet.plan is truncated at 100 of " + whole + " bytes; copy it again"));
    CHECK(file(plan(about, magic, 0, 1), "has a plan header of layout 1, expected 0; rebuild it: " + build));
    CHECK(file(plan("somebody's network"), "amnet.plan has no edgetalk metadata; build it with: " + build));
    CHECK(file(changed("\"format\":1", "\"format\":2"), "amnet.plan has metadata of format 2, this libedgetalk reads"));
    CHECK(file(changed("\"amnet\"", "3"), "amnet.plan has edgetalk metadata that is damaged"));
    CHECK(file(changed("compute_capability", "kind"),
               "does not say for which device it was built; rebuild it: " + build));
    CHECK(file(changed("\"9.0\"", "\"8.9\""), "amnet.plan was built for 8.7 and 8.9 with " + product + " " + version +
                                                  ".26, this device is 9.0 with " + product + " " + version +
                                                  "; rebuild it here: " + again +
                                                  (product == "TensorRT" ? "" : for_devices)));
    CHECK(file(
        plan(about, magic, 0, 0, {9, 8, 7, 6}),
        "was built for 8.7 and 9.0 with " + product + " 9.8.7.6, this device is 9.0 with " + product + " " + version));
    CHECK(file(changed("\"12\"", "\"14\""),
               "was built with CUDA 14, this driver supports up to 13.0; update the driver, or rebuild it here: " +
                   again));
    CHECK(!called("create"));  // nothing of it reached TensorRT
    CHECK(file(changed("\"source\":\"w\"", "\"source\":\"v\""), "amnet.avatar was prepared with other weights"));
    write("amnet.avatar", avatar("I32"));
    CHECK(file(good, "amnet.avatar is no avatar: its appearance is I32, expected U8, F16, F32"));
    write("amnet.avatar", avatar("U8", 1));  // a type that an avatar may hold and this step does not take
    CHECK(file(good, "takes appearance (2, 2, 12) and the avatar has appearance (2, 2, 12) of another type"));
    write("amnet.avatar", avatar());
    calls();

    // Plans that other devices and newer versions may run.
    write("amnet.plan", changed("[\"8.7\",\"9.0\"]", R"(["8.7"],"hardware":"ampere+")"));
    CHECK(Session().status == ET_OK);
    const int major = version_number / 10000;
    std::string compatible = about;
    compatible.insert(compatible.find("\"engine\":{") + 10, "\"version_compatible\":true,");
    write("amnet.plan", plan(compatible, magic, 0, 0, {major, 0, 0, 0}));
    calls();
    CHECK(Session().status == ET_OK);
    CHECK(called("setEngineHostCodeAllowed deserializeCudaEngine"));
    compatible.replace(compatible.find("fp16"), 4, "int8");
    compatible.insert(compatible.find("\"version_comp"), "\"hardware\":\"same\",");
    const std::string refused = refusal(plan(compatible, magic, 0, 0, {major, 99, 0, 0}));
    const std::string hint = refused.substr(std::min(refused.find("-o "), refused.size()));
    CHECK(hint == std::string("-o amnet.plan --precision int8 --calibration FILE.npz") +
                      (product == "TensorRT" ? "" : " --compute-capability 8.7,9.0") +
                      " --hardware same --version-compatible");
}

static void refuses_machines() {
    write("amnet.plan", plan());
    const std::string name = product == "TensorRT" ? "libnvinfer.so." : "libtensorrt_rtx.so.";
    const std::string on_cpu = "; for this CPU: edgetalk build amnet.onnx -o amnet.xml";
    CHECK(refuses(ET_ERROR_BACKEND, "amnet.plan needs " + product + "'s " + name, "/nowhere"));
    CHECK(refuses(ET_ERROR_BACKEND, "install it and name its folder in EDGETALK_TENSORRT", "/nowhere"));
    Dl_info driver;
    CHECK(dladdr(reinterpret_cast<void *>(calls), &driver));
    CHECK(refuses(ET_ERROR_BACKEND, "libcuda.so.1 has no getInferLibVersion, expected", driver.dli_fname));
    CHECK(refuses(ET_ERROR_BACKEND, "device \"CPU\" cannot run a plan, NVIDIA GPUs can; use \"auto\"", library, "CPU"));
    CHECK(refuses(ET_ERROR_BACKEND, "amnet.plan cannot run: there is no GPU 1, the NVIDIA driver sees 1", library,
                  "cuda:1"));
    CHECK(Session(library, "CUDA:0").status == ET_OK);
    setenv("CUDA_VISIBLE_DEVICES", "-1", 1);
    CHECK(refuses(ET_ERROR_BACKEND, "amnet.plan cannot run: the NVIDIA driver sees no GPU"));
    CHECK(refuses(ET_ERROR_BACKEND, "the NVIDIA driver sees no GPU", "/nowhere"));  // which would not help to install
    CHECK(refuses(ET_ERROR_BACKEND, on_cpu));
    write("amnet.xml", "");
    CHECK(refuses(ET_ERROR_BACKEND, "; amnet.xml beside it runs on this CPU"));
    std::remove("amnet.xml");
    write("amnet.plan", plan(about, magic, 0, 0, {9, 8, 7, 6}));  // what is wrong with the file comes first
    CHECK(refuses(ET_ERROR_MODEL, "9.8.7.6, this machine is with " + product + " " + version));
    unsetenv("CUDA_VISIBLE_DEVICES");

    calls();
    write("amnet.plan", plan(about, other_magic));
    CHECK(refuses(ET_ERROR_BACKEND, "this libedgetalk was built with the headers of " + product));
    write("amnet.plan", plan());
    setenv("DOUBLE_VERSION", std::to_string(version_number + 10000).c_str(), 1);  // another interface: not to be called
    CHECK(refuses(ET_ERROR_BACKEND, "this libedgetalk was built with the headers of " + product));
    CHECK(!called("create"));
    unsetenv("DOUBLE_VERSION");
}

static void leaves_nothing_where_a_call_fails() {
    write("amnet.plan", plan());
    static const struct {
        const char *call, *part;
        et_status status;
    } failing[] = {
        {"createInferRuntime", " does not start (createInferRuntime: Error Code 7)", ET_ERROR_BACKEND},
        {"deserializeCudaEngine", " (deserializeCudaEngine: Error Code 7); rebuild it here: edgetalk build",
         ET_ERROR_MODEL},
        {"createExecutionContext",
         "amnet.plan cannot be opened: it got no execution context (createExecutionContext: Err", ET_ERROR_BACKEND},
        {"setTensorAddress", "amnet.plan cannot be opened: it refused the buffer of ", ET_ERROR_BACKEND},
        {"setInputShape", "amnet.plan refused the shape of ", ET_ERROR_MODEL},
    };
    setenv("DOUBLE_BATCH", "1", 1);
    for (const auto &one : failing) {
        setenv("DOUBLE_FAILS", one.call, 1);
        calls();
        CHECK(refuses(one.status, one.part));
        const std::string made = calls();  // TensorRT's objects go before the memory that they point to
        CHECK(made.rfind('~') == made.npos || made.find(" free") == made.npos || made.rfind('~') < made.find(" free"));
    }
    unsetenv("DOUBLE_FAILS");
    {
        Session session;  // a plan for several sizes of batch runs with the smallest, if that is one
        CHECK(session.status == ET_OK && session.step(1, 0, 0) == 101);
    }
    setenv("DOUBLE_BATCH", "2", 1);
    CHECK(refuses(ET_ERROR_MODEL, "amnet.plan takes mel of shape (2, 32, 80)"));
    unsetenv("DOUBLE_BATCH");
}

static void keeps_the_landmarks_of_the_last_frame() {
    Session session;
    float marks[212] = {};
    fail("wait", 0);
    CHECK(session.step(2, 0, 0) == -1 && et_get_landmarks(session.at, marks) == ET_ERROR_INPUT);
    fail("", 0);
    CHECK(session.step(3, 0, 0) == 103);
    fail("wait", 0);
    CHECK(session.step(4, 0, 0) == -1);
    CHECK(et_get_landmarks(session.at, marks) == ET_OK && marks[0] == 3 && marks[211] == 3);
    fail("", 0);
    calls();
}

static void names_the_file_where_cuda_fails() {
    write("amnet.plan", plan());
    const std::string reason = "CUDA failed with CUDA_ERROR_OF_THE_STUB; `nvidia-smi` shows whether the GPU is well";
    for (const char *call : {"push", "stream"}) {
        fail(call, 0);
        CHECK(refuses(ET_ERROR_BACKEND, "amnet.plan cannot run: " + reason));
    }
    for (const char *call : {"malloc", "pinned"})
        for (const size_t spared : {0u, 3u, 5u}) {
            fail(call, spared);
            CHECK(refuses(ET_ERROR_BACKEND, "amnet.plan cannot be opened: " + reason));
        }
    fail("", 0);

    static const struct {
        const char *call;
        size_t spared;
    } failing[] = {{"push", 0}, {"upload", 0}, {"upload", 1}, {"download", 0}, {"download", 1}, {"wait", 0}};
    for (const int before : {0, 1, 2})  // frames that went well
        for (const auto &one : failing) {
            Session session;
            for (int k = 0; k < before; ++k) CHECK(session.step(1, 0, 0) == 101);
            fail(one.call, one.spared);
            CHECK(session.step(2, 1, 1) == -1 && et_last_error() == "amnet.plan failed while it ran: " + reason);
            fail("", 0);
            CHECK(session.step(3, 0, 0) == 103 && session.step(4, 0, 0) == 104);
        }
    {
        Session session;
        CHECK(session.step(1, 0, 0) == 101);
        fail("free", 0);
    }
    CHECK(left() == 0);  // freeing goes on
    fail("", 0);
    calls();
}

// The host's memory is looked after by the sanitizers' leak detector.
static void leaves_nothing_where_memory_runs_out() {
    long spared = 0;
    for (int opened = 0; !opened && spared < 10000; ++spared) {
        et_session *session = nullptr;
        et_options options = {};
        options.struct_size = sizeof options;
        options.tensorrt = library;
        allocations = spared;
        const et_status status = et_open("amnet.plan", nullptr, &options, &session);
        allocations = -1;
        opened = status == ET_OK;
        CHECK(opened || (status == ET_ERROR_MEMORY && !session && !std::strcmp(et_last_error(), "out of memory")));
        et_close(session);
        CHECK(left() == 0);
    }
    CHECK(spared > 100 && spared < 10000);
    calls();
}

int main(int count, char **words) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (count != 2 || !driver) return std::fprintf(stderr, "%s\n", count == 2 ? dlerror() : "which library?"), 2;
    library = words[1];
    calls = reinterpret_cast<decltype(calls)>(dlsym(driver, "stub_calls"));
    left = reinterpret_cast<decltype(left)>(dlsym(driver, "stub_left"));
    fail = reinterpret_cast<decltype(fail)>(dlsym(driver, "stub_fail"));
    if (!calls || !left || !fail) return std::fprintf(stderr, "a real driver is in the way\n"), 2;
    write("amnet.avatar", avatar());
    write("amnet.plan", plan());
    std::remove("amnet.xml"), std::remove("amnet.onnx");
    runs();
    runs_beside_another();
    fails_beside_another();
    refuses_files();
    refuses_machines();
    leaves_nothing_where_a_call_fails();
    names_the_file_where_cuda_fails();
    keeps_the_landmarks_of_the_last_frame();
    leaves_nothing_where_memory_runs_out();
    return failures != 0;
}
