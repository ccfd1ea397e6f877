/* What a program does after sessions were closed, which what OpenVINO leaves behind may break.
     afterwards ENGINE order    closes the session opened first before the other, and gets a signal
     afterwards ENGINE thread   closes a session in another thread, and gets a signal
     afterwards ENGINE fork     closes a session, forks, and opens one in the new process
     afterwards ENGINE inherit  forks with a session open, which is of no use to the new process and does it no harm */

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dlopen.h"
#include "edgetalk.h"

static volatile sig_atomic_t heard;

static void hear(int signal)
{
    heard = signal;
}

static et_session *open_session(const char *engine)
{
    et_session *session;
    et_options options = {.struct_size = sizeof options, .threads = 1};
    if (et_open(engine, NULL, &options, &session) == ET_OK)
        return session;
    fprintf(stderr, "%s\n", et_last_error());
    exit(1);
}

static void *close_session(void *session)
{
    et_close(session);
    return NULL;
}

/* What the calls answer for the session of another process. */
static int refused(et_session *session)
{
    static float values[4096];
    static int16_t samples[1];
    static uint8_t frame[1];
    et_info info = {.struct_size = sizeof info};
    const et_status answers[] = {
        et_get_info(session, &info),
        et_step(session, values, values, values, frame),
        et_get_landmarks(session, values),
        et_push(session, values, 1),
        et_push_s16(session, samples, 1),
        et_finish(session),
        et_next(session, frame),
        et_next_inputs(session, values, values, values),
        et_reset(session),
    };
    for (size_t k = 0; k < sizeof answers / sizeof *answers; ++k)
        if (answers[k] != ET_ERROR_BACKEND || !strstr(et_last_error(), "was opened before this process was forked"))
            return 0;
    return 1;
}

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    et_session *session = open_session(words[1]);
    if (!strcmp(words[2], "order")) {
        et_session *second = open_session(words[1]);
        et_close(session);
        et_close(second);
    } else if (!strcmp(words[2], "thread")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, close_session, session) || pthread_join(thread, NULL))
            return 2;
    } else if (!strcmp(words[2], "inherit")) {
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            alarm(20); /* it would wait for threads of the other process */
            if (!refused(session))
                _exit(1);
            et_close(session);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            return 1;
        if (et_push_s16(session, (int16_t[]){1}, 1) != ET_OK) /* it is here what it was */
            return 1;
        et_close(session);
    } else {
        et_close(session);
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            alarm(60); /* it would wait for threads of the other process */
            et_close(open_session(words[1]));
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            return 1;
    }
    struct sigaction action = {.sa_handler = hear, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    return heard != SIGUSR1;
}
