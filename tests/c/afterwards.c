/* What a program does after sessions were closed, which what OpenVINO leaves behind may break.
     afterwards ENGINE order    closes the session opened first before the other, and gets a signal
     afterwards ENGINE thread   closes a session in another thread, and gets a signal
     afterwards ENGINE fork     closes a session, forks, and opens one in the new process */

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
