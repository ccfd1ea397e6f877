/* libedgetalk: sound in, frames of a talking face out.

     et_session *session;
     et_options options = {.struct_size = sizeof options};      // the rest 0: defaults
     if (et_open("amnet.xml", NULL, &options, &session) != ET_OK)
         return fprintf(stderr, "%s\n", et_last_error()), 1;
     et_info info = {.struct_size = sizeof info};
     et_get_info(session, &info);
     uint8_t *frame = malloc(info.frame_bytes);
     while ((count = microphone(pcm)) > 0) {                    // 16 kHz mono float32, chunks of any size
         et_push(session, pcm, count);
         while (et_next(session, frame) == ET_OK)
             show(frame, info.width, info.height);              // RGB, row by row
     }
     et_finish(session);                                        // what the network still waited for is silence
     while (et_next(session, frame) == ET_OK)
         show(frame, info.width, info.height);
     et_close(session);

   The same engine, avatar, sound, seed and number of threads give the frames of the Python package, edgetalk.Session;
   only int8 engines make something else of another number, as their sums round elsewhere. Engines are run
   by OpenVINO (.xml with its .bin, .onnx) or, where this library was built with its headers, by TensorRT or
   TensorRT-RTX (.plan); they are looked for when the first engine is opened, this library links to none. A plan holds
   code for the device: open only plans that you trust. Left out: pictures (prepare avatars with `edgetalk avatar`),
   files of sound and video.

   Threads: a session may be used by one thread at a time; different sessions may be used at the same time.
   Processes: a session is of the process that opened it; after a fork the other may et_close it, which frees nothing.

   Every function that can fail returns an et_status; et_last_error() has the sentence that says what came, what was
   expected and what to do. ET_ERROR_INPUT leaves the session as it was. NULL where something is needed is an error,
   not a crash. */

#ifndef EDGETALK_H
#define EDGETALK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ET_API __attribute__((visibility("default")))
#else
#define ET_API
#endif

/* The version of this header, to be compared with et_version(), that of the library. */
#define ET_VERSION_MAJOR 0
#define ET_VERSION_MINOR 1

typedef enum et_status {
    ET_OK = 0,
    ET_WAIT = 1,           /* no frame yet: push more sound */
    ET_END = 2,            /* all frames of the sound have been given: et_reset starts another */
    ET_ERROR_FILE = -1,    /* a file is not there or cannot be read */
    ET_ERROR_MODEL = -2,   /* a file of the model is truncated, damaged, newer than this library or of another model */
    ET_ERROR_INPUT = -3,   /* what the caller passed cannot be used */
    ET_ERROR_BACKEND = -4, /* the engine's library or device is missing, or inference failed */
    ET_ERROR_MEMORY = -5,  /* out of memory */
    ET_ERROR_INTERNAL = -6 /* a fault of this library; please report it */
} et_status;

/* An opened engine with its avatar and the sound heard so far. */
typedef struct et_session et_session;

/* How to open. A field that is 0 or NULL has its default; fields are only ever added at the end. A program with other
   rights than who started it (setuid) hears no variable of the environment. */
typedef struct et_options {
    size_t struct_size;   /* sizeof(et_options), so that programs built with an older header go on working */
    const char *device;   /* "CPU", "GPU.1" as OpenVINO names them, for plans "cuda:1"; default "auto": CPU or cuda:0 */
    int32_t threads;      /* CPU threads; default: the engine's choice */
    const char *motion;   /* "idle": natural life, or "still" where there is a pose; default "idle" */
    int64_t seed;         /* of idle: the same seed moves the same way */
    int32_t fps_num;      /* frames per second as a fraction, 25/1 or 30000/1001, from 1 to 240; */
    int32_t fps_den;      /* default 0/0: the rate that the network was trained at */
    const char *use;      /* "commercial" refuses models that may not be used commercially; default "any" */
    const char *openvino; /* libopenvino_c.so or its folder; default: $EDGETALK_OPENVINO, else it is searched for */
    const char *tensorrt; /* libnvinfer.so.* or its folder; default: $EDGETALK_TENSORRT, else it is searched for */
} et_options;

