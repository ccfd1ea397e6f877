"""A face that says what the microphone hears, in a window and on the loudspeaker: wear headphones, or it hears itself.

    pip install sounddevice
    pip uninstall opencv-python-headless && pip install opencv-python      the one that opens windows
    python microphone.py [ENGINE [AVATAR]]

Space hushes it, Escape ends it. Tested with stand-ins for sounddevice and the window only, never with a real device.
"""

import sys

import cv2
import sounddevice
import soxr

import edgetalk

RATE = 16000  # Hz, inside
SPACE, ESCAPE = 32, 27


def talk(session):
    live = session.live(lead=0.1, most=0.5)  # seconds: pieces are shorter; after a stop only the newest is said
    rates = [round(sounddevice.query_devices(kind=kind)["default_samplerate"]) for kind in ("input", "output")]
    down, up = soxr.ResampleStream(rates[0], RATE, 1), soxr.ResampleStream(RATE, rates[1], 1)

    def hear(sound, count, time, status):  # in a thread of sounddevice's
        live.say(down.resample_chunk(sound[:, 0].copy()))

    ear = sounddevice.InputStream(samplerate=rates[0], channels=1, dtype="float32", callback=hear)
    mouth = sounddevice.OutputStream(samplerate=rates[1], channels=1, dtype="float32")
    with mouth, ear:
        for frame, sound in live:
            cv2.imshow("edgetalk", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            mouth.write(up.resample_chunk(sound)[:, None])
            key = cv2.waitKey(1)
            if key == SPACE:
                live.hush()
            elif key == ESCAPE:
                return


def main():
    engine, avatar = (*sys.argv[1:3], None, None)[:2]
    try:
        with edgetalk.Session(engine or "amnet", avatar=avatar) as session:
            talk(session)
    except (edgetalk.EdgetalkError, OSError, sounddevice.PortAudioError, cv2.error) as error:
        print(f"microphone: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
