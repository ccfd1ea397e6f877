/* A wav file becomes frames on stdout, raw RGB one after the other, for FFmpeg to encode:

     cc talk.c -o talk $(pkg-config --cflags --libs edgetalk)
     ./talk amnet.xml speech.wav |
       ffmpeg -f rawvideo -pix_fmt rgb24 -s 256x256 -r 25 -i - -i speech.wav -pix_fmt yuv420p talk.mp4

   The wav is 16-bit mono at 16 kHz; FFmpeg makes one of anything: ffmpeg -i sound -ac 1 -ar 16000 speech.wav.
   examples/python/talk.py writes the same bytes. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgetalk.h"

static uint32_t little(const unsigned char *bytes, int count)
{
    uint32_t value = 0;
    while (count--)
        value = value << 8 | bytes[count];
    return value;
}

/* Leave the file at the first sample and return how many there are, or -1. */
static long open_wav(FILE *file)
{
    unsigned char head[12], chunk[8], format[16];
    int known = 0;
    if (fread(head, 1, 12, file) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4))
        return -1;
    while (fread(chunk, 1, 8, file) == 8) {
        uint32_t size = little(chunk + 4, 4);
        if (!memcmp(chunk, "data", 4))
            return known ? (long)(size / 2) : -1;
        if (!memcmp(chunk, "fmt ", 4) && size >= 16) {
            if (fread(format, 1, 16, file) != 16)
                return -1;
            known = little(format, 2) == 1 && little(format + 2, 2) == 1 && little(format + 4, 4) == 16000 &&
                    little(format + 14, 2) == 16;
            size -= 16;
        }
        if (fseek(file, (long)(size + size % 2), SEEK_CUR))
            return -1;
    }
    return -1;
}

static int fail(const char *what)
{
    fprintf(stderr, "talk: %s\n", what);
    return 1;
}

int main(int count, char **words)
{
    if (count < 3)
        return fail("usage: talk ENGINE SPEECH.wav [SEED [THREADS]] > FRAMES");
    et_session *session;
    et_options options = {.struct_size = sizeof options};
    char more;
    if ((count > 3 && sscanf(words[3], "%" SCNd64 "%c", &options.seed, &more) != 1) ||
        (count > 4 && sscanf(words[4], "%" SCNd32 "%c", &options.threads, &more) != 1))
        return fail("expected whole numbers as SEED and THREADS");
    FILE *wav = fopen(words[2], "rb");
    if (!wav)
        return perror(words[2]), 1;
    long left = open_wav(wav);
    if (left < 0)
        return fail("expected a wav file, 16-bit mono at 16 kHz; make one: ffmpeg -i SOUND -ac 1 -ar 16000 speech.wav");
    if (et_open(words[1], NULL, &options, &session) != ET_OK)
        return fail(et_last_error());

    et_info info = {.struct_size = sizeof info};
    et_get_info(session, &info);
    fprintf(stderr, "%dx%d at %d/%d frames per second on %s\n", info.width, info.height, info.fps_num, info.fps_den,
            info.device);
    if (info.warning && *info.warning)
        fprintf(stderr, "talk: %s\n", info.warning);
    uint8_t *frame = malloc(info.frame_bytes);
    et_status status = ET_WAIT;
    while (frame && status == ET_WAIT) {
        int16_t pcm[640]; /* 40 ms, as a microphone would give them; wav files have the byte order of x86 and Arm */
        size_t got = left > 0 ? fread(pcm, 2, left < 640 ? (size_t)left : 640, wav) : 0;
        left -= (long)got;
        status = got ? et_push_s16(session, pcm, got) : et_finish(session);
        while (status == ET_OK)
            if ((status = et_next(session, frame)) == ET_OK && !fwrite(frame, info.frame_bytes, 1, stdout))
                return fail("the frames could not be written");
    }
    free(frame);
    et_close(session);
    fclose(wav);
    return status == ET_END ? 0 : fail(et_last_error());
}
