// openai's Realtime transcription in Node, as an application uses it. Prints what happened as JSON.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { OpenAIRealtimeWS as OpenAIBetaRealtimeWS } from "openai/beta/realtime/ws";

const task = JSON.parse(process.argv[2]);
const client = new OpenAI({ apiKey: task.key, baseURL: `https://${task.host}/v1` });
const COMPLETED = "conversation.item.input_audio_transcription.completed";
const vad = { type: "server_vad", threshold: 0.5, prefix_padding_ms: 300, silence_duration_ms: 500 };
const transcription = { model: "gpt-4o-transcribe", language: "en" };
const session = (turn_detection) => ({
  type: "transcription", audio: { input: { format: { type: "audio/pcm", rate: 24000 }, transcription, turn_detection } },
});

function listen(realtime) {
  const heard = { events: [], errors: [], closes: [] };
  realtime.on("event", (event) => heard.events.push(event));
  realtime.on("error", (error) => heard.errors.push(error.error ?? error.message));
  realtime.socket.on("close", (code) => heard.closes.push(code));
  return heard;
}

async function until(condition, ms = 60000) {
  for (const end = Date.now() + ms; Date.now() < end && !condition(); ) await sleep(20);
  return condition();
}

const saw = (heard, type, n = 1) => heard.events.filter((event) => event.type === type).length >= n;

async function stream(realtime) {
  const audio = readFileSync(task.audio);
  for (let i = 0; i < audio.length; i += 4800) {
    realtime.send({ type: "input_audio_buffer.append", audio: audio.subarray(i, i + 4800).toString("base64") });
    await sleep(20);
  }
}

async function live() {
  const realtime = new OpenAIRealtimeWS({ intent: "transcription" }, client);
  const heard = listen(realtime);
  realtime.socket.on("open", () => realtime.send({ type: "session.update", session: session(vad) }));
  await until(() => saw(heard, "session.updated"));
  await stream(realtime);
  await until(() => saw(heard, COMPLETED, 2));
  realtime.close();
  await until(() => heard.closes.length);
  return heard;
}

async function manual() {
  const realtime = new OpenAIRealtimeWS({ model: "whisper-1" }, client);
  const heard = listen(realtime);
  await until(() => saw(heard, "session.created"));
  realtime.send({ type: "session.update", session: session(null) });
  await stream(realtime);
  realtime.send({ type: "input_audio_buffer.clear" });
  await stream(realtime);
  realtime.send({ type: "input_audio_buffer.commit" });
  await until(() => saw(heard, COMPLETED));
  realtime.send({ type: "input_audio_buffer.commit", event_id: "empty" });
  realtime.send({ type: "response.create", event_id: "answer" });
  await until(() => heard.errors.length === 2);
  realtime.close();
  return heard;
}

async function beta() {
  const realtime = new OpenAIBetaRealtimeWS({ model: "gpt-4o-realtime-preview" }, client);
  const heard = listen(realtime);
  await until(() => saw(heard, "session.created"));
  const flat = { input_audio_format: "pcm16", input_audio_transcription: transcription, turn_detection: vad };
  realtime.send({ type: "transcription_session.update", session: flat });
  await stream(realtime);
  await until(() => saw(heard, COMPLETED, 2));
  realtime.close();
  return heard;
}

async function wrong_key() {
  const heard = listen(new OpenAIRealtimeWS({ intent: "transcription" }, client));
  await until(() => heard.errors.length);
  return heard;
}

// The server ends the session after its time; the client connects again by itself.
async function reconnect() {
  const realtime = new OpenAIRealtimeWS({ model: "gpt-4o-transcribe", reconnect: true }, client);
  const heard = listen(realtime);
  let again = false;
  realtime.on("reconnected", () => (again = true));
  await until(() => again && saw(heard, "session.created", 2));
  const first = heard.events.length;
  realtime.send({ type: "session.update", session: session(vad) });
  realtime.flushPending();
  await until(() => heard.events.slice(first).some((event) => event.type === "session.updated"));
  await stream(realtime);
  await until(() => saw(heard, COMPLETED, 2));
  realtime.close();
  return { ...heard, events: heard.events.slice(first - 1) };
}

const done = await { live, manual, beta, wrong_key, reconnect }[task.do]();
process.stdout.write(JSON.stringify(done), () => process.exit(0));
