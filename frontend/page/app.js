// The playground: microphone or file in, live text out, over the native protocol (docs/protocol.md).
const $ = (id) => document.getElementById(id);
const RATE = 16000;
const UNSURE = 0.5; // words below this confidence are underlined

/** One stream to the server; calls `on[type](message)` for what comes back. */
class Stream {
  constructor(sampleRate, on) {
    const query = new URLSearchParams({ encoding: "linear16", sample_rate: sampleRate, endpointing_ms: $("endpointing").value, vad_enabled: $("vad").checked });
    if ($("key").value) query.set("api_key", $("key").value);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/ws/v1/transcribe?${query}`);
    this.sent = 0;
    this.sampleRate = sampleRate;
    this.done = new Promise((resolve) => { this.socket.onclose = (event) => { on.gone?.(event, this.opened); resolve(); }; });
    this.ready = new Promise((resolve, reject) => { this.socket.onopen = () => { this.opened = true; this.configure(); resolve(); }; this.socket.onerror = () => reject(new Error("refused")); });
    this.socket.onmessage = ({ data }) => { const message = JSON.parse(data); on[message.type]?.(message); };
  }

  /** A language that the model does not know is refused with a message; in the query it would be a handshake without a reason. */
  configure() {
    const language = $("language").value.trim();
    if (language && language !== "en") this.socket.send(JSON.stringify({ type: "configure", config: { language } }));
  }

  /** Sends Int16 samples; waits while the socket's buffer is full, so a long file does not fill the memory. */
  async send(samples) {
    while (this.socket.bufferedAmount > 1 << 20) await new Promise((r) => setTimeout(r, 50));
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(samples);
    this.sent += samples.length / this.sampleRate;
    $("audio").textContent = `${this.sent.toFixed(1)} s`;
  }

  close() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "close_stream" }));
    return this.done;
  }
}

// --- text -----------------------------------------------------------------------------------------------------------

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}.${Math.floor((seconds - whole) * 10)}`;
}

/** Settled words stay as they are and are written as such; the rest may still change. */
function showInterim(message) {
  const words = message.words.map((word) => word.word);
  const settled = document.createElement("span");
  settled.className = "settled";
  settled.textContent = words.slice(0, message.stable_words).join(" ");
  const rest = words.length ? words.slice(message.stable_words).join(" ") : message.transcript;
  $("interim").replaceChildren(settled, ` ${rest}`);
}

function showFinal(message) {
  $("interim").textContent = "";
  if (!message.transcript) return;
  const row = document.createElement("p");
  row.className = "final";
  const time = document.createElement("time");
  time.textContent = clock(message.words[0]?.start ?? message.start);
  const text = document.createElement("span");
  for (const word of message.words) {
    const span = document.createElement("span");
    span.textContent = word.word;
    span.title = `${word.start.toFixed(2)} – ${word.end.toFixed(2)} s, confidence ${Math.round(word.confidence * 100)} %`;
    if (word.confidence < UNSURE) span.className = "unsure";
    text.append(span, " ");
  }
  if (!message.words.length) text.textContent = message.transcript;
  row.append(time, text);
  $("finals").append(row);
  row.scrollIntoView({ block: "nearest" });
}

function showNumbers(message) {
  const { queue_ms, encode_ms, decode_ms } = message.metadata;
  $("decode").textContent = `${Math.round(queue_ms + encode_ms + decode_ms)} ms`;
  $("confidence").textContent = `${Math.round(message.confidence * 100)} %`;
  if (message.language) $("heard").textContent = message.language;
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

const handlers = {
  ready: (m) => { $("status").textContent = "Connected"; $("model").textContent = m.model; },
  speech_started: () => { $("status").textContent = "Hearing speech"; },
  speech_ended: () => { $("status").textContent = "Listening"; },
  interim: (m) => { showInterim(m); showNumbers(m); },
  final: (m) => { showFinal(m); showNumbers(m); },
  error: (m) => showError(m.error.message),
  closed: () => { $("interim").textContent = ""; },
  gone: (event, opened) => {
    $("status").textContent = "Not connected";
    if (!opened) showError("The server refused the connection: is an API key needed, or are all connections in use?");
    else if (event.code !== 1000 && $("error").hidden) showError(`The connection was lost (${event.code} ${event.reason}).`);
  },
};

async function open(sampleRate) {
  showError("");
  $("hint").hidden = true;
  const stream = new Stream(sampleRate, handlers);
  await stream.ready.catch(() => {}); // `gone` tells why
  return stream;
}

// --- level meter ------------------------------------------------------------------------------------------------------

const levels = [];

function drawLevel(samples) {
  let sum = 0;
  for (const s of samples) sum += s * s;
  const db = 20 * Math.log10(Math.sqrt(sum / samples.length) / 32768 + 1e-6);
  levels.push(Math.max(0, Math.min(1, (db + 60) / 55)));
  const canvas = $("meter"), context = canvas.getContext("2d"), bar = 4;
  while (levels.length > canvas.width / bar) levels.shift();
  context.clearRect(0, 0, canvas.width, canvas.height);
  levels.forEach((level, i) => {
    const height = Math.max(2, level * canvas.height);
    context.fillStyle = level > 0.97 ? "#dc2626" : "#c2410c";
    context.fillRect(i * bar, (canvas.height - height) / 2, bar - 1, height);
  });
}

// --- microphone -------------------------------------------------------------------------------------------------------

let recording = null;

async function startRecording() {
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
  const audio = new AudioContext();
  await audio.audioWorklet.addModule("/page/worklet.js");
  const stream = await open(Math.round(audio.sampleRate));
  const node = new AudioWorkletNode(audio, "recorder");
  node.port.onmessage = ({ data }) => { drawLevel(data); stream.send(data); };
  audio.createMediaStreamSource(media).connect(node);
  recording = { media, audio, stream };
  stream.done.then(stopRecording);
  $("record").setAttribute("aria-pressed", "true");
  $("record-label").textContent = "Stop";
}

async function stopRecording() {
  if (!recording) return;
  const { media, audio, stream } = recording;
  recording = null;
  $("record").setAttribute("aria-pressed", "false");
  $("record-label").textContent = "Start microphone";
  media.getTracks().forEach((track) => track.stop());
  await audio.close();
  await stream.close();
}

$("record").onclick = async () => {
  $("record").disabled = true;
  try {
    await (recording ? stopRecording() : startRecording());
  } catch (error) {
    showError(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : `No microphone: ${error.message}`);
  }
  $("record").disabled = false;
};

// --- files ------------------------------------------------------------------------------------------------------------

async function sendFile(file) {
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    showError(`${file.name} is not audio that this browser can decode.`);
    return;
  }
  const offline = new OfflineAudioContext(1, Math.max(1, decoded.length), RATE);
  const source = offline.createBufferSource();
  source.buffer = decoded;
  source.connect(offline.destination);
  source.start();
  const samples = (await offline.startRendering()).getChannelData(0);
  const stream = await open(RATE);
  for (let i = 0; i < samples.length; i += RATE / 10) {
    const chunk = Int16Array.from(samples.subarray(i, i + RATE / 10), (s) => Math.max(-1, Math.min(1, s)) * 32767);
    if (i % RATE === 0) drawLevel(chunk);
    await stream.send(chunk);
  }
  await stream.close();
}

$("file").onchange = ({ target }) => target.files[0] && sendFile(target.files[0]);
const drop = $("drop");
drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
drop.ondragleave = () => drop.classList.remove("over");
drop.ondrop = (event) => { event.preventDefault(); drop.classList.remove("over"); if (event.dataTransfer.files[0]) sendFile(event.dataTransfer.files[0]); };
