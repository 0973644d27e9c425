// The live page: asks the server for audio, plays it as it comes, and draws waveform and mel-spectrogram.

const $ = (id) => document.getElementById(id);
const LEAD = 0.15; // seconds that are there before they are played
const BANDS = 80, COLUMNS = 60; // of the mel-spectrogram: in all, and in a second
const LOUDEST = 0, FAINTEST = -90; // dB, of its colours
const RAMP = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];

let settings = null; // what the server says of voices and limits
let prompt = null; // a Blob that is continued
let recording = null; // what ends it
let session = null; // what is played, or was last

const tell = (text) => ($("status").textContent = text);

// The last samples of a sound in a column of mel bands, in dB; 0 dB is a sine of full scale.
class Mel {
  constructor(rate) {
    this.size = 2 ** Math.round(Math.log2(0.064 * rate));
    this.window = Float64Array.from({ length: this.size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.size));
    const top = 2595 * Math.log10(1 + rate / 1400), bin = (band) => (700 * (10 ** ((band * top) / (BANDS + 1) / 2595) - 1) * this.size) / rate;
    this.bands = Array.from({ length: BANDS }, (_, i) => [bin(i), bin(i + 1), bin(i + 2)]);
  }

  column(samples, end) {
    const re = new Float64Array(this.size), im = new Float64Array(this.size), start = end - this.size;
    for (let i = Math.max(0, -start); i < this.size; i++) re[i] = samples[start + i] * this.window[i];
    fft(re, im);
    const level = (k) => (4 * Math.hypot(re[k], im[k])) / this.size;
    return this.bands.map(([low, middle, high]) => {
      let loudest = level(Math.round(middle)); // low bands are narrower than a bin
      for (let k = Math.ceil(low); k <= Math.min(high, this.size / 2); k++) {
        const weight = k < middle ? (k - low) / (middle - low) : (high - k) / (high - middle);
        loudest = Math.max(loudest, weight * level(k));
      }
      return 20 * Math.log10(loudest + 1e-9);
    });
  }
}

// In place, of a power of two.
function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const c = Math.cos((-2 * Math.PI * k) / size), s = Math.sin((-2 * Math.PI * k) / size);
      for (let a = k, b = k + size / 2; a < n; a += size, b += size) {
        const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        [re[b], im[b], re[a], im[a]] = [re[a] - x, im[a] - y, re[a] + x, im[a] + y];
      }
    }
  }
}

function colour(decibels) {
  const place = Math.min(1, Math.max(0, (decibels - FAINTEST) / (LOUDEST - FAINTEST))) * (RAMP.length - 1);
  const i = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[i].map((low, c) => low + (RAMP[i + 1][c] - low) * (place - i));
}

// Both pictures scroll by a column, which ends at sample `end`.
function drawColumn({ made, mel, hop }, end) {
  const wave = $("wave").getContext("2d"), spectrum = $("mel").getContext("2d");
  for (const picture of [wave, spectrum]) {
    picture.globalCompositeOperation = "copy"; // nothing stays below what is moved
    picture.drawImage(picture.canvas, -1, 0);
    picture.globalCompositeOperation = "source-over";
  }
  let low = 1, high = -1;
  for (let i = end - hop; i < end; i++) [low, high] = [Math.min(low, made[i]), Math.max(high, made[i])];
  const { width, height } = wave.canvas;
  wave.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--wave");
  wave.fillRect(width - 1, ((1 - high) / 2) * height, 1, Math.max(1, ((high - low) / 2) * height));
  const column = spectrum.createImageData(1, BANDS);
  mel.column(made, end).forEach((decibels, band) => column.data.set([...colour(decibels), 255], 4 * (BANDS - 1 - band)));
  spectrum.putImageData(column, spectrum.canvas.width - 1, 0);
}

// Draws what was heard since.
function draw() {
  const { hop } = session;
  session.drawn = Math.max(session.drawn, session.heard - $("wave").width * hop); // of a page that was hidden
  for (; session.drawn + hop <= session.heard; session.drawn += hop) drawColumn(session, session.drawn + hop);
}

function report(mine) {
  const { count, rate, seconds, heard, gaps } = mine, made = count / rate;
  const pace = made && seconds ? `, ${(made / seconds).toFixed(2)} x real time` : "";
  const late = gaps ? `, ${gaps} gaps: this voice is slower than real time here` : "";
  tell(`${mine.state} ${made.toFixed(1)} s made${pace}; ${(heard / rate).toFixed(1)} s heard${late}`);
  $("save").disabled = !count;
}

