/* Opens an engine, runs many steps, and opens it again: for AddressSanitizer, LeakSanitizer, valgrind, and to see
   what the library adds to a step. Usage: endure ENGINE STEPS [OPENS] */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dlopen.h"
#include "edgetalk.h"

static double now(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int fail(void)
{
    fprintf(stderr, "%s\n", et_last_error());
    return 1;
}

int main(int count, char **words)
{
    if (count < 3)
        return 2;
    for (int opens = count > 3 ? atoi(words[3]) : 1; opens > 0; --opens) {
        et_session *session;
        et_options options = {.struct_size = sizeof options};
        options.threads = 1;
        double start = now();
        if (et_open(words[1], NULL, &options, &session) != ET_OK)
            return fail();
        double opened = now();
        et_info info = {.struct_size = sizeof info};
        et_get_info(session, &info);
        unsigned char *frame = malloc(info.frame_bytes);
        float pcm[640], landmarks[212];
        long steps = 0, wanted = atol(words[2]);
        unsigned state = 1;
        while (frame && steps < wanted) {
            for (int k = 0; k < 640; ++k)
                pcm[k] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
            if (et_push(session, pcm, 640) != ET_OK)
                return fail();
            et_status status;
            while ((status = et_next(session, frame)) == ET_OK)
                ++steps;
            if (status != ET_WAIT)
                return fail();
            if (steps % 1000 == 999 && et_step(session, NULL, NULL, NULL, frame) == ET_OK)
                return 3; /* an error now and then */
        }
        if (info.gives_landmarks && et_get_landmarks(session, landmarks) != ET_OK)
            return fail();
        printf("open %.1f ms, %ld steps, %.4f ms each\n", 1e3 * (opened - start), steps, 1e3 * (now() - opened) / (double)steps);
        free(frame);
        et_close(session);
    }
    return 0;
}
