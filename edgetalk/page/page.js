// Shows the face and plays its sound, each picture when its sound is heard; see __init__.py for the messages.

const RATE = 16000; // Hz, of sound in both directions
const LEAD = 0.06; // seconds between a sound's arrival and its start, for those that the way delays
const MOST = 0.3; // seconds; where more is waiting, since two clocks are never one, what nobody hears is left out
const KEPT = 50; // pictures that wait to be drawn: a hidden page draws none, and of more some are left out

const canvas = document.querySelector("canvas");
const statusLine = document.querySelector("#status");
const microphone = document.querySelector("#microphone");

let socket; // WebSocket to the face
let audio; // AudioContext, from the first click on: browsers let no page sound before
let loudness; // its volume, 0 while the microphone is on: who speaks need not hear it again
let next = 0; // when the next sound starts, on the clock of `audio`
let ear; // AudioWorkletNode that hands the microphone's sound on
let source; // of that sound, while the microphone is on
let turning = false; // while it is being turned on or off
let shown = 0; // pictures
let begun; // performance.now() of the first one
let problem = ""; // what the last thing that was asked for met
let apart = "connecting"; // why there is no face, or nothing
const due = []; // {at, picture}, in the order of time

async function sounding() {
  if (!audio) {
    audio = new AudioContext({ sampleRate: RATE });
    loudness = audio.createGain();
    loudness.connect(audio.destination);
  }
  await audio.resume();
  return audio;
}

// Plays samples after those before them; returns when they start, or 0 for at once where nothing may sound.
function play(samples) {
  if (audio?.state !== "running") return 0;
  if (next < audio.currentTime) next = audio.currentTime + LEAD;
  if (next > audio.currentTime + MOST && (source || samples.every((sample) => sample === 0))) return next;
  const sound = audio.createBuffer(1, samples.length, RATE);
  sound.getChannelData(0).set(Float32Array.from(samples, (sample) => sample / 32768));
  const player = audio.createBufferSource();
  player.buffer = sound;
  player.connect(loudness);
  player.start(next);
  next += sound.duration;
  return next - sound.duration;
}

function draw() {
  const now = audio ? audio.currentTime - (audio.outputLatency || 0) : 0;
  const past = due.splice(0, due.findLastIndex(({ at }) => at <= now) + 1);
  if (past.length) {
    canvas.getContext("2d").drawImage(past.at(-1).picture, 0, 0);
    shown += 1;
  }
  past.forEach(({ picture }) => picture.close());
  requestAnimationFrame(draw);
}

let decoded = Promise.resolve(); // keeps pictures in order
function receive(data) {
  const count = new DataView(data).getUint32(0, true);
  const at = play(new Int16Array(data, 4, count));
  const picture = createImageBitmap(new Blob([new Uint8Array(data, 4 + 2 * count)], { type: "image/jpeg" }));
  const show = async () => {
    due.push({ at, picture: await picture });
    if (due.length > KEPT) due.splice(-2, 1)[0].picture.close(); // never the next one: it would freeze the face
  };
  decoded = decoded.then(show).catch(() => {}); // what is no picture is left out
  begun ??= performance.now();
}

function told(data) {
  const { width, height, error } = JSON.parse(data);
  if (width) Object.assign(canvas, { width, height });
  if (error) problem = error;
  apart = "";
}

// Connects to the face, and again whenever the connection ends.
function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/face`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? told(data) : receive(data));
  socket.onclose = ({ reason }) => {
    apart = reason || "no connection";
    setTimeout(connect, 1000);
  };
}

// Sends 16 kHz samples, at most ten seconds in a message.
function say(samples) {
  const whole = Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
  for (let at = 0; at < whole.length; at += 10 * RATE) socket.send(whole.slice(at, at + 10 * RATE));
}

async function sayFile(data) {
  const sound = await (await sounding()).decodeAudioData(data); // at the context's rate, which is ours
  const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
  say(channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length));
}

async function listen() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, channelCount: 1 } });
  try {
    const context = await sounding();
    if (!ear) {
      await context.audioWorklet.addModule("microphone.js");
      ear = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
      ear.port.onmessage = ({ data }) => source && socket.readyState === WebSocket.OPEN && socket.send(data);
    }
    source = context.createMediaStreamSource(stream);
    source.connect(ear);
  } catch (error) {
    release(stream);
    throw error;
  }
}

function deaf() {
  source.disconnect();
  release(source.mediaStream);
  source = undefined;
}

function release(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

function on(selector, event, act) {
  document.querySelector(selector).addEventListener(event, async (happened) => {
    if (event === "submit") happened.preventDefault();
    problem = "";
    try {
      await act(happened);
    } catch (error) {
      problem = `${error.message || error.name}`;
    }
  });
}

on("form", "submit", async ({ target: form }) => {
  await sounding();
  if (form.text.value) socket.send(form.text.value);
  form.text.select();
});
on("#hush", "click", () => socket.send(""));
on("html", "keydown", ({ key }) => key === "Escape" && socket.send(""));
on("#sentence", "click", async () => sayFile(await (await fetch("sentence.flac")).arrayBuffer()));
on("#file", "change", async ({ target: input }) => {
  if (input.files[0]) await sayFile(await input.files[0].arrayBuffer());
  input.value = "";
});
on("#microphone", "click", async () => {
  if (turning) return;
  turning = true;
  try {
    await (source ? deaf() : listen());
  } finally {
    turning = false;
  }
  loudness.gain.value = source ? 0 : 1;
  microphone.setAttribute("aria-pressed", Boolean(source));
});

setInterval(() => {
  const seconds = (performance.now() - begun) / 1000;
  const rate = `${(shown / seconds || 0).toFixed(1)} pictures per second`;
  const trouble = [apart, problem].filter(Boolean).join(": ");
  statusLine.setAttribute("aria-live", trouble ? "polite" : "off"); // nobody wants the rate read out
  statusLine.textContent = trouble || `${rate}${audio ? "" : "; sound begins with the first click"}`;
  [shown, begun] = [0, begun && performance.now()];
}, 2000);
requestAnimationFrame(draw);
connect();
