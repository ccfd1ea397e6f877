// Hands the microphone's samples on in blocks of 40 ms, int16 at the rate of the audio context.

class Microphone extends AudioWorkletProcessor {
  block = new Int16Array(640);
  filled = 0;

  process([input]) {
    for (const sample of input[0] ?? []) {
      this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block.buffer.slice(0));
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