/* What a session takes and gives. */
typedef struct et_info {
    size_t struct_size;    /* sizeof(et_info), set by the caller */
    int32_t width, height; /* of a frame, pixels */
    size_t frame_bytes;    /* width * height * 3 */
    int32_t mel_frames;    /* T of mel (T, F) */
    int32_t mel_features;  /* F */
    int32_t takes_pose;    /* 1 or 0 */
    int32_t takes_blink;
    int32_t gives_landmarks;
    int32_t fps_num, fps_den; /* frames per second of this session */
    const char *metadata;     /* what the engine says about itself, ASCII JSON; lives as long as the session */
    const char *device;       /* where it runs, at what precision; lives as long as the session */
    const char *warning;      /* one sentence where the network was not trained on this face, else ""; lives as long */
} et_info;

/* The version of the library, such as "0.1.0". */
ET_API const char *et_version(void);

/* Why this thread's last call that failed did so, one sentence in UTF-8; "" before any has. Valid until the thread's
   next call that fails. */
ET_API const char *et_last_error(void);

/* Open the engine in the file `engine` with the face in the file `avatar`; NULL: STEM.avatar beside the engine.
   `options` may be NULL. The avatar's file must stay as it is until et_close. Where $EDGETALK_CACHE names a folder,
   compiled networks are kept in `openvino` there and open faster; where it is of no use, as one that another user has
   filled, et_info.device says why. On failure *session is NULL. */
ET_API et_status et_open(const char *engine, const char *avatar, const et_options *options, et_session **session);

/* Fill in *info, whose struct_size says how much of it there is. */
ET_API et_status et_get_info(const et_session *session, et_info *info);

/* Compute one frame.
     mel    float32 (T, F): the window of sound that belongs to the frame, see et_next_inputs
     pose   float32 (3,): yaw, pitch, roll in radians; yaw > 0 turns the nose to the image's right, pitch > 0 up,
            roll > 0 clockwise as seen; NULL where the engine takes none
     blink  float32 (2,): the subject's left and right eye, 0 open to 1 closed; NULL where the engine takes none
     frame  uint8 (height, width, 3) RGB, the caller's, frame_bytes large */
ET_API et_status et_step(et_session *session, const float *mel, const float *pose, const float *blink,
                         uint8_t *frame);

/* Copy the landmarks of the last frame: float32 (106, 2), x and y as fractions of width and height. */
ET_API et_status et_get_landmarks(const et_session *session, float *landmarks);

/* Hear `count` more samples of `pcm`, at most 2^31: 16 kHz mono float32 in [-1, 1]. Their mel frames are kept until
   et_next takes them, 26 kB per second of sound. */
ET_API et_status et_push(et_session *session, const float *pcm, size_t count);

/* The same of 16-bit samples, as microphones and wav files give them: full scale is 32768. */
ET_API et_status et_push_s16(et_session *session, const int16_t *pcm, size_t count);

/* Say that the sound has ended. */
ET_API et_status et_finish(et_session *session);

/* Compute the next frame of the sound, moved by the session's motion, into the caller's `frame`, frame_bytes large.
   ET_WAIT: the sound that it looks ahead to has not been pushed. ET_END: there are no more. */
ET_API et_status et_next(et_session *session, uint8_t *frame);

/* Give what et_next would feed to et_step, in place of it, to be changed and passed to et_step:
     mel    float32 (T, F)
     pose   float32 (3,), may be NULL
     blink  float32 (2,), may be NULL */
ET_API et_status et_next_inputs(et_session *session, float *mel, float *pose, float *blink);

/* Forget the sound and start with frame 0 of another. */
ET_API et_status et_reset(et_session *session);

/* Free everything; NULL is allowed. */
ET_API void et_close(et_session *session);

#ifdef __cplusplus
}
#endif

#endif
