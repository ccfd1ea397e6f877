/* What libedgetalk adds to OpenVINO: opens the same engine with both, runs them in turns, and prints the ratios.
   Usage: overhead ENGINE LIBOPENVINO_C [THREADS], on an idle machine. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgetalk.h"

enum { OPENS = 7, ROUNDS = 40, STEPS = 10 };

typedef void *Handle;
static struct {
    int (*ov_core_create)(Handle *);
    void (*ov_core_free)(Handle);
    int (*ov_core_read_model)(Handle, const char *, const char *, Handle *);
    void (*ov_model_free)(Handle);
    int (*ov_core_compile_model)(Handle, Handle, const char *, size_t, Handle *, ...);
    void (*ov_compiled_model_free)(Handle);
    int (*ov_compiled_model_inputs_size)(Handle, size_t *);
    int (*ov_compiled_model_create_infer_request)(Handle, Handle *);
    int (*ov_infer_request_get_input_tensor_by_index)(Handle, size_t, Handle *);
    int (*ov_infer_request_infer)(Handle);
    void (*ov_infer_request_free)(Handle);
    int (*ov_tensor_data)(Handle, void **);
    int (*ov_tensor_get_byte_size)(Handle, size_t *);
    void (*ov_tensor_free)(Handle);
} ov;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

static void need(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "overhead: %s\n", what);
        exit(2);
    }
}
#define OV(call) need(ov.call == 0, "OpenVINO failed at " #call)

static int by_size(const void *a, const void *b)
{
    return *(const double *)a < *(const double *)b ? -1 : 1;
}

/* Middle of the times, which are sorted. */
static double median(double *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, by_size);
    return times[count / 2];
}

/* Everything that a program would do with OpenVINO alone; returns the request. */
static Handle open_alone(const char *engine, const char *hint, const char *threads, Handle made[3])
{
    Handle request;
    OV(ov_core_create(&made[0]));
    OV(ov_core_read_model(made[0], engine, NULL, &made[1]));
    OV(ov_core_compile_model(made[0], made[1], "CPU", 6, &made[2], "PERFORMANCE_HINT", "LATENCY",
                             "INFERENCE_PRECISION_HINT", hint, "INFERENCE_NUM_THREADS", threads));
    OV(ov_compiled_model_create_infer_request(made[2], &request));
    return request;
}

static void close_alone(Handle request, Handle made[3])
{
    ov.ov_infer_request_free(request);
    ov.ov_compiled_model_free(made[2]);
    ov.ov_model_free(made[1]);
    ov.ov_core_free(made[0]);
}

int main(int count, char **words)
{
    need(count >= 3, "usage: overhead ENGINE LIBOPENVINO_C [THREADS]");
    const char *engine = words[1], *threads = count > 3 ? words[3] : "2";
    void *library = dlopen(words[2], RTLD_NOW);
    need(library != NULL, "that library cannot be opened");
#define FIND(symbol) need((*(void **)&ov.symbol = dlsym(library, #symbol)) != NULL, "OpenVINO lacks " #symbol)
    FIND(ov_core_create);
    FIND(ov_core_free);
    FIND(ov_core_read_model);
    FIND(ov_model_free);
    FIND(ov_core_compile_model);
    FIND(ov_compiled_model_free);
    FIND(ov_compiled_model_inputs_size);
    FIND(ov_compiled_model_create_infer_request);
    FIND(ov_infer_request_get_input_tensor_by_index);
    FIND(ov_infer_request_infer);
    FIND(ov_infer_request_free);
    FIND(ov_tensor_data);
    FIND(ov_tensor_get_byte_size);
    FIND(ov_tensor_free);

    et_options options = {.struct_size = sizeof options};
    options.openvino = words[2];
    options.threads = atoi(threads);
    et_session *session = NULL;
    et_info info = {.struct_size = sizeof info};
    Handle made[3], request = NULL;
    const char *hint = "f32";
    double ours[ROUNDS * STEPS], alone[ROUNDS * STEPS];
    for (int k = 0; k < OPENS + 1; ++k) { /* the first one loads libraries, and is not counted */
        et_close(session);
        double start = now();
        need(et_open(engine, NULL, &options, &session) == ET_OK, et_last_error());
        double opened = now();
        need(et_get_info(session, &info) == ET_OK, et_last_error());
        hint = strstr(info.device, ", bf16") ? "bf16" : strstr(info.device, ", f16") ? "f16" : "f32";
        if (request)
            close_alone(request, made);
        double restart = now();
        request = open_alone(engine, hint, threads, made);
        if (k)
            ours[k - 1] = opened - start, alone[k - 1] = now() - restart;
    }
    double open_ours = median(ours, OPENS), open_alone_ = median(alone, OPENS);
    printf("open: %.1f ms, OpenVINO alone %.1f ms, ratio of medians of %d %.3f, of the best %.3f\n", open_ours,
           open_alone_, OPENS, open_ours / open_alone_, ours[0] / alone[0]);

    size_t inputs = 0;
    OV(ov_compiled_model_inputs_size(made[2], &inputs));
    for (size_t k = 0; k < inputs; ++k) {
        Handle tensor;
        void *data;
        size_t bytes;
        OV(ov_infer_request_get_input_tensor_by_index(request, k, &tensor));
        OV(ov_tensor_data(tensor, &data));
        OV(ov_tensor_get_byte_size(tensor, &bytes));
        for (size_t j = 0; j < bytes / sizeof(float); ++j)
            ((float *)data)[j] = (float)(j % 17) / 17.0f - 0.5f;
        ov.ov_tensor_free(tensor);
    }
    unsigned char *frame = malloc(info.frame_bytes);
    float pcm[640 * 8];
    unsigned state = 1;
    for (int k = 0; k < 640 * 8; ++k)
        pcm[k] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
    need(frame && et_push(session, pcm, 640 * 8) == ET_OK, et_last_error());
    for (int round = -2; round < ROUNDS; ++round) /* two to warm up */
        for (int k = 0; k < 2 * STEPS; ++k) {
            double start = now();
            if (k < STEPS) { /* from sound to frame, as a program would */
                need(et_push(session, pcm, 640) == ET_OK && et_next(session, frame) == ET_OK, et_last_error());
            } else {
                OV(ov_infer_request_infer(request));
            }
            if (round >= 0)
                (k < STEPS ? ours : alone)[round * STEPS + k % STEPS] = now() - start;
        }
    double step_ours = median(ours, ROUNDS * STEPS), step_alone = median(alone, ROUNDS * STEPS);
    printf("step: %.3f ms from sound to frame, OpenVINO's inference alone %.3f ms, ratio of medians of %d %.4f\n",
           step_ours, step_alone, ROUNDS * STEPS, step_ours / step_alone);
    free(frame);
    et_close(session);
    close_alone(request, made);
    return 0;
}
