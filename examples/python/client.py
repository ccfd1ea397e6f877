"""A client of `edgetalk live`: says a wav file in real time, and writes the pictures and the sound that come back.

    edgetalk live amnet &
    python client.py ws://127.0.0.1:8000/face speech.wav heard.wav > seen.mjpeg
    ffmpeg -f mjpeg -framerate 25 -i seen.mjpeg -i heard.wav -pix_fmt yuv420p talk.mp4

It needs aiohttp and no edgetalk: the messages are in docs/live.md. Pictures go to stdout as JPEGs, one after the other.
"""

import asyncio
import json
import sys
import wave

import aiohttp

RATE = 16000  # Hz, both ways
PIECE = 640  # samples, 40 ms, as a microphone would give them
SAMPLE = 2  # bytes, int16


async def say(socket, pcm):
    """Send sound as fast as it is spoken."""
    clock = asyncio.get_running_loop()
    start = clock.time()
    for at in range(0, len(pcm), SAMPLE * PIECE):
        await asyncio.sleep(start + at / SAMPLE / RATE - clock.time())
        await socket.send_bytes(pcm[at : at + SAMPLE * PIECE])


async def converse(url, pcm, heard, seen):
    """Say `pcm` and write what comes until a second of silence follows it; return why the server ended that, or ""."""
    async with aiohttp.ClientSession() as client, client.ws_connect(url, max_msg_size=0) as socket:
        saying = asyncio.create_task(say(socket, pcm))
        fps, silent = 25.0, 0
        try:
            while silent < RATE:
                came = await socket.receive()
                if came.type == aiohttp.WSMsgType.TEXT:
                    told = json.loads(came.data)
                    if "error" in told:
                        return told["error"]
                    fps = told["fps"]
                elif came.type == aiohttp.WSMsgType.BINARY:
                    count = int.from_bytes(came.data[:4], "little")
                    sound, picture = came.data[4 : 4 + SAMPLE * count], came.data[4 + SAMPLE * count :]
                    heard.writeframes(sound)
                    # A server that is late leaves pictures out and no sound: this one stands for all of that time.
                    seen.write(picture * round(count * fps / RATE))
                    seen.flush()
                    silent = silent + count if saying.done() and not any(sound) else 0
                else:
                    return f"the server closed ({socket.close_code} {came.extra or ''})"
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
    return ""


def main():
    wanted = "expected a wav file, 16-bit mono at 16 kHz; make one: ffmpeg -i SOUND -ac 1 -ar 16000 speech.wav"
    if len(sys.argv) != 4:
        print("usage: client.py URL SPEECH.wav HEARD.wav > PICTURES.mjpeg", file=sys.stderr)
        return 1
    _, url, speech, sound = sys.argv
    try:
        with wave.open(speech, "rb") as wav:
            if (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) != (1, SAMPLE, RATE):
                raise wave.Error(wanted)
            pcm = wav.readframes(wav.getnframes())
        with wave.open(sound, "wb") as heard:
            heard.setparams((1, SAMPLE, RATE, 0, "NONE", ""))
            why = asyncio.run(converse(url, pcm, heard, sys.stdout.buffer))
        sys.stdout.buffer.flush()
    except (OSError, EOFError, wave.Error, aiohttp.ClientError) as error:
        why = str(error) or wanted
    except KeyboardInterrupt:  # the socket is closed, and what has come is kept
        return 130
    if why:
        print(f"client: {why}", file=sys.stderr)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
