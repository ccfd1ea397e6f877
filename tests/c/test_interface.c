/* The C interface where there is no engine: what is passed wrong and what is missing is an error with a reason. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgetalk.h"

static int failures;

static void check(int good, const char *what, int line)
{
    if (!good) {
        ++failures;
        fprintf(stderr, "%s:%d: %s; the last error is: %s\n", __FILE__, line, what, et_last_error());
    }
}
#define CHECK(condition) check(condition, #condition, __LINE__)
#define REFUSES(call, status, part) check((call) == (status) && strstr(et_last_error(), part), #call, __LINE__)

static void write_file(const char *name, const char *bytes, size_t size)
{
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size)
        exit(2);
    fclose(file);
}

int main(void)
{
    et_session *session = (et_session *)&failures;
    et_options options = {.struct_size = sizeof options};
    et_info info = {.struct_size = sizeof info};
    float value = 0;
    unsigned char frame[3];

    remove("tiny.xml"), remove("tiny.bin"), remove("tiny.avatar"); /* of an earlier run */

    char version[32];
    snprintf(version, sizeof version, "%d.%d.", ET_VERSION_MAJOR, ET_VERSION_MINOR);
    CHECK(strlen(et_version()) >= 5 && !strncmp(et_version(), version, strlen(version)));
    CHECK(!*et_last_error());

    REFUSES(et_open("x.xml", NULL, NULL, NULL), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_open(NULL, NULL, NULL, &session), ET_ERROR_INPUT, "engine: got NULL");
    CHECK(session == NULL);
    REFUSES(et_get_info(NULL, &info), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_step(NULL, &value, &value, &value, frame), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_get_landmarks(NULL, &value), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_push(NULL, &value, 1), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_push_s16(NULL, NULL, 1), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_finish(NULL), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_next(NULL, frame), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_next_inputs(NULL, &value, NULL, NULL), ET_ERROR_INPUT, "session: got NULL");
    REFUSES(et_reset(NULL), ET_ERROR_INPUT, "session: got NULL");
    et_close(NULL);

    REFUSES(et_open("missing.xml", NULL, NULL, &session), ET_ERROR_FILE, "missing.xml: No such file");
    REFUSES(et_open("missing.txt", NULL, NULL, &session), ET_ERROR_MODEL, "expected .xml, .onnx or .plan");
    REFUSES(et_open("missing.plan", NULL, NULL, &session), ET_ERROR_FILE, "missing.plan: No such file");
    REFUSES(et_open("/", NULL, NULL, &session), ET_ERROR_MODEL, "expected .xml, .onnx or .plan");
    REFUSES(et_open("", NULL, NULL, &session), ET_ERROR_MODEL, "an empty path is no engine");
    REFUSES(et_open("amnet", NULL, NULL, &session), ET_ERROR_MODEL, "and its path: bare names are Python's");
    /* What a path or a file brings into the sentence: one line of UTF-8 even so, cut between two characters. */
    REFUSES(et_open("\xc3\xa9\x1b[2J\n\xff\xc2\x9b\xed\xa0\x80\xe2\x82.xml", NULL, NULL, &session), ET_ERROR_FILE,
            "\xc3\xa9?[2J?????????.xml: No such file");
    char path[2048] = "";
    for (int k = 0; k < 600; ++k)
        strcat(path, "\xc3\xa9");
    strcat(path, ".xml");
    REFUSES(et_open(path, NULL, NULL, &session), ET_ERROR_FILE, "\xc3\xa9");
    CHECK(strlen(et_last_error()) == 1022);
    options.struct_size = 3;
    REFUSES(et_open("missing.xml", NULL, &options, &session), ET_ERROR_INPUT, "struct_size: got 3");
    {
        struct {
            et_options known;
            long later;
        } newer = {{.struct_size = sizeof newer}, 1};
        REFUSES(et_open("missing.xml", NULL, &newer.known, &session), ET_ERROR_INPUT, "does not know");
        newer.later = 0;
        REFUSES(et_open("missing.xml", NULL, &newer.known, &session), ET_ERROR_FILE, "No such file");
    }

    /* Everything that is wrong with the files is said before OpenVINO is looked for. */
    static const char model[] = "<net><rt_info><framework><edgetalk value=\"{&quot;format&quot;:1,&quot;family&quot;:"
                                "&quot;amnet&quot;}\" /></framework></rt_info></net>";
    static const char header[] = "{\"__metadata__\":{\"format\":\"1\",\"family\":\"\",\"weights\":\"\",\"licence\":\"\","
                                 "\"consent\":\"\",\"name\":\"\"},\"source\":{\"dtype\":\"U8\",\"shape\":[1,1,3],"
                                 "\"data_offsets\":[16,19]},\"boxes\":{\"dtype\":\"F32\",\"shape\":[1,4],"
                                 "\"data_offsets\":[0,16]}}";
    char avatar[8 + sizeof header + 19] = {(char)((sizeof header - 1) & 255), (char)((sizeof header - 1) >> 8)};
    memcpy(avatar + 8, header, sizeof header - 1);
    write_file("tiny.xml", model, 20);
    REFUSES(et_open("tiny.xml", NULL, NULL, &session), ET_ERROR_MODEL, "tiny.xml is truncated at 20 bytes");
    write_file("tiny.xml", model, sizeof model - 1);
    REFUSES(et_open("tiny.xml", NULL, NULL, &session), ET_ERROR_MODEL, "has no tiny.bin beside it");
    write_file("tiny.bin", "", 0);
    REFUSES(et_open("tiny.xml", NULL, NULL, &session), ET_ERROR_MODEL,
            "has no tiny.avatar beside it; pass avatar, or prepare one: "
            "edgetalk avatar tiny.xml PICTURE -o tiny.avatar");
    write_file("tiny.avatar", avatar, 100);
    REFUSES(et_open("tiny.xml", NULL, NULL, &session), ET_ERROR_MODEL, "tiny.avatar is truncated");
    write_file("tiny.avatar", avatar, 8 + sizeof header - 1 + 19);
    options = (et_options){.struct_size = sizeof options};
    options.openvino = "/nowhere/libopenvino_c.so";
    REFUSES(et_open("tiny.xml", NULL, &options, &session), ET_ERROR_BACKEND, "tiny.xml needs OpenVINO's libopenvino_c.so");
    options.motion = "dance";
    REFUSES(et_open("tiny.xml", NULL, &options, &session), ET_ERROR_INPUT, "motion: got \"dance\"");
    options.motion = NULL;
    options.use = "commerce";
    REFUSES(et_open("tiny.xml", NULL, &options, &session), ET_ERROR_INPUT, "use: got \"commerce\"");
    options.use = NULL;
    options.threads = -1;
    REFUSES(et_open("tiny.xml", NULL, &options, &session), ET_ERROR_INPUT, "threads: got -1");
    options.threads = 0;
    options.fps_num = 25;
    REFUSES(et_open("tiny.xml", NULL, &options, &session), ET_ERROR_INPUT, "fps: got 25/0, expected a rate from");
    options.fps_num = 2000000001, options.fps_den = 80000000;
    REFUSES(et_open("tiny.xml", NULL, &options, &session), ET_ERROR_INPUT,
            "fps: got 2000000001/80000000, expected a fraction of numbers up to 268435456; write it as 30000/1001");
    CHECK(session == NULL);
    return failures != 0;
}
