// Hands the microphone's samples on in blocks of 40 ms, int16 at 16 kHz.

const RATE = 16000;
const ZEROS = 16; // of the sinc on either side, at the lower rate

class Microphone extends AudioWorkletProcessor {
  block = new Int16Array(640);
  filled = 0;
  step = sampleRate / RATE; // input samples for each of ours
  reach = Math.ceil(ZEROS * this.step);
  heard = new Float32Array(2 * this.reach); // what the filter still needs
  at = this.reach; // where in `heard` the next sample of ours lies

  process([input]) {
    const samples = input[0] ?? new Float32Array(0);
    if (this.step === 1) samples.forEach((sample) => this.give(sample));
    else this.resample(samples);
    return true;
  }

  // A windowed sinc that lets pass what 16 kHz can hold: what is above would be heard as something else.
  resample(samples) {
    const heard = new Float32Array(this.heard.length + samples.length);
    heard.set(this.heard);
    heard.set(samples, this.heard.length);
    for (; this.at + this.reach < heard.length; this.at += this.step) {
      let sum = 0;
      for (let i = Math.ceil(this.at - this.reach); i <= this.at + this.reach; i++) {
        const x = (i - this.at) / this.step;
        const sinc = x ? Math.sin(0.92 * Math.PI * x) / (Math.PI * x) : 0.92;
        sum += heard[i] * sinc * (0.5 + 0.5 * Math.cos((Math.PI * x) / ZEROS));
      }
      this.give(sum / this.step);
    }
    const done = Math.max(0, Math.floor(this.at - this.reach));
    this.heard = heard.slice(done);
    this.at -= done;
  }

  give(sample) {
    this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
    if (this.filled === this.block.length) {
      this.port.postMessage(this.block.buffer.slice(0));
      this.filled = 0;
    }
  }
}

registerProcessor("microphone", Microphone);
