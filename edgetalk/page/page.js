// Shows the face and plays its sound, each picture when its sound is heard; see __init__.py for the messages.

const RATE = 16000; // Hz, of sound in both directions
const LEAD = 0.06; // seconds between a sound's arrival and its start, for those that the way delays
const MOST = 0.3; // seconds; where more is waiting, since two clocks are never one, what nobody hears is left out
const LATE = 1; // seconds; where that much is waiting, after a page stood still, what is heard is left out as well
const DYING = 500; // milliseconds in which the silence that was asked for comes
const DEAD = 5000; // milliseconds without a picture: a connection whose other end is gone does not tell
const FAILED = 1011; // the code by which a server closes that failed: it is asked again, but less and less often
const [SOON, SELDOM] = [1000, 60000]; // milliseconds from the end of a connection to the next
const KEPT = 50; // pictures that wait to be drawn: a hidden page draws none, and of more some are left out

const canvas = document.querySelector("canvas");
const statusLine = document.querySelector("#status");
const microphone = document.querySelector("#microphone");

let socket; // WebSocket to the face
let audio; // AudioContext, from the first click on: browsers let no page sound before
let loudness; // its volume, 0 while the microphone is on: who speaks need not hear it again
let voice; // GainNode of what is being said: hushing fades it out, and what follows takes another
let hushed = 0; // performance.now() of the last hush whose silence has not come yet
let next = 0; // when the next sound starts, on the clock of `audio`
let ear; // AudioWorkletNode that hands the microphone's sound on
let hearing; // AudioContext of the microphone, where it cannot be that of the sound
let source; // of that sound, while the microphone is on
let turning = false; // while it is being turned on or off
let shown = 0; // pictures
let begun; // performance.now() of the first one
let last = 0; // performance.now() of the last message
let problem = ""; // what the last thing that was asked for met
let apart = "connecting"; // why there is no face, or nothing
let pause = SOON; // milliseconds until it is tried again
const due = []; // {at, picture}, in the order of time

// Lets the page sound; to be called while a click or a key is handled.
async function sounding() {
  if (!audio) {
    audio = new AudioContext({ sampleRate: RATE });
    loudness = audio.createGain();
    loudness.connect(audio.destination);
    speak();
  }
  await audio.resume();
  return audio;
}

function speak() {
  voice = audio.createGain();
  voice.connect(loudness);
}

// Falls silent now, whatever is still to be heard here.
function silence() {
  if (!audio) return;
  voice.gain.setValueAtTime(1, audio.currentTime);
  voice.gain.linearRampToValueAtTime(0, audio.currentTime + 0.02);
  speak();
  next = 0;
  hushed = performance.now();
  due.splice(0).forEach(({ picture }) => picture.close());
}

// Plays samples after those before them; returns when they start, or 0 for at once where nothing may sound.
function play(samples) {
  if (audio?.state !== "running") return 0;
  const still = samples.every((sample) => sample === 0);
  if (still || performance.now() - hushed > DYING) hushed = -Infinity;
  if (hushed > 0) return 0; // was on its way when the face was hushed
  if (next < audio.currentTime) next = audio.currentTime + LEAD;
  const waiting = next - audio.currentTime;
  if (waiting > LATE || (waiting > MOST && (source || still))) return next;
  const sound = audio.createBuffer(1, samples.length, RATE);
  sound.getChannelData(0).set(Float32Array.from(samples, (sample) => sample / 32768));
  const player = audio.createBufferSource();
  player.buffer = sound;
  player.connect(voice);
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
  pause = SOON;
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
  if (width) {
    Object.assign(canvas, { width, height });
    canvas.style.setProperty("--aspect", width / height);
    problem = ""; // of a connection before this one
  }
  if (error) problem = error;
  apart = "";
}

// Connects to the face, and again whenever the connection ends.
function connect() {
  socket = new WebSocket(new URL("face", location.href.replace(/^http/, "ws")));
  socket.binaryType = "arraybuffer";
  last = performance.now();
  socket.onmessage = ({ data }) => {
    last = performance.now();
    typeof data === "string" ? told(data) : receive(data);
  };
  socket.onclose = ({ code, reason }) => {
    apart = reason || "no connection";
    setTimeout(connect, pause);
    if (code === FAILED) pause = Math.min(2 * pause, SELDOM);
  };
}

function send(data) {
  if (socket.readyState !== WebSocket.OPEN) throw new Error("no connection: try again");
  socket.send(data);
}