async function play() {
  const voice = settings.voices[$("voice").selectedIndex], rate = voice.sample_rate, aborting = new AbortController();
  const mine = { name: voice.name, seed: $("seed").value, rate, aborting, count: 0, heard: 0, drawn: 0, gaps: 0, seconds: 0, state: "Playing." };
  session = Object.assign(mine, { hop: Math.round(rate / COLUMNS), mel: new Mel(rate) });
  for (const { width, height, id } of [$("wave"), $("mel")]) $(id).getContext("2d").clearRect(0, 0, width, height);
  $("play").textContent = "Stop";
  $("save").disabled = true;
  $("range").textContent = `Mel-spectrogram, 0 to ${rate / 2000} kHz; the last ${$("mel").width / COLUMNS} s`;
  tell("Getting ready.");
  try {
    mine.context = new AudioContext({ sampleRate: rate });
    await mine.context.audioWorklet.addModule("worklets.js");
    const player = new AudioWorkletNode(mine.context, "player", { processorOptions: { lead: Math.round(LEAD * rate) }, outputChannelCount: [1] });
    const over = new Promise((resolve) => {
      aborting.signal.addEventListener("abort", resolve);
      player.port.onmessage = ({ data }) => {
        Object.assign(mine, { heard: data.heard, gaps: data.gaps });
        if (data.done) resolve();
      };
    });
    player.connect(mine.context.destination);
    await receive(mine, player.port);
    await over;
    mine.state = aborting.signal.aborted ? "Stopped." : "Finished.";
  } catch (error) {
    mine.state = aborting.signal.aborted ? "Stopped." : error.message.trim();
  }
  await mine.context?.close();
  draw();
  report(mine);
  $("play").textContent = "Play";
  mine.over = true;
}

// Keeps and plays what the server draws; errors are for the user.
async function receive(mine, port) {
  const asked = new URLSearchParams({ voice: mine.name });
  for (const name of ["temperature", "top_p", "seed", "seconds"]) asked.set(name, $(name).value);
  const wanted = Number($("seconds").value) * mine.rate, begun = performance.now();
  const answer = await fetch(`stream?${asked}`, { method: "POST", body: prompt, signal: mine.aborting.signal });
  if (!answer.ok) throw new Error(await answer.text());
  mine.made = new Float32Array(Math.ceil(wanted) + 1);
  const reader = answer.body.getReader();
  let bytes = new Uint8Array(0);
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const joined = new Uint8Array(bytes.length + part.value.length); // a sample may be cut in two
    joined.set(bytes);
    joined.set(part.value, bytes.length);
    const samples = new Float32Array(joined.buffer, 0, Math.floor(joined.length / 4));
    bytes = joined.slice(4 * samples.length);
    mine.made.set(samples, mine.count);
    mine.count += samples.length;
    mine.seconds = (performance.now() - begun) / 1000;
    port.postMessage(samples);
  }
  port.postMessage(null);
  if (mine.count < Math.floor(wanted)) throw new Error("The sound broke off; the terminal of the server may say why.");
}

// A WAV of 16 bits.
function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  text(8, "WAVEfmt ");
  text(36, "data");
  [[4, 36 + 2 * samples.length], [16, 16], [24, rate], [28, 2 * rate], [40, 2 * samples.length]].forEach(([at, n]) => view.setUint32(at, n, true));
  [[20, 1], [22, 1], [32, 2], [34, 16]].forEach(([at, n]) => view.setUint16(at, n, true));
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.min(32767, Math.max(-32768, Math.round(32768 * x))), true));
  return new Blob([view], { type: "audio/wav" });
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(wav(session.made.subarray(0, session.count), session.rate));
  link.download = `${session.name.split("/").pop()}_seed_${session.seed}.wav`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function take(blob, text) {
  prompt = blob;
  $("prompt").textContent = text;
}

async function record() {
  if (recording) return recording();
  const media = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  const context = new AudioContext(), pieces = [];
  await context.audioWorklet.addModule("worklets.js");
  const node = new AudioWorkletNode(context, "recorder");
  node.port.onmessage = ({ data }) => pieces.push(data);
  context.createMediaStreamSource(media).connect(node).connect(context.destination); // to which it plays silence
  const limit = setTimeout(() => recording(), 1000 * settings.prompt_seconds);
  $("record").textContent = "End recording";
  recording = async () => {
    recording = null;
    clearTimeout(limit);
    media.getTracks().forEach((track) => track.stop());
    await context.close();
    const samples = new Float32Array(pieces.reduce((n, piece) => n + piece.length, 0));
    pieces.reduce((at, piece) => (samples.set(piece, at), at + piece.length), 0);
    $("record").textContent = "Record";
    $("file").value = "";
    if (samples.length) take(wav(samples, context.sampleRate), `${(samples.length / context.sampleRate).toFixed(1)} s of the microphone.`);
  };
}

$("play").onclick = () => ($("play").textContent === "Stop" ? session.aborting.abort() : play());
$("form").onsubmit = (event) => event.preventDefault();
$("save").onclick = save;
$("record").onclick = () => record().catch((error) => tell(`The microphone cannot be used: ${error.message}`));
$("clear").onclick = () => (($("file").value = ""), take(null, "None."));
$("file").onchange = () => {
  const [file] = $("file").files, large = file && file.size > settings.most_bytes;
  if (large) tell(`The file is too large: at most ${settings.most_bytes >> 20} MiB are taken.`);
  if (file && !large) take(file, `Its first ${settings.prompt_seconds} s are heard.`);
  else $("clear").onclick();
};
const frame = () => {
  if (session?.made && !session.over) {
    draw();
    report(session);
  }
  requestAnimationFrame(frame);
};
settings = await (await fetch("voices.json")).json();
$("voice").append(...settings.voices.map(({ name }) => new Option(name)));
const own = () => ($("temperature").value = settings.voices.find(({ name }) => name === $("voice").value).temperature);
$("voice").onchange = own;
own();
$("seconds").max = settings.most_seconds;
$("play").disabled = false;
frame();