function hush() {
  silence();
  send("");
}

// Sends 16 kHz samples, at most ten seconds in a message.
function say(samples) {
  const whole = Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
  for (let at = 0; at < whole.length; at += 10 * RATE) send(whole.slice(at, at + 10 * RATE));
}

async function sayFile(data) {
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(data); // at the context's rate
  const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
  say(channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length));
}

async function listen() {
  if (!navigator.mediaDevices) throw new Error("the microphone needs https, or a page of this machine");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, channelCount: 1 } });
  try {
    let context = await sounding();
    let given;
    try {
      given = context.createMediaStreamSource(stream);
    } catch (error) {
      if (error.name !== "NotSupportedError") throw error;
      context = hearing ??= new AudioContext(); // Firefox hears at the device's rate alone
      await context.resume();
      given = context.createMediaStreamSource(stream);
    }
    if (ear?.context !== context) {
      await context.audioWorklet.addModule("microphone.js");
      ear = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
      ear.port.onmessage = ({ data }) => source && socket.readyState === WebSocket.OPEN && socket.send(data);
    }
    stream.getAudioTracks()[0].onended = () => source?.mediaStream === stream && turn(); // somebody pulled it out
    source = given;
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

// Turns the microphone on or off. What was said before would delay it, or be heard behind it: it is forgotten.
async function turn() {
  if (turning) return;
  turning = true;
  try {
    await (source ? deaf() : listen());
    hush();
  } finally {
    turning = false;
    microphone.setAttribute("aria-pressed", Boolean(source));
    loudness?.gain.cancelScheduledValues(0);
    const still = source ? 0 : MOST; // what the microphone heard last is on its way
    loudness?.gain.setValueAtTime(source ? 0 : 1, audio.currentTime + still);
  }
}

async function attempt(act) {
  problem = "";
  try {
    await act();
  } catch (error) {
    problem = `${error.message || error.name}`;
  }
  tell();
}

function on(selector, event, act) {
  document.querySelector(selector).addEventListener(event, (happened) => {
    if (event === "submit") happened.preventDefault();
    attempt(() => act(happened));
  });
}

// Says something else than what the microphone hears.
async function sayInstead(act) {
  if (source) await turn();
  await act();
}

on("form", "submit", ({ target: form }) =>
  sayInstead(() => {
    if (form.text.value) send(form.text.value);
    form.text.select();
  }),
);
on("#hush", "click", hush);
on("#sentence", "click", () => sayInstead(async () => sayFile(await (await fetch("sentence.flac")).arrayBuffer())));
on("#file", "change", ({ target: input }) =>
  sayInstead(async () => {
    if (input.files[0]) await sayFile(await input.files[0].arrayBuffer());
    input.value = "";
  }),
);
on("#microphone", "click", turn);
on("#full", "click", () => document.querySelector("figure").requestFullscreen());
document.addEventListener("keydown", ({ key }) => key === "Escape" && attempt(hush));

// Browsers let a page sound, and keep a screen awake, for somebody who is there; a telephone call takes both away again.
function wake() {
  sounding().catch(() => {});
  navigator.wakeLock?.request("screen").catch(() => {});
}
for (const event of ["click", "keydown"]) document.addEventListener(event, wake, { capture: true });
document.addEventListener("visibilitychange", () => audio && !document.hidden && wake());

function tell(rate = "") {
  const trouble = [apart, problem].filter(Boolean).join(": ");
  const silent = audio?.state === "running" ? "" : "; click for sound";
  const text = trouble || (rate && `${rate}${silent}`) || statusLine.textContent;
  statusLine.setAttribute("aria-live", trouble ? "polite" : "off"); // nobody wants the rate read out
  if (statusLine.textContent !== text) statusLine.textContent = text; // what is written again is read out again
}

setInterval(() => {
  const seconds = (performance.now() - begun) / 1000;
  tell(`${(shown / seconds || 0).toFixed(1)} pictures per second`);
  [shown, begun] = [0, begun && performance.now()];
  if (socket.readyState === WebSocket.OPEN && performance.now() - last > DEAD) {
    socket.onclose = socket.onmessage = null;
    socket.close();
    apart = "no connection";
    connect();
  }
}, 2000);
document.body.classList.toggle("bare", new URLSearchParams(location.search).has("bare"));
requestAnimationFrame(draw);
connect();
